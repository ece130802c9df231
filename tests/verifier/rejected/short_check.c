/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The check covers the Ethernet header, the access the byte behind it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("filter")
int short_check(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

#ifdef MENDED
	if (data + 15 > end)
		return 0;
#else
	if (data + 14 > end)
		return 0;
#endif
	return data[14] == 0x45; /* fault: packet-bounds */
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
