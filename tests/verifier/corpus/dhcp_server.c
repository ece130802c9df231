/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Offers of DHCP: the message type among the first six options. */
#include <oko.h>

SEC("filter")
int dhcp_server(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	__u8 *data = (void *)(long)ctx->data;
	__u8 *options = data + 14 + 20 + 8 + 240;

	if ((void *)options > end || data[14] != 0x45 || data[23] != IPPROTO_UDP)
		return 0;
	if (data[34] != 0 || data[35] != 67 || data[37] != 68)
		return 0;
	if (*(__be32 *)(options - 4) != bpf_htonl(0x63825363))
		return 0;
#pragma unroll
	for (int i = 0; i < 6; i++) {
		if ((void *)(options + 3) > end || options[0] == 255)
			return 0;
		if (options[0] == 53)
			return options[2] == 2 || options[2] == 5;
		options += options[0] ? options[1] + 2 : 1;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
