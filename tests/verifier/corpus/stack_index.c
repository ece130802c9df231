/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* An array on the stack, indexed by a number that a mask bounds. */
#include <oko.h>

SEC("filter")
int stack_index(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	volatile __u32 limits[8] = {64, 128, 256, 512, 1024, 1280, 1400, 1500};

	if (data + 34 > end)
		return 0;
	return (__u32)(end - data) > limits[data[15] >> 5 & 7];
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
