/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The result of a lookup is used without a check. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct locked {
	struct bpf_spin_lock lock;
	__u32 count[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct locked);
} counters SEC(".maps");

SEC("filter")
int unchecked_lookup(struct xdp_md *ctx)
{
	__u32 key = 1;
	struct locked *counter = bpf_map_lookup_elem(&counters, &key);

#ifdef MENDED
	if (!counter)
		return 0;
#endif
	counter->count[0]++; /* fault: maybe-null */
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
