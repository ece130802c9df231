/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Sequence numbers that go backwards, compared as signed. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} highest SEC(".maps");

SEC("filter")
int signed_difference(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__u32 sequence, *known;
	struct tcphdr *tcp;
	struct iphdr *ip;
	__s32 ahead;
	__be16 type;
	__u64 key;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP || !(tcp = oko_parse_tcp(&cursor)))
		return 0;
	sequence = bpf_ntohl(tcp->seq);
	key = (__u64)ip->saddr << 32 ^ ip->daddr ^ (__u64)tcp->source << 16;
	known = bpf_map_lookup_elem(&highest, &key);
	if (!known) {
		bpf_map_update_elem(&highest, &key, &sequence, BPF_ANY);
		return 0;
	}
	ahead = (__s32)(sequence - *known);
	if (ahead > 0)
		*known = sequence;
	return ahead < -65536;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
