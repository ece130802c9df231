/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Sources of both families in two hash maps. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10000);
	__type(key, oko_ipv4);
	__type(value, __u64);
} sources4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10000);
	__type(key, struct in6_addr);
	__type(value, __u64);
} sources6 SEC(".maps");

SEC("filter")
int address_sets(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__u64 *hits = NULL;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type))
		return 0;
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = oko_parse_ipv4(&cursor);

		if (ip) {
			oko_ipv4 source = ip->saddr;

			hits = bpf_map_lookup_elem(&sources4, &source);
		}
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = oko_parse_ipv6(&cursor);

		if (ip) {
			struct in6_addr source = ip->saddr;

			hits = bpf_map_lookup_elem(&sources6, &source);
		}
	}
	if (!hits)
		return 0;
	*hits += 1;
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
