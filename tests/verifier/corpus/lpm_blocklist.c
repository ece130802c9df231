/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Sources in prefixes of IPv4. */
#include <oko.h>

struct prefix {
	__u32 length;
	oko_ipv4 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u64);
} blocked SEC(".maps");

SEC("filter")
int lpm_blocklist(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct prefix prefix;
	struct iphdr *ip;
	__u64 *hits;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return 0;
	prefix.length = 32;
	prefix.address = ip->saddr;
	hits = bpf_map_lookup_elem(&blocked, &prefix);
	if (!hits)
		return 0;
	__sync_fetch_and_add(hits, 1);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
