/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A byte of the payload at a place that another byte gives, bounded by a mask. */
#include <oko.h>

SEC("filter")
int masked_byte(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 64 > end)
		return 0;
	return data[data[14] & 0x3f] == 0x7f && data[(data[15] & 7) * 4 + 20] < data[data[16] >> 4];
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
