/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Matches every second packet that it is asked about, and counts them all. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} asked SEC(".maps");

SEC("filter")
int every_second(struct xdp_md *ctx)
{
	__u32 index = 0;
	__u64 *count = bpf_map_lookup_elem(&asked, &index);

	(void)ctx;
	return count && ++*count % 2;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
