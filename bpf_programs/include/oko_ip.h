/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* IPv4, IPv6 with its extension headers, and fragments of both. */
#ifndef OKO_IP_H
#define OKO_IP_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>

#include "oko_cursor.h"

/* Where in the original packet a fragment lies. */
enum oko_place {
	OKO_WHOLE,	    /* no fragment: the packet is here from end to end */
	OKO_FIRST_FRAGMENT, /* the transport header is here, its payload only in part */
	OKO_LATER_FRAGMENT, /* what follows the IP header is data, not a transport header */
};

/* `identification` is what the fragments of one packet share (IPv4: 16 bits, zero-extended), 0 for a whole packet. */
struct oko_fragment {
	enum oko_place place;
	__be32 identification;
};

/* The bytes of an IPv4 header that tell where its packet ends: NULL if they are not all there or contradict each other.
 * Its length goes to `header_length`, that of its payload to `payload_length`, in bytes. */
static __always_inline struct iphdr *oko_peek_ipv4(const struct oko_cursor *cursor, __u64 *header_length,
						   __u64 *payload_length)
{
	struct iphdr *ip = cursor->pos;
	__u64 total_length;

	if (cursor->left < sizeof(*ip) || (void *)(ip + 1) > cursor->end)
		return NULL;
	*header_length = (*(__u8 *)ip & 0x0f) * 4;
	total_length = bpf_ntohs(ip->tot_len);
	if (*header_length < sizeof(*ip) || total_length < *header_length || *header_length > cursor->left)
		return NULL;
	*payload_length = total_length - *header_length;
	return ip;
}

/* IPv4 (RFC 791, section 3.1) with its options: the cursor goes behind them, to a payload of the length that the
 * total length leaves. NULL if the header or the total length does not fit. Neither the version nor the checksum
 * is checked, as in Open vSwitch. */
static __always_inline struct iphdr *oko_parse_ipv4(struct oko_cursor *cursor)
{
	__u64 header_length, payload_length;
	struct iphdr *ip = oko_peek_ipv4(cursor, &header_length, &payload_length);

	if (!ip || payload_length > cursor->left - header_length)
		return NULL;
	cursor->pos += header_length;
	cursor->left = payload_length;
	return ip;
}

/* The same for a packet that may be cut off behind its header, as one is that an ICMP error quotes. */
static __always_inline struct iphdr *oko_parse_quoted_ipv4(struct oko_cursor *cursor)
{
	__u64 header_length, payload_length;
	struct iphdr *ip = oko_peek_ipv4(cursor, &header_length, &payload_length);

	if (!ip)
		return NULL;
	cursor->pos += header_length;
	cursor->left -= header_length;
	if (cursor->left > payload_length)
		cursor->left = payload_length;
	return ip;
}

/* Whether this is a fragment other than the first: what follows is then data, not a header. */
static __always_inline int oko_is_later_fragment(const struct iphdr *ip)
{
	return (ip->frag_off & bpf_htons(0x1fff)) != 0;
}

static __always_inline struct oko_fragment oko_ipv4_fragment(const struct iphdr *ip)
{
	if (!(ip->frag_off & bpf_htons(0x3fff)))
		return (struct oko_fragment){.place = OKO_WHOLE};
	return (struct oko_fragment){
	    .place = oko_is_later_fragment(ip) ? OKO_LATER_FRAGMENT : OKO_FIRST_FRAGMENT,
	    .identification = ip->id,
	};
}

/* The fixed IPv6 header (RFC 8200, section 3). What nexthdr says is next, often an extension
 * header: oko_parse_ipv6_extensions(). NULL if the header or the payload length does not fit (a jumbogram's does not).
 */
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

/* The same for a packet that may be cut off behind its header, as one is that an ICMPv6 error quotes. */
static __always_inline struct ipv6hdr *oko_parse_quoted_ipv6(struct oko_cursor *cursor)
{
	struct ipv6hdr *ip = oko_parse_bytes(cursor, sizeof(*ip));

	if (ip && cursor->left > bpf_ntohs(ip->payload_len))
		cursor->left = bpf_ntohs(ip->payload_len);
	return ip;
}

/* Protocol numbers of the headers between IPv6 and the transport layer, those of RFC 8200 and RFC 4302 that can be
 * stepped over. */
#define OKO_HOP_BY_HOP 0
#define OKO_ROUTING 43
#define OKO_FRAGMENT 44
#define OKO_AUTHENTICATION 51
#define OKO_DESTINATION 60
#define OKO_MAX_EXTENSIONS 8

#define OKO_LEAST_EXTENSION 8 /* bytes */

static __always_inline int oko_is_extension(__u8 protocol)
{
	return protocol == OKO_HOP_BY_HOP || protocol == OKO_ROUTING || protocol == OKO_FRAGMENT ||
	       protocol == OKO_AUTHENTICATION || protocol == OKO_DESTINATION;
}

/* How far the walk over extension headers has come. The kernel's verifier follows what is stored at multiples of 8:
 * what changes must not be there, or each step would be verified once for every way to it. */
struct oko_extension_walk {
	__u16 pad;
	__u16 end;     /* of the packet, in bytes from the start of the frame */
	__u16 offset;  /* of the header in hand, likewise */
	__u8 protocol; /* what the header in hand is */
	__u8 place;    /* enum oko_place */
	__u32 pad2;
	__be32 identification;
};

enum oko_step {
	OKO_STEP_ON,
	OKO_STEP_END,
	OKO_STEP_CUT_OFF,
};

/* Go behind the header in hand, if it is one to step over. Not inlined, so that the steps are one piece of code. */
static inline __noinline int oko_step_over_extension(struct xdp_md *ctx, struct oko_extension_walk *walk)
{
	__u32 left = walk->end - walk->offset;
	__u8 protocol = walk->protocol;
	__u32 size = OKO_LEAST_EXTENSION;
	__u8 *header;

	if (!oko_is_extension(protocol))
		return OKO_STEP_END;
	header = oko_bytes_at(ctx, walk->offset, OKO_LEAST_EXTENSION);
	if (!header || left < OKO_LEAST_EXTENSION)
		return OKO_STEP_CUT_OFF;
	if (protocol == OKO_FRAGMENT) {
		__u32 offset_and_more = bpf_ntohs(*(__be16 *)(header + 2));

		if (offset_and_more) {
			walk->identification = *(__be32 *)(header + 4);
			walk->place = OKO_FIRST_FRAGMENT;
		}
		if (offset_and_more >> 3) {
			walk->place = OKO_LATER_FRAGMENT;
			return OKO_STEP_END;
		}
	} else if (protocol == OKO_AUTHENTICATION) {
		size = (header[1] + 2) * 4;
	} else {
		size = (header[1] + 1) * 8;
	}
	if (left < size)
		return OKO_STEP_CUT_OFF;
	walk->protocol = header[0];
	walk->offset += size;
	return OKO_STEP_ON;
}

/* The extension headers behind an IPv6 header, of which `protocol`, its nexthdr, is the first, if it is one. Return
 * what follows them, a protocol number, and move the cursor there; -1, with the cursor where it was, if one of them is
 * cut off.
 *
 * At most OKO_MAX_EXTENSIONS are stepped over; the next one's number is then returned. Of a later fragment
 * OKO_FRAGMENT is returned, with the cursor at the fragment header, whose first byte is the protocol of what was
 * fragmented. A fragment header of a packet in one piece (RFC 6946) is like any other header. */
static __always_inline int oko_parse_ipv6_extensions(struct xdp_md *ctx, struct oko_cursor *cursor, __u8 protocol,
						     struct oko_fragment *fragment)
{
	struct oko_extension_walk walk = {};
	int step = OKO_STEP_ON;

	*fragment = (struct oko_fragment){.place = OKO_WHOLE};
	if (!oko_is_extension(protocol))
		return protocol;
	walk.protocol = protocol;
	walk.offset = oko_offset(ctx, cursor);
	walk.end = walk.offset + cursor->left;
#pragma clang loop unroll(full)
	for (int count = 0; count < OKO_MAX_EXTENSIONS; count++) {
		step = oko_step_over_extension(ctx, &walk);
		if (step != OKO_STEP_ON)
			break;
	}
	if (step == OKO_STEP_CUT_OFF)
		return -1;
	fragment->place = walk.place;
	fragment->identification = walk.identification;
	cursor->pos = oko_position(ctx, walk.offset);
	cursor->left = (__u16)(walk.end - walk.offset);
	return walk.protocol;
}

#endif
