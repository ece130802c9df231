/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Counters of each processor and receive queue in one array. */
#include <oko.h>

struct slot {
	__u64 packets[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

SEC("filter")
int cpu_slots(struct xdp_md *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id(), queue = ctx->rx_queue_index;
	struct slot *slot = bpf_map_lookup_elem(&slots, &cpu);

	if (!slot || queue >= 8)
		return 0;
	slot->packets[queue]++;
	return slot->packets[queue] % 2;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
