/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What programs with a rule for each of many IPv4 destinations have in common: what a rule is, its counters, and where
 * the destination is in a packet. Only the map `rules` is their own. */
#ifndef DESTINATIONS_H
#define DESTINATIONS_H

#include "by_hand.h"

#define MOST_RULES (1 << 20)

struct rule {
	__u32 port;
	__u32 counter;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MOST_RULES);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

/* The header of an IPv4 packet, NULL of any other. */
static __always_inline struct iphdr *ipv4_of(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__be16 eth_type;

	if (!oko_parse_ethernet(&cursor, &eth_type) || eth_type != bpf_htons(ETH_P_IP))
		return NULL;
	return oko_parse_ipv4(&cursor);
}

/* Do what a rule says; drop what has none. */
static __always_inline int obey(const struct rule *rule, const struct xdp_md *ctx)
{
	if (!rule)
		return drop(ctx);
	count(&counters, rule->counter, ctx);
	return bpf_redirect_map(&target, rule->port, XDP_DROP);
}

#endif
