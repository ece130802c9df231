/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* As many rules as there are IPv4 prefixes, the longest wins: one trie, whose elements say where to, and count. */
#include "by_hand.h"

struct prefix {
	__u32 length;
	__be32 address;
};

struct rule {
	__u32 port;
	__u32 counter;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct prefix);
	__type(value, struct rule);
} rules SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1 << 20);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

SEC("xdp")
int prefixes_by_hand(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct prefix prefix = {.length = 32};
	struct rule *rule = NULL;
	struct iphdr *ip;
	__be16 eth_type;

	if (!oko_parse_ethernet(&cursor, &eth_type) || eth_type != bpf_htons(ETH_P_IP))
		return drop(ctx);
	ip = oko_parse_ipv4(&cursor);
	if (ip) {
		prefix.address = ip->daddr;
		rule = bpf_map_lookup_elem(&rules, &prefix);
	}
	if (!rule)
		return drop(ctx);
	count(&counters, rule->counter, ctx);
	return bpf_redirect_map(&target, rule->port, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
