/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter that says what one bit of the last byte of a frame's source address says. */
#include <oko.h>

SEC("filter")
int bit(struct xdp_md *ctx)
{
	__u8 *data = (__u8 *)(long)ctx->data, *end = (__u8 *)(long)ctx->data_end;

	if (data + 12 > end)
		return OKO_NO_MATCH;
	return data[11] >> BIT & 1 ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
