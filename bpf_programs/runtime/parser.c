/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The parser of the pipeline: packet → lookup key. It uses neither maps nor read-only data. oko/flow/headers.py has
 * the same rules in Python, and says whose they are.
 *
 * What repeats (extension headers, options) is a static function that is called a fixed number of times. It keeps what
 * changes in memory where the kernel's verifier does not follow values, so that each call is verified in one state and
 * not in one for each way that leads to it. */
#include <stddef.h>

#include <oko.h>

#include "packet.h"

enum {
	ETH_TYPE_ARP = bpf_htons(0x0806),
	ETH_TYPE_RARP = bpf_htons(0x8035),
	ETH_TYPE_MPLS = bpf_htons(0x8847),
	ETH_TYPE_MPLS_MULTICAST = bpf_htons(0x8848),
	VLAN_PRESENT = bpf_htons(0x1000),

	IPV4_OFFSET = bpf_htons(0x1fff),
	IPV4_MORE_FRAGMENTS = bpf_htons(0x2000),
	IPV6_OFFSET = bpf_htons(0xfff8),
	FRAGMENT_FIRST = 1,
	FRAGMENT_LATER = 3,

	TCP_FLAGS = bpf_htons(0x0fff),
	TCP_FLAGS_AT = 12,
	SCTP_HEADER = 12,
	ND_SOLICIT = 135,
	ND_ADVERTISE = 136,
	ND_SOURCE_ADDRESS = 1,
	ND_TARGET_ADDRESS = 2,
	ND_OPTION_UNIT = 8,
	MAX_ND_OPTIONS = 8,
};

/* The headers between IPv6 and the transport layer. */
enum {
	HOP_BY_HOP = 0,
	ROUTING = 43,
	FRAGMENT = 44,
	ESP = 50,
	AUTHENTICATION = 51,
	NO_NEXT_HEADER = 59,
	DESTINATION = 60,
	LEAST_EXTENSION = 8, /* bytes */
	MAX_EXTENSIONS = 8,
};

/* Their places in the preferred order (RFC 8200, 4.1). */
enum {
	PLACE_HOP_BY_HOP = 1 << 0,
	PLACE_DESTINATION = 1 << 1,
	PLACE_ROUTING = 1 << 2,
	PLACE_FRAGMENT = 1 << 3,
	PLACE_AUTHENTICATION = 1 << 4,
	PLACE_ESP = 1 << 5,
	PLACE_LAST_DESTINATION = 1 << 6,
	PLACE_NO_NEXT_HEADER = 1 << 7,
};

/* The bits of ipv6_exthdr (OpenFlow 1.3.5, 7.2.3.8: OFPIEH_*). */
enum {
	HAS_NO_NEXT_HEADER = 1 << 0,
	HAS_ESP = 1 << 1,
	HAS_AUTHENTICATION = 1 << 2,
	HAS_DESTINATION = 1 << 3,
	HAS_FRAGMENT = 1 << 4,
	HAS_ROUTING = 1 << 5,
	HAS_HOP_BY_HOP = 1 << 6,
	IS_REPEATED = 1 << 7,
	IS_OUT_OF_ORDER = 1 << 8,
};

/* An ARP packet that is about Ethernet and IPv4 (RFC 826). */
struct arp {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_hardware[ETH_ALEN];
	__u8 sender_protocol[4];
	__u8 target_hardware[ETH_ALEN];
	__u8 target_protocol[4];
};

/* How far the walk over extension headers or options has come. The verifier follows what is stored at multiples of 8:
 * `offset` and the members behind it, which change, must not be there. */
struct walk {
	struct oko_key *key;
	__u32 end;    /* of the packet, in bytes from the start of the frame */
	__u16 offset; /* of the header in hand, likewise */
	__u8 proto;   /* what the header in hand is */
	__u8 places;  /* that the headers before it took */
};

enum step {
	STEP_ON,
	STEP_END,
	STEP_INVALID,
};

/* Headers lie at any even offset. To say otherwise makes for whole words; the kernel minds only on machines that cannot
 * load a word from just anywhere. */
static __always_inline void copy(void *to, const void *from, __u64 size)
{
	__builtin_memcpy(to, __builtin_assume_aligned(from, 8), size);
}

/* `to` is one in the key: at a multiple of 8, or at least of 4. */
static __always_inline void copy_ethernet_address(__u8 *to, const void *from)
{
	copy(to, from, 4);
	copy(to + 4, from + 4, 2);
}

/* All but in_port and metadata becomes zero. */
static __always_inline void clear(struct oko_key *key)
{
	__builtin_memset(&key->eth_type, 0, offsetof(struct oko_key, ipv4_src) - offsetof(struct oko_key, eth_type));
	__builtin_memset(&key->ipv4_src, 0, offsetof(struct oko_key, metadata) - offsetof(struct oko_key, ipv4_src));
	__builtin_memset(key->ipv6_src, 0, sizeof(*key) - offsetof(struct oko_key, ipv6_src));
}

/* Where the walk is. The verifier takes no offset near 64 KiB for good; XDP's first buffer, a page, ends long before.
 */
static __always_inline void *position(struct xdp_md *ctx, const struct walk *walk)
{
	return (void *)(long)ctx->data + (walk->offset & 0x7fff);
}

static __always_inline int offset_in_frame(struct xdp_md *ctx, const struct oko_cursor *cursor)
{
	return cursor->pos - (void *)(long)ctx->data;
}

/* Addresses, eth_type and the outermost tag, when at most `vlan_limit` tags (1 or 2) are read. Return 1 for a runt. */
static __always_inline int parse_link(struct oko_cursor *cursor, struct oko_key *key, const int vlan_limit)
{
	struct ethhdr *eth = oko_parse_bytes(cursor, sizeof(*eth));
	struct oko_vlan *vlan;
	__be16 eth_type;

	if (!eth)
		return 1;
	copy_ethernet_address(key->eth_dst, eth->h_dest);
	copy_ethernet_address(key->eth_src, eth->h_source);
	eth_type = eth->h_proto;
	vlan = oko_parse_vlan(cursor, &eth_type);
	if (vlan) {
		key->vlan_tci = vlan->tci | VLAN_PRESENT;
		if (vlan_limit > 1)
			oko_parse_vlan(cursor, &eth_type);
	}
	if (bpf_ntohs(eth_type) < ETH_P_802_3_MIN && !oko_parse_snap(cursor, &eth_type))
		eth_type = bpf_htons(OKO_ETH_TYPE_802_2);
	key->eth_type = eth_type;
	return 0;
}

static __always_inline void parse_mpls(struct oko_cursor *cursor, struct oko_key *key)
{
	__be32 *entry = oko_parse_bytes(cursor, sizeof(*entry));

	if (entry)
		key->mpls_lse = *entry & bpf_htonl(0xffffff00);
}

static __always_inline void parse_arp(struct oko_cursor *cursor, struct oko_key *key)
{
	struct arp *arp = oko_parse_bytes(cursor, sizeof(*arp));

	if (!arp || arp->hardware_type != bpf_htons(1) || arp->protocol_type != bpf_htons(ETH_P_IP) ||
	    arp->hardware_length != ETH_ALEN || arp->protocol_length != 4)
		return;
	if (bpf_ntohs(arp->operation) <= 0xff)
		key->arp_op = arp->operation;
	copy_ethernet_address(key->arp_sha, arp->sender_hardware);
	copy(&key->ipv4_src, arp->sender_protocol, 4);
	copy_ethernet_address(key->arp_tha, arp->target_hardware);
	copy(&key->ipv4_dst, arp->target_protocol, 4);
}

/* Return whether a transport header is next. */
static __always_inline int parse_ipv4(struct oko_cursor *cursor, struct oko_key *key)
{
	struct iphdr *ip = oko_parse_ipv4(cursor);

	if (!ip)
		return 0;
	key->ip_proto = ip->protocol;
	key->ip_tos = ip->tos;
	key->ipv4_src = ip->saddr;
	key->ipv4_dst = ip->daddr;
	if (ip->frag_off & (IPV4_OFFSET | IPV4_MORE_FRAGMENTS)) {
		key->ip_frag = oko_is_later_fragment(ip) ? FRAGMENT_LATER : FRAGMENT_FIRST;
		return 0;
	}
	return 1;
}

/* Put the header in hand in its place of the preferred order: the second destination options, or the first behind
 * another header than the hop-by-hop options, are those of the final destination. */
static __always_inline void note_extension(struct walk *walk)
{
	__u32 places = walk->places, place, bits;

	if (walk->proto == HOP_BY_HOP) {
		place = PLACE_HOP_BY_HOP;
		bits = places ? 0 : HAS_HOP_BY_HOP;
	} else if (walk->proto == DESTINATION) {
		place = places > PLACE_HOP_BY_HOP ? PLACE_LAST_DESTINATION : PLACE_DESTINATION;
		bits = HAS_DESTINATION;
	} else if (walk->proto == ROUTING) {
		place = PLACE_ROUTING;
		bits = HAS_ROUTING;
	} else if (walk->proto == FRAGMENT) {
		place = PLACE_FRAGMENT;
		bits = HAS_FRAGMENT;
	} else if (walk->proto == AUTHENTICATION) {
		place = PLACE_AUTHENTICATION;
		bits = HAS_AUTHENTICATION;
	} else if (walk->proto == ESP) {
		place = PLACE_ESP;
		bits = HAS_ESP;
	} else if (walk->proto == NO_NEXT_HEADER) {
		place = PLACE_NO_NEXT_HEADER;
		bits = HAS_NO_NEXT_HEADER;
	} else {
		return;
	}
	if (places & place)
		bits |= IS_REPEATED;
	if (places >= 2 * place)
		bits |= IS_OUT_OF_ORDER;
	walk->places = places | place;
	walk->key->ipv6_exthdr |= bpf_htons(bits);
}

/* Go behind the header in hand, if it is one to walk over. */
static __noinline int parse_extension(struct xdp_md *ctx, struct walk *walk)
{
	__u8 *header = position(ctx, walk);
	void *end = (void *)(long)ctx->data_end;
	__u32 left = walk->end - walk->offset;
	__u32 size = LEAST_EXTENSION;
	__u8 proto = walk->proto;
	__be16 fragment;

	if (proto != HOP_BY_HOP && proto != ROUTING && proto != FRAGMENT && proto != AUTHENTICATION &&
	    proto != DESTINATION)
		return STEP_END;
	if (left < LEAST_EXTENSION || (void *)header + LEAST_EXTENSION > end)
		return STEP_INVALID;
	if (proto == FRAGMENT) {
		fragment = *(__be16 *)(header + 2);
		if (fragment)
			walk->key->ip_frag = FRAGMENT_FIRST;
		if (fragment & IPV6_OFFSET) {
			walk->key->ip_frag = FRAGMENT_LATER;
			return STEP_END;
		}
	} else if (proto == AUTHENTICATION) {
		size = (header[1] + 2) * 4;
	} else {
		size = (header[1] + 1) * 8;
	}
	if (left < size)
		return STEP_INVALID;
	walk->proto = header[0];
	walk->offset += size;
	note_extension(walk);
	return STEP_ON;
}

/* Return whether a transport header is next. */
static __always_inline int parse_ipv6(struct xdp_md *ctx, struct oko_cursor *cursor, struct oko_key *key)
{
	struct ipv6hdr *ip = oko_parse_ipv6(cursor);
	int offset = offset_in_frame(ctx, cursor);
	struct walk walk = {.key = key, .end = offset + cursor->left, .offset = offset};
	int step = STEP_ON;
	__be32 first;

	if (!ip)
		return 0;
	copy(key->ipv6_src, &ip->saddr, sizeof(key->ipv6_src));
	copy(key->ipv6_dst, &ip->daddr, sizeof(key->ipv6_dst));
	copy(&first, ip, sizeof(first));
	walk.proto = ip->nexthdr;
	note_extension(&walk);
#pragma clang loop unroll(full)
	for (int count = 0; count < MAX_EXTENSIONS; count++) {
		step = parse_extension(ctx, &walk);
		if (step != STEP_ON)
			break;
	}
	if (step == STEP_INVALID) {
		key->ipv6_exthdr = 0;
		key->ip_frag = 0;
		return 0;
	}
	key->ip_proto = walk.proto;
	key->ip_tos = bpf_ntohl(first) >> 20;
	key->ipv6_label = first & bpf_htonl(0x000fffff);
	cursor->pos = position(ctx, &walk);
	cursor->left = walk.end - walk.offset;
	return !key->ip_frag;
}

/* The option in hand: a link-layer address may come once. */
static __noinline int parse_nd_option(struct xdp_md *ctx, struct walk *walk)
{
	__u8 *option = position(ctx, walk);
	void *end = (void *)(long)ctx->data_end;
	__u32 left = walk->end - walk->offset;
	__u8 *address;
	__u32 size;

	if (left < ND_OPTION_UNIT || (void *)option + ND_OPTION_UNIT > end)
		return STEP_END;
	size = option[1] * ND_OPTION_UNIT;
	if (!size || size > left)
		return STEP_END;
	walk->offset += size;
	if (size != ND_OPTION_UNIT)
		return STEP_ON;
	if (option[0] == ND_SOURCE_ADDRESS)
		address = walk->key->arp_sha;
	else if (option[0] == ND_TARGET_ADDRESS)
		address = walk->key->arp_tha;
	else
		return STEP_ON;
	if (address[0] | address[1] | address[2] | address[3] | address[4] | address[5])
		return STEP_INVALID;
	copy_ethernet_address(address, option + 2);
	return STEP_ON;
}

/* Neighbour discovery (RFC 4861, 4.3 and 4.4), from the target address on. */
static __always_inline void parse_nd(struct xdp_md *ctx, struct oko_cursor *cursor, struct oko_key *key)
{
	void *target = oko_parse_bytes(cursor, sizeof(key->nd_target));
	int offset = offset_in_frame(ctx, cursor);
	struct walk walk = {.key = key, .end = offset + cursor->left, .offset = offset};
	int step = STEP_ON;

	if (!target)
		return;
	copy(key->nd_target, target, sizeof(key->nd_target));
#pragma clang loop unroll(full)
	for (int count = 0; count < MAX_ND_OPTIONS; count++) {
		step = parse_nd_option(ctx, &walk);
		if (step != STEP_ON)
			break;
	}
	if (step == STEP_INVALID) {
		__builtin_memset(key->nd_target, 0, sizeof(key->nd_target));
		__builtin_memset(key->arp_sha, 0, sizeof(key->arp_sha));
		__builtin_memset(key->arp_tha, 0, sizeof(key->arp_tha));
	}
}

/* The transport header, whichever version of IP is below it. */
static __always_inline void parse_transport(struct xdp_md *ctx, struct oko_cursor *cursor, struct oko_packet *packet)
{
	struct oko_key *key = &packet->key;
	int offset = offset_in_frame(ctx, cursor);
	struct oko_icmp *icmp;
	__be16 *ports;

	if (key->ip_proto == IPPROTO_ICMP || key->ip_proto == IPPROTO_ICMPV6) {
		icmp = oko_parse_icmp(cursor);
		if (!icmp)
			return;
		packet->transport = offset;
		key->tp_src = bpf_htons(icmp->type);
		key->tp_dst = bpf_htons(icmp->code);
		if (key->ip_proto == IPPROTO_ICMPV6 && !icmp->code &&
		    (icmp->type == ND_SOLICIT || icmp->type == ND_ADVERTISE))
			parse_nd(ctx, cursor, key);
		return;
	}
	if (key->ip_proto == IPPROTO_TCP) {
		ports = (void *)oko_parse_tcp(cursor);
		if (ports)
			key->tcp_flags = ports[TCP_FLAGS_AT / 2] & TCP_FLAGS;
	} else if (key->ip_proto == IPPROTO_UDP) {
		ports = (void *)oko_parse_udp(cursor);
	} else if (key->ip_proto == IPPROTO_SCTP) {
		ports = oko_parse_bytes(cursor, SCTP_HEADER);
	} else {
		return;
	}
	if (!ports)
		return;
	packet->transport = offset;
	key->tp_src = ports[0];
	key->tp_dst = ports[1];
}

static __always_inline int parse(struct xdp_md *ctx, struct oko_packet *packet, const int vlan_limit)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct oko_key *key;
	int has_transport = 0;

	if (!packet)
		return 1;
	key = &packet->key;
	clear(key);
	packet->transport = 0;
	if (parse_link(&cursor, key, vlan_limit))
		return 1;
	packet->network = offset_in_frame(ctx, &cursor);
	if (key->eth_type == bpf_htons(ETH_P_IP))
		has_transport = parse_ipv4(&cursor, key);
	else if (key->eth_type == bpf_htons(ETH_P_IPV6))
		has_transport = parse_ipv6(ctx, &cursor, key);
	else if (key->eth_type == ETH_TYPE_ARP || key->eth_type == ETH_TYPE_RARP)
		parse_arp(&cursor, key);
	else if (key->eth_type == ETH_TYPE_MPLS || key->eth_type == ETH_TYPE_MPLS_MULTICAST)
		parse_mpls(&cursor, key);
	if (has_transport)
		parse_transport(ctx, &cursor, packet);
	return 0;
}

/* Write the key of `packet`, except for in_port and metadata, and the offsets `network` and `transport`. Return 0, or 1
 * for a runt: a frame shorter than an Ethernet header. */
SEC("runtime/parse")
int oko_parse(struct xdp_md *ctx, struct oko_packet *packet)
{
	return parse(ctx, packet, 2);
}

/* The same where tags behind the outermost are not read, as in a bridge of Open vSwitch with vlan-limit=1. */
SEC("runtime/parse_one_tag")
int oko_parse_one_tag(struct xdp_md *ctx, struct oko_packet *packet)
{
	return parse(ctx, packet, 1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
