/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Sends every frame that a live test run makes into one interface, and counts those that it hands over. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} frames SEC(".maps");

SEC("xdp")
int generator(struct xdp_md *ctx)
{
	__u32 index = 0;
	__u64 *count = bpf_map_lookup_elem(&frames, &index);

	(void)ctx;
	if (count)
		++*count;
	return bpf_redirect_map(&target, 0, XDP_ABORTED);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
