/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* As many rules as there are IPv4 prefixes, the longest wins: one trie, whose elements say where to, and count. */
#include "destinations.h"

struct prefix {
	__u32 length;
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MOST_RULES);
	__type(key, struct prefix);
	__type(value, struct rule);
} rules SEC(".maps");

SEC("xdp")
int prefixes_by_hand(struct xdp_md *ctx)
{
	struct prefix prefix = {.length = 32};
	struct iphdr *ip = ipv4_of(ctx);

	if (!ip)
		return drop(ctx);
	prefix.address = ip->daddr;
	return obey(bpf_map_lookup_elem(&rules, &prefix), ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
