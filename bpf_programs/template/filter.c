/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* NAME matches TCP segments to one port, over IPv4, and counts them by their source.
 *
 * Change what it says below, and the packets in NAME.toml, until both are yours. */
#include <oko.h>

/* What operators set while the program runs: oko map update BRIDGE ID config 0 '{"config": {"port": 443}}' */
struct settings {
	__u16 port; /* host order */
};

OKO_CONFIG struct settings config = {.port = 80};

/* What the program remembers: oko map dump BRIDGE ID sources */
struct source {
	__u64 packets;
	oko_time last_seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, oko_ip);
	__type(value, struct source);
} sources SEC(".maps") OKO_KEY(address) OKO_VALUE(flow_state);

static __always_inline void count(const oko_ip *addr)
{
	struct source first = {.packets = 1, .last_seen = oko_now()};
	struct source *source = bpf_map_lookup_elem(&sources, addr);

	if (!source) {
		bpf_map_update_elem(&sources, addr, &first, BPF_ANY);
		return;
	}
	__sync_fetch_and_add(&source->packets, 1);
	source->last_seen = first.last_seen;
}

SEC("filter")
int NAME(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct tcphdr *tcp;
	struct iphdr *ip;
	__be16 eth_type;
	oko_ip addr;

	if (!oko_parse_ethernet(&cursor, &eth_type) || eth_type != bpf_htons(ETH_P_IP))
		return OKO_NO_MATCH;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP || oko_is_later_fragment(ip))
		return OKO_NO_MATCH;
	addr = oko_ip_of_ipv4(ip->saddr);
	tcp = oko_parse_tcp(&cursor);
	if (!tcp || tcp->dest != bpf_htons(config.port))
		return OKO_NO_MATCH;
	count(&addr);
	return OKO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
