/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Many more SYNs than FINs for a destination. */
#include <oko.h>

struct ratio {
	__u32 syns;
	__u32 fins;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, oko_ipv4);
	__type(value, struct ratio);
} ratios SEC(".maps");

SEC("filter")
int syn_ratio(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct ratio *ratio, none = {};
	struct tcphdr *tcp;
	struct iphdr *ip;
	oko_ipv4 address;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP)
		return 0;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp)
		return 0;
	address = ip->daddr;
	ratio = bpf_map_lookup_elem(&ratios, &address);
	if (!ratio) {
		bpf_map_update_elem(&ratios, &address, &none, BPF_ANY);
		ratio = bpf_map_lookup_elem(&ratios, &address);
		if (!ratio)
			return 0;
	}
	ratio->syns += tcp->syn;
	ratio->fins += tcp->fin || tcp->rst;
	return ratio->syns > 100 && ratio->syns / 3 > ratio->fins;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
