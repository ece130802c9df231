/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Matches all but every third packet of an IPv4 source, and counts the packets of each. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, oko_ipv4);
	__type(value, __u64);
} sources SEC(".maps");

/* A function of its own, so that the image gets a static one beside the global one. */
static __attribute__((noinline)) __u64 packets_of(oko_ipv4 source)
{
	__u64 *count = bpf_map_lookup_elem(&sources, &source);
	__u64 first = 1;

	if (count)
		return ++*count;
	bpf_map_update_elem(&sources, &source, &first, BPF_ANY);
	return first;
}

SEC("filter")
int per_source(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *ip;
	__be16 eth_type;

	if (!oko_parse_ethernet(&cursor, &eth_type) || eth_type != bpf_htons(ETH_P_IP))
		return OKO_NO_MATCH;
	ip = oko_parse_ipv4(&cursor);
	return ip && packets_of(ip->saddr) % 3;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
