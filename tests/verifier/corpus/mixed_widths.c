/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Products, quotients and remainders in 32 and 64 bits. */
#include <oko.h>

__u64 total_bytes;
__u32 total_packets;

SEC("filter")
int mixed_widths(struct xdp_md *ctx)
{
	__u64 length = ctx->data_end - ctx->data;
	__u32 packets = ++total_packets, share;
	__u64 mean;

	total_bytes += length;
	mean = total_bytes / (packets ? packets : 1);
	share = (__u32)(length * 100 / (mean + 1));
	if (share % 7 == 3)
		return (__u16)(share * 31) > 400;
	return share > 250 && (length ^ mean) % 5 != 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
