/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* An array on the stack, filled and summed by unrolled loops. */
#include <oko.h>

SEC("filter")
int stack_array(struct xdp_md *ctx)
{
	__u16 *words = (void *)(long)ctx->data + 14, *end = (void *)(long)ctx->data_end;
	__u32 counts[4] = {};
	__u32 largest = 0;

	if (words + 16 > end)
		return 0;
#pragma unroll
	for (int i = 0; i < 16; i++)
		counts[i % 4] += words[i] >> (i & 3);
#pragma unroll
	for (int i = 0; i < 4; i++)
		if (counts[i] > largest)
			largest = counts[i];
	return largest > 100000;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
