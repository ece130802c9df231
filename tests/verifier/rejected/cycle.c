/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("filter")
int cycle(struct xdp_md *ctx)
{
	volatile __u32 sum = 0;

	for (__u32 i = 0; i < ctx->rx_queue_index; i++)
		sum += i;
	return sum;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
