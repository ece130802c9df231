/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A helper is called while a spin lock is held. */
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
int lock_with_call(struct xdp_md *ctx)
{
	__u32 key = 1;
	struct locked *counter = bpf_map_lookup_elem(&counters, &key);
	__u64 now = 0;

	if (!counter)
		return 0;
#ifdef MENDED
	now = bpf_ktime_get_ns();
#endif
	bpf_spin_lock(&counter->lock);
#ifndef MENDED
	now = bpf_ktime_get_ns(); /* fault: lock */
#endif
	counter->count[0] = now;
	bpf_spin_unlock(&counter->lock);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
