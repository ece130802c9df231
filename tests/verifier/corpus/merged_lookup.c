/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* One pointer from either of two maps, checked once. */
#include <oko.h>

struct limit {
	__u64 packets;
	__u64 maximum;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct limit);
} special SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct limit);
} common SEC(".maps");

SEC("filter")
int merged_lookup(struct xdp_md *ctx)
{
	__u32 port = ctx->ingress_ifindex, zero = 0;
	struct limit *limit = bpf_map_lookup_elem(&special, &port);

	if (!limit)
		limit = bpf_map_lookup_elem(&common, &zero);
	if (!limit)
		return 0;
	limit->packets++;
	return limit->packets > limit->maximum;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
