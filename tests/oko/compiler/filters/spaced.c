/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Matches when 100 ns have passed since the last match, on each processor apart; returns a number other than 1. */
#include <oko.h>

#define GAP 100 /* ns */

struct clock {
	__u64 matched;
	__u32 processor;
	__u32 asked;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct clock);
} clocks SEC(".maps");

SEC("filter")
int spaced(struct xdp_md *ctx)
{
	__u32 index = 0;
	struct clock *clock = bpf_map_lookup_elem(&clocks, &index);
	__u64 now = oko_now();

	(void)ctx;
	if (!clock)
		return OKO_NO_MATCH;
	clock->asked++;
	clock->processor = bpf_get_smp_processor_id();
	if (now - clock->matched < GAP)
		return OKO_NO_MATCH;
	clock->matched = now;
	return 2;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
