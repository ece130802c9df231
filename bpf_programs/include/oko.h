/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What the author of a filter program needs.
 *
 * A filter program is one function in SEC("filter"), with the signature int NAME(struct xdp_md *ctx), and a
 * licence in SEC("license"). It returns OKO_MATCH or OKO_NO_MATCH, reads the packet and never writes it, and
 * keeps its state in maps, declared as libbpf does (SEC(".maps"), __uint, __type). The code must be free of
 * cycles: unroll every loop.
 */
#ifndef OKO_H
#define OKO_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define OKO_NO_MATCH 0
#define OKO_MATCH 1

/* An IPv4 address in a map's key or value: tools show it as a.b.c.d. */
typedef __be32 oko_ipv4;

/* OpenFlow number of the port that the packet came in on, host order. The switch provides it when it links the
 * program. */
extern __u32 oko_in_port(struct xdp_md *ctx);

/* Time in ns from an arbitrary start; never goes back. In a replay, the time of the capture. */
static __always_inline __u64 oko_now(void)
{
	return bpf_ktime_get_ns();
}

/* A place in a packet. `pos` is the first byte not yet parsed, `end` the end of the frame (what the kernel's
 * verifier compares with), `left` the bytes from `pos` that belong to what is being parsed: at first the rest of
 * the frame, after an IPv4 header only what its total length covers, so never Ethernet padding.
 *
 * The contract of every oko_parse_X(cursor, …): if the header is there, whole and by the rules given at the
 * function, return a pointer to it and move the cursor to the first byte after it; else return NULL and leave the
 * cursor where it was. The fields of a header that is returned may be read without further checks. */
struct oko_cursor {
	void *pos;
	void *end;
	__u64 left;
};

static __always_inline struct oko_cursor oko_cursor(struct xdp_md *ctx)
{
	void *pos = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	return (struct oko_cursor){.pos = pos, .end = end, .left = end - pos};
}

/* Any header of a fixed `size` in bytes, at most 64 KiB in sum over a packet. */
static __always_inline void *oko_parse_bytes(struct oko_cursor *cursor, __u64 size)
{
	void *header = cursor->pos;

	if (cursor->left < size || header + size > cursor->end)
		return NULL;
	__builtin_assume(header != NULL); /* else the caller's test for NULL survives as a second comparison */
	cursor->pos = header + size;
	cursor->left -= size;
	return header;
}

/* An IEEE 802.1Q or 802.1ad tag as it follows its TPID. */
struct oko_vlan {
	__be16 tci;
	__be16 eth_type;
};

/* An IEEE 802.2 header with SNAP (RFC 1042). */
struct oko_snap {
	__u8 llc[3];
	__u8 organisation[3];
	__be16 eth_type;
};

#define OKO_ETH_TYPE_802_2 0x05ff /* eth_type of an 802.3 frame without SNAP, as in Open vSwitch */

/* One tag, if `eth_type` says that one follows; then `eth_type` becomes the tag's. */
static __always_inline struct oko_vlan *oko_parse_vlan(struct oko_cursor *cursor, __be16 *eth_type)
{
	struct oko_vlan *vlan;

	if (*eth_type != bpf_htons(ETH_P_8021Q) && *eth_type != bpf_htons(ETH_P_8021AD))
		return NULL;
	vlan = oko_parse_bytes(cursor, sizeof(*vlan));
	if (vlan)
		*eth_type = vlan->eth_type;
	return vlan;
}

/* An 802.2 header with SNAP whose type is an Ethernet type; `eth_type` becomes it. */
static __always_inline struct oko_snap *oko_parse_snap(struct oko_cursor *cursor, __be16 *eth_type)
{
	struct oko_cursor ahead = *cursor;
	struct oko_snap *snap = oko_parse_bytes(&ahead, sizeof(*snap));

	if (!snap || snap->llc[0] != 0xaa || snap->llc[1] != 0xaa || snap->llc[2] != 0x03 || snap->organisation[0] ||
	    snap->organisation[1] || snap->organisation[2] || bpf_ntohs(snap->eth_type) < ETH_P_802_3_MIN)
		return NULL;
	*eth_type = snap->eth_type;
	*cursor = ahead;
	return snap;
}

/* Ethernet with at most two VLAN tags; a third tag's TPID, or that of a tag cut off, is the eth_type. `eth_type`
 * (network order) is what the payload is, also for 802.3 with SNAP; OKO_ETH_TYPE_802_2 for 802.3 without. The
 * cursor goes to the payload. NULL for a frame shorter than 14 bytes. */
static __always_inline struct ethhdr *oko_parse_ethernet(struct oko_cursor *cursor, __be16 *eth_type)
{
	struct ethhdr *eth = oko_parse_bytes(cursor, sizeof(*eth));

	if (!eth)
		return NULL;
	*eth_type = eth->h_proto;
	if (oko_parse_vlan(cursor, eth_type))
		oko_parse_vlan(cursor, eth_type);
	if (bpf_ntohs(*eth_type) < ETH_P_802_3_MIN && !oko_parse_snap(cursor, eth_type))
		*eth_type = bpf_htons(OKO_ETH_TYPE_802_2);
	return eth;
}

/* IPv4 (RFC 791, section 3.1) with its options: the cursor goes behind them, to a payload of the length that the
 * total length leaves. NULL if the header or the total length does not fit. Neither the version nor the checksum
 * is checked, as in Open vSwitch. */
static __always_inline struct iphdr *oko_parse_ipv4(struct oko_cursor *cursor)
{
	struct iphdr *ip = cursor->pos;
	__u64 header_length, total_length;

	if (cursor->left < sizeof(*ip) || (void *)(ip + 1) > cursor->end)
		return NULL;
	header_length = (*(__u8 *)ip & 0x0f) * 4;
	total_length = bpf_ntohs(ip->tot_len);
	if (header_length < sizeof(*ip) || total_length < header_length || total_length > cursor->left)
		return NULL;
	cursor->pos += header_length;
	cursor->left = total_length - header_length;
	return ip;
}

/* Whether this is a fragment other than the first: what follows is then data, not a header. */
static __always_inline int oko_is_later_fragment(const struct iphdr *ip)
{
	return (ip->frag_off & bpf_htons(0x1fff)) != 0;
}

/* The fixed IPv6 header (RFC 8200, section 3). Extension headers are left to the caller, as nexthdr says. NULL if
 * the header or the payload length does not fit (a jumbogram's does not). */
static __always_inline struct ipv6hdr *oko_parse_ipv6(struct oko_cursor *cursor)
{
	struct ipv6hdr *ip = cursor->pos;
	__u64 payload_length;

	if (cursor->left < sizeof(*ip) || (void *)(ip + 1) > cursor->end)
		return NULL;
	payload_length = bpf_ntohs(ip->payload_len);
	if (payload_length > cursor->left - sizeof(*ip))
		return NULL;
	cursor->pos = ip + 1;
	cursor->left = payload_length;
	return ip;
}

/* The 20 fixed bytes of TCP (RFC 9293, section 3.1); options, if doff says so, are next. As in Open vSwitch, doff must
 * cover the fixed bytes and must not reach beyond the segment. */
static __always_inline struct tcphdr *oko_parse_tcp(struct oko_cursor *cursor)
{
	struct oko_cursor before = *cursor;
	struct tcphdr *tcp = oko_parse_bytes(cursor, sizeof(*tcp));

	if (!tcp)
		return NULL;
	if (tcp->doff * 4 < sizeof(*tcp) || tcp->doff * 4 > before.left) {
		*cursor = before;
		return NULL;
	}
	return tcp;
}

/* UDP (RFC 768). Its length field is not checked. */
static __always_inline struct udphdr *oko_parse_udp(struct oko_cursor *cursor)
{
	return oko_parse_bytes(cursor, sizeof(struct udphdr));
}

/* An ICMP message's first 8 bytes (RFC 792). `identifier` and `sequence` are those of echo and its reply; other
 * types use these 4 bytes otherwise. (<linux/icmp.h> needs the headers of a C library.) */
struct oko_icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
	__be16 sequence;
};

#define OKO_ICMP_ECHO_REPLY 0
#define OKO_ICMP_ECHO 8

static __always_inline struct oko_icmp *oko_parse_icmp(struct oko_cursor *cursor)
{
	return oko_parse_bytes(cursor, sizeof(struct oko_icmp));
}

#endif
