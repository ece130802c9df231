/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("filter")
int forbidden_helper(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, 4);
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
