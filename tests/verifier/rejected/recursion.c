/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static __attribute__((noinline)) int odd(int x);

static __attribute__((noinline)) int even(int x)
{
	volatile int rest = x;

	return rest ? odd(rest - 1) + rest : 1;
}

static __attribute__((noinline)) int odd(int x)
{
	volatile int rest = x;

	return rest ? even(rest - 1) + rest : 0;
}

SEC("filter")
int recursion(struct xdp_md *ctx)
{
	return even(ctx->rx_queue_index);
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
