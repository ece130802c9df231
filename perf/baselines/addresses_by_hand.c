/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* As many rules as there are IPv4 destinations: one hash, whose elements say where to, and count. */
#include "destinations.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MOST_RULES);
	__type(key, __be32);
	__type(value, struct rule);
} rules SEC(".maps");

SEC("xdp")
int addresses_by_hand(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4_of(ctx);

	return obey(ip ? bpf_map_lookup_elem(&rules, &ip->daddr) : NULL, ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
