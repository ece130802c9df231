/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Overlapping fragments: offset and more-fragments with little data. */
#include <oko.h>

struct fragment {
	__be32 source;
	__be32 destination;
	__be16 id;
	__be16 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, struct fragment);
	__type(value, __u16);
} reached SEC(".maps");

SEC("filter")
int fragments(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct fragment key = {};
	struct iphdr *ip;
	__u16 from, to, *before;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || !(ip->frag_off & bpf_htons(0x3fff)))
		return 0;
	from = (bpf_ntohs(ip->frag_off) & 0x1fff) * 8;
	to = from + (bpf_ntohs(ip->tot_len) - ip->ihl * 4);
	if (to < from)
		return 1;
	key.source = ip->saddr;
	key.destination = ip->daddr;
	key.id = ip->id;
	before = bpf_map_lookup_elem(&reached, &key);
	if (before && from < *before)
		return 1;
	bpf_map_update_elem(&reached, &key, &to, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
