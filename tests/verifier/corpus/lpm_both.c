/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Prefixes of either family in one trie, keyed by 16 bytes. */
#include <oko.h>

struct prefix {
	__u32 length;
	__u8 address[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} zones SEC(".maps");

SEC("filter")
int lpm_both(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct prefix prefix = {};
	__be16 type;
	__u32 *zone;

	if (!oko_parse_ethernet(&cursor, &type))
		return 0;
	if (type == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = oko_parse_ipv4(&cursor);

		if (!ip)
			return 0;
		prefix.length = 128;
		prefix.address[10] = 0xff;
		prefix.address[11] = 0xff;
		__builtin_memcpy(prefix.address + 12, &ip->daddr, 4);
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = oko_parse_ipv6(&cursor);

		if (!ip)
			return 0;
		prefix.length = 128;
		__builtin_memcpy(prefix.address, &ip->daddr, 16);
	} else {
		return 0;
	}
	zone = bpf_map_lookup_elem(&zones, &prefix);
	return zone && *zone == 7;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
