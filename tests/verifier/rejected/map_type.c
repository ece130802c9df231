/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

SEC("filter")
int map_type(struct xdp_md *ctx)
{
	return 1;
}

char LICENSE[] __attribute__((section("license"))) = "Dual BSD/GPL";
