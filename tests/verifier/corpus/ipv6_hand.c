/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A TCP or UDP port over IPv6, with offsets from data. */
#include <oko.h>

SEC("filter")
int ipv6_hand(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u16 port;

	if (data + 14 + 40 + 4 > end)
		return 0;
	if (data[12] != 0x86 || data[13] != 0xdd || data[14] >> 4 != 6)
		return 0;
	if (data[20] != IPPROTO_TCP && data[20] != IPPROTO_UDP)
		return 0;
	port = data[56] << 8 | data[57];
	return port >= 6000 && port <= 6063;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
