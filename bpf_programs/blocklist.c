/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A list of prefixes of IPv4 and IPv6 addresses; packets may be behind VLAN tags.
 *
 * A packet matches if its source is in one of the prefixes, or its destination if the configuration says so. Nothing
 * else matches: not a packet that is no IP packet, or whose IP header is malformed. */
#include <oko.h>

enum side {
	SOURCE,
	DESTINATION,
};

struct blocklist_settings {
	enum side side;
	_Bool counts; /* whether packets and bytes of each prefix are counted */
	__u8 pad[3];
};

OKO_CONFIG struct blocklist_settings config = {.side = SOURCE, .counts = 1};

/* What matched because of a prefix, and of no longer one. */
struct hits {
	__u64 packets;
	__u64 bytes; /* of frames, from the Ethernet header on, without FCS */
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct oko_prefix);
	__type(value, struct hits);
} prefixes SEC(".maps") OKO_KEY(prefix) OKO_VALUE(report);

/* Return whether the packet has an address to look up. */
static __always_inline int parse(struct xdp_md *ctx, oko_ip *addr)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	int is_source = config.side == SOURCE;
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;
	__be16 eth_type;

	if (!oko_parse_ethernet(&cursor, &eth_type))
		return 0;
	if (eth_type == bpf_htons(ETH_P_IP)) {
		ipv4 = oko_parse_ipv4(&cursor);
		if (!ipv4)
			return 0;
		*addr = oko_ip_of_ipv4(is_source ? ipv4->saddr : ipv4->daddr);
		return 1;
	}
	if (eth_type != bpf_htons(ETH_P_IPV6))
		return 0;
	ipv6 = oko_parse_ipv6(&cursor);
	if (!ipv6)
		return 0;
	*addr = oko_ip_of_ipv6(is_source ? &ipv6->saddr : &ipv6->daddr);
	return 1;
}

SEC("filter")
int blocklist(struct xdp_md *ctx)
{
	struct oko_prefix key = {.length = 128};
	struct hits *hits;

	if (!parse(ctx, &key.addr))
		return OKO_NO_MATCH;
	hits = bpf_map_lookup_elem(&prefixes, &key);
	if (!hits)
		return OKO_NO_MATCH;
	if (config.counts) {
		__sync_fetch_and_add(&hits->packets, 1);
		__sync_fetch_and_add(&hits->bytes, ctx->data_end - ctx->data);
	}
	return OKO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
