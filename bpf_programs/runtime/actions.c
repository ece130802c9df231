/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What actions do to the bytes of a packet; oko/flow/rewrite.py has the same rules in Python.
 *
 * Each action is a global function: the kernel verifies it on its own, for any arguments. Of struct oko_packet they
 * read `network` only, look at the packet for all else, as actions before them may have changed it, and keep
 * `network` right. Those that move headers leave `transport` at 0 and the key as it was: what needs them lets the
 * packet be parsed again. All return 0, or 1 where they say so. */
#include <stdbool.h>

#include <oko.h>

#include "packet.h"

#pragma clang diagnostic ignored "-Wunused-parameter" /* all functions of a kind have the same prototype */

#define ND_SOLICIT 135
#define ND_ADVERTISE 136
#define ND_OPTION_SOURCE 1
#define ND_OPTION_TARGET 2
#define DEFAULT_TTL 64 /* of a label that is pushed on a packet without a TTL */

enum {
	ADDRESSES = 2 * ETH_ALEN,
	TAG_END = 18,	    /* where the outermost tag ends, with the type behind it */
	FARTHEST = 0x7fff,  /* no header that is looked at begins behind this */
	NETWORK_LIMIT = 30, /* two tags and SNAP */
	EXTENSION_LIMIT = 8,
	ND_MESSAGE = 24, /* bytes before the options (RFC 4861, 4.3 and 4.4) */
	ND_OPTION_LIMIT = 8,
	MOST_WORDS = 8,	      /* of a field: those of an IPv6 address */
	LABEL_BOTTOM = 0x100, /* of a label: there is none below it */
};

/* OXM numbers of the fields that can be set (OpenFlow 1.3.5, 7.2.3.7). */
enum {
	ETH_DST = 3,
	ETH_SRC = 4,
	VLAN_VID = 6,
	VLAN_PCP = 7,
	IP_DSCP = 8,
	IP_ECN = 9,
	IPV4_SRC = 11,
	IPV4_DST = 12,
	TCP_SRC = 13,
	TCP_DST = 14,
	UDP_SRC = 15,
	UDP_DST = 16,
	ICMPV4_TYPE = 19,
	ICMPV4_CODE = 20,
	ARP_OP = 21,
	ARP_SPA = 22,
	ARP_TPA = 23,
	ARP_SHA = 24,
	ARP_THA = 25,
	IPV6_SRC = 26,
	IPV6_DST = 27,
	IPV6_FLABEL = 28,
	ICMPV6_TYPE = 29,
	ICMPV6_CODE = 30,
	IPV6_ND_TARGET = 31,
	IPV6_ND_SLL = 32,
	IPV6_ND_TLL = 33,
	MPLS_LABEL = 34,
	MPLS_TC = 35,
};

/* A transport header with a checksum, whole. Offsets are in the packet; `end` is that of the IP packet. */
struct transport {
	__u64 offset;
	__u64 end;
	__u64 checksum;
	__u8 proto;
	__u8 fragment; /* not 0: that of a first fragment, whose fields read as 0 */
	__u8 found;
	__u8 routed; /* a routing header names more places to go to before the destination */
};

/* ---- what there is in a packet */

/* The `size` bytes at `offset`, or NULL. */
static __always_inline void *bytes_at(struct xdp_md *ctx, __u64 offset, __u64 size)
{
	void *end = (void *)(long)ctx->data_end;
	void *bytes = (void *)(long)ctx->data;

	if (offset > FARTHEST)
		return NULL;
	bytes += offset;
	barrier_var(bytes); /* compare and use one sum, not two: the kernel's verifier knows what it saw */
	if (bytes + size > end)
		return NULL;
	__builtin_assume(bytes != NULL); /* else the caller's test for NULL survives as a second comparison */
	return bytes;
}

/* An offset that the kernel's verifier sees as bounded whatever it was computed from, so that it does not tell the
 * ways apart that lead here. */
static __always_inline __u64 any_offset(__u64 offset)
{
	asm volatile("%0 &= 0x7fff" : "+r"(offset));
	return offset;
}

/* `network`, or 0 if it cannot be: the kernel verifies each function for any packet. */
static __always_inline __u64 network_of(const struct oko_packet *packet)
{
	__u64 network;

	if (!packet)
		return 0;
	network = packet->network;
	barrier_var(network); /* compare all 64 bits, and each bound on its own, for the kernel's verifier */
	if (network > NETWORK_LIMIT)
		return 0;
	barrier_var(network);
	return network < ETH_HLEN ? 0 : network;
}

static __always_inline __u64 length_of(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}

/* The 16 bits at `offset` in host order, 0 if they are not there. */
static __always_inline __u16 word_at(struct xdp_md *ctx, __u64 offset)
{
	__be16 *word = bytes_at(ctx, offset, sizeof(*word));

	return word ? bpf_ntohs(*word) : 0;
}

/* The eth_type that stands before the offset `at`. */
static __always_inline __u16 type_before(struct xdp_md *ctx, __u64 at)
{
	at -= sizeof(__be16);
	barrier_var(at); /* the kernel's verifier knows no negative offset from a place in a packet */
	return word_at(ctx, at);
}

/* Offset of what follows the eth_type, found anew. */
static __always_inline __u16 find_network(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__be16 eth_type;

	oko_parse_ethernet(&cursor, &eth_type);
	return cursor.pos - (void *)(long)ctx->data;
}

static __always_inline bool is_tagged(struct xdp_md *ctx)
{
	__be16 *tpid = bytes_at(ctx, ADDRESSES, TAG_END - ADDRESSES);

	return tpid && (*tpid == bpf_htons(ETH_P_8021Q) || *tpid == bpf_htons(ETH_P_8021AD));
}

/* The label that the eth_type before `at` promises, or NULL. */
static __always_inline __u8 *label_at(struct xdp_md *ctx, __u64 at)
{
	__u16 eth_type = type_before(ctx, at);

	return eth_type == ETH_P_MPLS_UC || eth_type == ETH_P_MPLS_MC ? bytes_at(ctx, at, 4) : NULL;
}

/* An ARP packet about IPv4 on Ethernet, or NULL. */
static __always_inline void *arp_at(struct xdp_md *ctx, __u64 at)
{
	__be16 *arp = bytes_at(ctx, at, 28);

	if (type_before(ctx, at) != ETH_P_ARP || !arp || arp[0] != bpf_htons(1) || arp[1] != bpf_htons(ETH_P_IP) ||
	    arp[2] != bpf_htons(0x0604))
		return NULL;
	return arp;
}

/* An IPv4 header whose lengths agree, at `at`, or NULL. */
static __always_inline struct iphdr *ipv4_at(struct xdp_md *ctx, __u64 at)
{
	struct iphdr *ip = bytes_at(ctx, at, sizeof(*ip));
	__u64 header_length, total_length;

	if (!ip)
		return NULL;
	header_length = (*(__u8 *)ip & 0x0f) * 4;
	total_length = bpf_ntohs(ip->tot_len);
	if (header_length < sizeof(*ip) || total_length < header_length || at + total_length > length_of(ctx))
		return NULL;
	return ip;
}

/* An IPv6 header whose payload lies within the packet, at `at`, or NULL. */
static __always_inline struct ipv6hdr *ipv6_at(struct xdp_md *ctx, __u64 at)
{
	struct ipv6hdr *ip = bytes_at(ctx, at, sizeof(*ip));

	if (!ip || at + sizeof(*ip) + bpf_ntohs(ip->payload_len) > length_of(ctx))
		return NULL;
	return ip;
}

/* Go behind the extension headers of IPv6, EXTENSION_LIMIT at most. Return whether there may be a transport header. */
static __always_inline bool skip_extensions(struct xdp_md *ctx, struct transport *transport)
{
#pragma unroll
	for (int i = 0; i < EXTENSION_LIMIT; i++) {
		__u8 proto = transport->proto;
		__u8 *header;
		__u64 size;

		if (proto != IPPROTO_HOPOPTS && proto != IPPROTO_ROUTING && proto != IPPROTO_FRAGMENT &&
		    proto != IPPROTO_AH && proto != IPPROTO_DSTOPTS)
			return true;
		header = bytes_at(ctx, transport->offset, 8);
		if (!header || transport->offset + 8 > transport->end)
			return false;
		size = header[1] * 8 + 8;
		if (proto == IPPROTO_AH) {
			size = header[1] * 4 + 8;
		} else if (proto == IPPROTO_ROUTING) {
			transport->routed |= header[3];
		} else if (proto == IPPROTO_FRAGMENT) {
			size = 8;
			if (header[2] || header[3] & 0xf8)
				return false;
			transport->fragment |= header[3];
		}
		transport->proto = header[0];
		transport->offset = any_offset(transport->offset + size);
	}
	return true;
}

/* The transport header of the IP packet in hand. Return whether it has one. */
static __always_inline bool find_transport(struct xdp_md *ctx, __u64 network, struct transport *transport)
{
	__u16 eth_type = type_before(ctx, network);
	struct ipv6hdr *ip6;
	struct iphdr *ip;
	__u64 size = 8;

	if (eth_type == ETH_P_IP) {
		ip = ipv4_at(ctx, network);
		if (!ip || ip->frag_off & bpf_htons(0x1fff))
			return false;
		transport->proto = ip->protocol;
		transport->fragment = !!(ip->frag_off & bpf_htons(0x2000));
		transport->routed = 0;
		transport->end = network + bpf_ntohs(ip->tot_len);
		transport->offset = network + (*(__u8 *)ip & 0x0f) * 4;
	} else if (eth_type == ETH_P_IPV6) {
		ip6 = ipv6_at(ctx, network);
		if (!ip6)
			return false;
		transport->proto = ip6->nexthdr;
		transport->fragment = transport->routed = 0;
		transport->end = network + sizeof(*ip6) + bpf_ntohs(ip6->payload_len);
		transport->offset = network + sizeof(*ip6);
		if (!skip_extensions(ctx, transport))
			return false;
	} else {
		return false;
	}
	if (transport->proto == IPPROTO_TCP) {
		size = sizeof(struct tcphdr);
		transport->checksum = transport->offset + 16;
	} else if (transport->proto == IPPROTO_UDP) {
		transport->checksum = transport->offset + 6;
	} else if (transport->proto == (eth_type == ETH_P_IP ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		transport->checksum = transport->offset + 2;
	} else {
		return false;
	}
	return transport->offset + size <= transport->end;
}

/* Whether the options of a TCP header lie within the IP packet: else its fields read as 0. */
static __always_inline bool has_options(struct xdp_md *ctx, const struct transport *transport)
{
	__u64 size = (word_at(ctx, transport->offset + 12) >> 12) * 4;

	return size >= sizeof(struct tcphdr) && transport->offset + size <= transport->end;
}

/* Offset of a field of neighbour discovery, 0 if it is not there. */
static __always_inline __u64 find_discovery(struct xdp_md *ctx, const struct transport *transport, __u32 field)
{
	__u8 wanted = field == IPV6_ND_SLL ? ND_OPTION_SOURCE : ND_OPTION_TARGET;
	__u64 at = transport->offset + ND_MESSAGE;
	__u16 message = word_at(ctx, transport->offset); /* type and code */
	__u8 *option;

	if (transport->proto != IPPROTO_ICMPV6 || transport->fragment || at > transport->end)
		return 0;
	if (field == IPV6_ND_TARGET)
		return message == ND_SOLICIT << 8 || message == ND_ADVERTISE << 8 ? transport->offset + 8 : 0;
	if (message != (field == IPV6_ND_SLL ? ND_SOLICIT : ND_ADVERTISE) << 8)
		return 0;
#pragma unroll
	for (int i = 0; i < ND_OPTION_LIMIT; i++) {
		at = any_offset(at);
		option = bytes_at(ctx, at, 8);
		if (!option || at + 8 > transport->end || !option[1])
			return 0;
		if (option[0] == wanted && option[1] == 1)
			return at + 2;
		at += option[1] * 8;
	}
	return 0;
}

/* ---- how it is changed */

/* Write 16-bit words, of which the first is at the even offset `at`. Return ~m + m' of RFC 1624, equation 3: what
 * mend() adds to a checksum that covers them. */
static __always_inline __u32 write_words(struct xdp_md *ctx, __u64 at, const void *words, const int count)
{
	__u16 *place = bytes_at(ctx, at, count * 2);
	const __u16 *value = words;
	__u32 difference = 0;

	if (!place)
		return 0;
#pragma unroll
	for (int i = 0; i < MOST_WORDS; i++) {
		if (i == count)
			break;
		difference += (__u16)~place[i] + value[i];
		place[i] = value[i];
	}
	return difference;
}

/* Write the bits under `mask` of the word at the even offset `at`; both in host order. Return as write_words(). */
static __always_inline __u32 write_bits(struct xdp_md *ctx, __u64 at, __u16 mask, __u16 value)
{
	__be16 word = bpf_htons((word_at(ctx, at) & ~mask) | (value & mask));

	return write_words(ctx, at, &word, 1);
}

/* A checksum after a change (RFC 1624, equation 3). */
static __always_inline __u16 mended(__u16 checksum, __u32 difference)
{
	__u32 sum = (__u16)~checksum + difference;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline void mend(struct xdp_md *ctx, __u64 at, __u32 difference)
{
	__u16 *checksum = bytes_at(ctx, at, sizeof(*checksum));

	if (checksum)
		*checksum = mended(*checksum, difference);
}

static __always_inline void mend_ipv4(struct xdp_md *ctx, __u64 network, __u32 difference)
{
	mend(ctx, network + 10, difference);
}

/* Of UDP a checksum of 0 says that there is none, and one that becomes 0 is written as 0xffff (RFC 768). */
static __always_inline void mend_transport(struct xdp_md *ctx, const struct transport *transport, __u32 difference)
{
	__u16 *checksum;

	if (transport->proto != IPPROTO_UDP) {
		mend(ctx, transport->checksum, difference);
		return;
	}
	checksum = bytes_at(ctx, transport->checksum, sizeof(*checksum));
	if (checksum && *checksum)
		*checksum = mended(*checksum, difference) ?: 0xffff;
}

/* The TTL or hop limit of the IP header at `at`, -1 if there is none. */
static __always_inline int ip_ttl(struct xdp_md *ctx, __u64 at, __u16 eth_type)
{
	struct ipv6hdr *ip6;
	struct iphdr *ip;

	if (eth_type == ETH_P_IP) {
		ip = ipv4_at(ctx, at);
		return ip ? ip->ttl : -1;
	}
	if (eth_type == ETH_P_IPV6) {
		ip6 = ipv6_at(ctx, at);
		return ip6 ? ip6->hop_limit : -1;
	}
	return -1;
}

/* Write the TTL that ip_ttl() found. */
static __always_inline void write_ip_ttl(struct xdp_md *ctx, __u64 at, __u16 eth_type, __u8 ttl)
{
	if (eth_type == ETH_P_IP)
		mend_ipv4(ctx, at, write_bits(ctx, at + 8, 0xff00, ttl << 8));
	else
		write_bits(ctx, at + 6, 0x00ff, ttl);
}

/* The eth_type that an IP header at `at`, below the last label, would have. Nothing but the version tells. */
static __always_inline __u16 type_below(struct xdp_md *ctx, __u64 at)
{
	__u8 *first = bytes_at(ctx, at, 1);

	if (!first)
		return 0;
	return *first >> 4 == 4 ? ETH_P_IP : *first >> 4 == 6 ? ETH_P_IPV6 : 0;
}

/* Make room for four bytes behind the Ethernet addresses, and write the type before them. */
static __always_inline bool push(struct xdp_md *ctx, __be16 type, __be32 content)
{
	__u16 *words;

	if (bpf_xdp_adjust_head(ctx, -4))
		return false;
	words = bytes_at(ctx, 0, TAG_END);
	if (!words)
		return false;
#pragma unroll
	for (int i = 0; i < ADDRESSES / 2; i++)
		words[i] = words[i + 2];
	words[6] = type;
	__builtin_memcpy(words + 7, &content, sizeof(content));
	return true;
}

/* ---- set_field */

static __always_inline void set_ip_bits(struct xdp_md *ctx, __u64 network, __u8 mask, __u8 value)
{
	__u16 eth_type = type_before(ctx, network);

	if (eth_type == ETH_P_IP && ipv4_at(ctx, network))
		mend_ipv4(ctx, network, write_bits(ctx, network, mask, value));
	else if (eth_type == ETH_P_IPV6 && ipv6_at(ctx, network))
		write_bits(ctx, network, mask << 4, value << 4);
}

static __always_inline void set_arp(struct xdp_md *ctx, __u64 network, __u64 offset, const __u8 *value, const int words)
{
	if (arp_at(ctx, network))
		write_words(ctx, network + offset, value, words);
}

/* Write a field that a transport header has, or that its checksum covers. */
static __always_inline void set_covered(struct xdp_md *ctx, struct oko_packet *packet, __u64 network, __u32 field,
					const __u8 *value)
{
	struct transport *kept = (void *)packet->lookup; /* which nobody needs between two lookups */
	__u16 word = value[0] << 8 | value[1];
	__u16 eth_type = type_before(ctx, network);
	struct transport transport = {};
	__u32 difference;
	bool found;
	__u64 at;

	transport.found = find_transport(ctx, network, &transport);
	/* Let the kernel's verifier forget the many ways to a transport header, and follow only one on. */
	*kept = transport;
	barrier();
	transport = *kept;
	transport.offset = at = any_offset(transport.offset);
	transport.checksum = any_offset(transport.checksum);
	found = transport.found;

	if (field == IPV4_SRC || field == IPV4_DST) {
		if (eth_type != ETH_P_IP || !ipv4_at(ctx, network))
			return;
		difference = write_words(ctx, network + (field == IPV4_SRC ? 12 : 16), value, 2);
		mend_ipv4(ctx, network, difference);
		found = found && transport.proto != IPPROTO_ICMP;
	} else if (field == IPV6_SRC || field == IPV6_DST) {
		if (eth_type != ETH_P_IPV6 || !ipv6_at(ctx, network))
			return;
		difference = write_words(ctx, network + (field == IPV6_SRC ? 8 : 24), value, 8);
		/* The checksum covers the last destination, which the routing header has (RFC 8200, 8.1). */
		found = found && !(transport.routed && field == IPV6_DST);
	} else if (!found || transport.fragment) {
		return;
	} else if (field == IPV6_ND_TARGET || field == IPV6_ND_SLL || field == IPV6_ND_TLL) {
		at = find_discovery(ctx, &transport, field);
		if (!at)
			return;
		if (field == IPV6_ND_TARGET)
			difference = write_words(ctx, at, value, 8);
		else
			difference = write_words(ctx, at, value, 3);
	} else if (transport.proto == IPPROTO_TCP && (field == TCP_SRC || field == TCP_DST)) {
		if (!has_options(ctx, &transport))
			return;
		difference = write_bits(ctx, field == TCP_SRC ? at : at + 2, 0xffff, word);
	} else if (transport.proto == IPPROTO_UDP && (field == UDP_SRC || field == UDP_DST)) {
		difference = write_bits(ctx, field == UDP_SRC ? at : at + 2, 0xffff, word);
	} else if ((transport.proto == IPPROTO_ICMP && field == ICMPV4_TYPE) ||
		   (transport.proto == IPPROTO_ICMPV6 && field == ICMPV6_TYPE)) {
		difference = write_bits(ctx, at, 0xff00, word);
	} else if ((transport.proto == IPPROTO_ICMP && field == ICMPV4_CODE) ||
		   (transport.proto == IPPROTO_ICMPV6 && field == ICMPV6_CODE)) {
		difference = write_bits(ctx, at, 0x00ff, word >> 8);
	} else {
		return;
	}
	if (found)
		mend_transport(ctx, &transport, difference);
}

/* `number` is the OXM number of the field, the argument its new value as in the OXM. */
SEC("runtime/set_field")
int oko_set_field(struct xdp_md *ctx, struct oko_packet *packet, const struct oko_argument *argument, __u32 number)
{
	const __u8 *value;
	__u64 network;

	network = network_of(packet);
	if (!network || !argument)
		return 0;
	value = argument->value;
	switch (number) {
	case ETH_DST:
		write_words(ctx, 0, value, 3);
		break;
	case ETH_SRC:
		write_words(ctx, ETH_ALEN, value, 3);
		break;
	case VLAN_VID:
		if (is_tagged(ctx))
			write_bits(ctx, 14, 0x0fff, value[0] << 8 | value[1]);
		break;
	case VLAN_PCP:
		if (is_tagged(ctx))
			write_bits(ctx, 14, 0xe000, value[0] << 13);
		break;
	case IP_DSCP:
		set_ip_bits(ctx, network, 0xfc, value[0] << 2);
		break;
	case IP_ECN:
		set_ip_bits(ctx, network, 0x03, value[0]);
		break;
	case ARP_OP:
		set_arp(ctx, network, 6, value, 1);
		break;
	case ARP_SHA:
		set_arp(ctx, network, 8, value, 3);
		break;
	case ARP_SPA:
		set_arp(ctx, network, 14, value, 2);
		break;
	case ARP_THA:
		set_arp(ctx, network, 18, value, 3);
		break;
	case ARP_TPA:
		set_arp(ctx, network, 24, value, 2);
		break;
	case IPV6_FLABEL:
		if (type_before(ctx, network) == ETH_P_IPV6 && ipv6_at(ctx, network)) {
			write_bits(ctx, network, 0x000f, value[1]);
			write_words(ctx, network + 2, value + 2, 1);
		}
		break;
	case MPLS_LABEL:
		if (label_at(ctx, network)) {
			__u32 label = value[1] << 16 | value[2] << 8 | value[3];

			write_bits(ctx, network, 0xffff, label >> 4);
			write_bits(ctx, network + 2, 0xf000, label << 12);
		}
		break;
	case MPLS_TC:
		if (label_at(ctx, network))
			write_bits(ctx, network + 2, 0x0e00, value[0] << 9);
		break;
	default:
		set_covered(ctx, packet, network, number, value);
	}
	return 0;
}

/* ---- tags and labels */

/* `number` is the TPID. The VID and PCP are those of the tag that was outermost. Return 1 without room for it. */
SEC("runtime/push_vlan")
int oko_push_vlan(struct xdp_md *ctx, struct oko_packet *packet, const struct oko_argument *argument, __u32 number)
{
	__be16 tag[2] = {};

	if (!packet)
		return 0;
	if (is_tagged(ctx))
		tag[0] = bpf_htons(word_at(ctx, 14) & 0xefff);
	tag[1] = bpf_htons(word_at(ctx, ADDRESSES));
	if (!push(ctx, bpf_htons(number), tag[1] << 16 | tag[0]))
		return 1;
	packet->network = find_network(ctx);
	packet->transport = 0;
	return 0;
}

/* Return 1 if it cannot be done. */
SEC("runtime/pop_vlan")
int oko_pop_vlan(struct xdp_md *ctx, struct oko_packet *packet)
{
	__u16 *words;

	if (!packet || !is_tagged(ctx))
		return 0;
	words = bytes_at(ctx, 0, TAG_END);
	if (!words)
		return 1;
#pragma unroll
	for (int i = ADDRESSES / 2 - 1; i >= 0; i--)
		words[i + 2] = words[i];
	if (bpf_xdp_adjust_head(ctx, 4))
		return 1;
	packet->network = find_network(ctx);
	packet->transport = 0;
	return 0;
}

/* `number` is the eth_type. Return 1 without room for the label. */
SEC("runtime/push_mpls")
int oko_push_mpls(struct xdp_md *ctx, struct oko_packet *packet, const struct oko_argument *argument, __u32 number)
{
	__u64 network = network_of(packet);
	__u32 label;
	__u8 *outer;
	int ttl;

	if (!network)
		return 0;
	outer = network == ETH_HLEN ? label_at(ctx, ETH_HLEN) : NULL;
	if (outer) {
		label = (__u32)outer[0] << 24 | outer[1] << 16 | (outer[2] & 0xfe) << 8 | outer[3];
	} else {
		ttl = ip_ttl(ctx, network, type_before(ctx, network));
		label = LABEL_BOTTOM | (ttl < 0 ? DEFAULT_TTL : ttl);
	}
	if (!push(ctx, bpf_htons(number), bpf_htonl(label)))
		return 1;
	packet->network = ETH_HLEN;
	packet->transport = 0;
	return 0;
}

/* `number` is the eth_type of what follows. Return 1 if it cannot be done. */
SEC("runtime/pop_mpls")
int oko_pop_mpls(struct xdp_md *ctx, struct oko_packet *packet, const struct oko_argument *argument, __u32 number)
{
	__u64 network = network_of(packet);
	__be16 type = bpf_htons(number);
	__u8 before[NETWORK_LIMIT];

	if (!network || !label_at(ctx, network))
		return 0;
	if (bpf_xdp_store_bytes(ctx, network - sizeof(type), &type, sizeof(type)) ||
	    bpf_xdp_load_bytes(ctx, 0, before, network) || bpf_xdp_store_bytes(ctx, 4, before, network) ||
	    bpf_xdp_adjust_head(ctx, 4))
		return 1;
	packet->network = find_network(ctx);
	packet->transport = 0;
	return 0;
}

/* ---- TTLs */

/* Return 1 if the TTL is invalid: 0 or 1. */
SEC("runtime/dec_ttl")
int oko_dec_ttl(struct xdp_md *ctx, struct oko_packet *packet)
{
	__u64 network = network_of(packet);
	__u16 eth_type;
	int ttl;

	if (!network)
		return 0;
	eth_type = type_before(ctx, network);
	ttl = ip_ttl(ctx, network, eth_type);
	if (ttl < 0)
		return 0;
	if (ttl <= 1)
		return 1;
	write_ip_ttl(ctx, network, eth_type, ttl - 1);
	return 0;
}

/* `number` is the TTL. */
SEC("runtime/set_ttl")
int oko_set_ttl(struct xdp_md *ctx, struct oko_packet *packet, const struct oko_argument *argument, __u32 number)
{
	__u64 network = network_of(packet);
	__u16 eth_type;

	if (!network)
		return 0;
	eth_type = type_before(ctx, network);
	if (ip_ttl(ctx, network, eth_type) >= 0)
		write_ip_ttl(ctx, network, eth_type, number);
	return 0;
}

/* Return 1 if the TTL is invalid: 0 or 1. */
SEC("runtime/dec_mpls_ttl")
int oko_dec_mpls_ttl(struct xdp_md *ctx, struct oko_packet *packet)
{
	__u64 network = network_of(packet);
	__u8 *label = network ? label_at(ctx, network) : NULL;

	if (!label)
		return 0;
	if (label[3] <= 1)
		return 1;
	label[3]--;
	return 0;
}

/* `number` is the TTL. */
SEC("runtime/set_mpls_ttl")
int oko_set_mpls_ttl(struct xdp_md *ctx, struct oko_packet *packet, const struct oko_argument *argument, __u32 number)
{
	__u64 network = network_of(packet);
	__u8 *label = network ? label_at(ctx, network) : NULL;

	if (label)
		label[3] = number;
	return 0;
}

SEC("runtime/copy_ttl_out")
int oko_copy_ttl_out(struct xdp_md *ctx, struct oko_packet *packet)
{
	__u64 network = network_of(packet);
	__u8 *label, *second;
	__u64 below;
	int ttl;

	if (!network)
		return 0;
	label = label_at(ctx, network);
	if (!label)
		return 0;
	below = network + 4;
	if (label[2] & 1) {
		ttl = ip_ttl(ctx, below, type_below(ctx, below));
	} else {
		second = bytes_at(ctx, below, 4);
		ttl = second ? second[3] : -1;
	}
	if (ttl >= 0)
		label[3] = ttl;
	return 0;
}

SEC("runtime/copy_ttl_in")
int oko_copy_ttl_in(struct xdp_md *ctx, struct oko_packet *packet)
{
	__u64 network = network_of(packet);
	__u8 *label, *second;
	__u16 type;
	__u64 below;

	if (!network)
		return 0;
	label = label_at(ctx, network);
	if (!label)
		return 0;
	below = network + 4;
	if (label[2] & 1) {
		type = type_below(ctx, below);
		if (ip_ttl(ctx, below, type) >= 0)
			write_ip_ttl(ctx, below, type, label[3]);
	} else {
		second = bytes_at(ctx, below, 4);
		if (second)
			second[3] = label[3];
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
