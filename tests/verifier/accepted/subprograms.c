/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Static and global functions, called from each other and from more than one place; one is never called. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static __attribute__((noinline)) __u64 square(__u32 x)
{
	return (__u64)x * x;
}

__attribute__((noinline)) int never_called(int x)
{
	return square(x) + 1;
}

__attribute__((noinline)) int sum_of_squares(int x, int y)
{
	volatile __u64 kept = square(x);

	return kept + square(y);
}

SEC("filter")
int subprograms(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data;

	return sum_of_squares(length, 3) - square(length);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
