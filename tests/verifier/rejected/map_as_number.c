/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 number SEC(".maps");

SEC("filter")
int map_as_number(struct xdp_md *ctx)
{
	return 1;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
