/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* TCP and its options, UDP, and ICMP of both versions. */
#ifndef OKO_TRANSPORT_H
#define OKO_TRANSPORT_H

#include <linux/in.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>

#include "oko_cursor.h"
#include "oko_ip.h"

/* The first bytes of TCP, UDP and SCTP, which may be all that an ICMP error quotes of them. */
struct oko_ports {
	__be16 source;
	__be16 dest;
};

static __always_inline struct oko_ports *oko_parse_ports(struct oko_cursor *cursor)
{
	return oko_parse_bytes(cursor, sizeof(struct oko_ports));
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

/* The flags of TCP (RFC 9293, section 3.1; RFC 3168, section 6.1). */
#define OKO_TCP_FIN 0x01
#define OKO_TCP_SYN 0x02
#define OKO_TCP_RST 0x04
#define OKO_TCP_PSH 0x08
#define OKO_TCP_ACK 0x10
#define OKO_TCP_URG 0x20
#define OKO_TCP_ECE 0x40
#define OKO_TCP_CWR 0x80

/* All of them in one byte. */
static __always_inline __u8 oko_tcp_flags(const struct tcphdr *tcp)
{
	return ((const __u8 *)tcp)[13];
}

/* Kinds of TCP options (RFC 9293, section 3.2; RFC 7323; RFC 2018). */
#define OKO_TCP_END 0
#define OKO_TCP_NOP 1
#define OKO_TCP_MSS 2
#define OKO_TCP_WINDOW_SCALE 3
#define OKO_TCP_SACK_PERMITTED 4
#define OKO_TCP_SACK 5
#define OKO_TCP_TIMESTAMPS 8

#define OKO_MAX_TCP_OPTIONS 40 /* that a header can hold: each a single byte */

/* The options of a segment, and the one in hand. The members that change are not at a multiple of 8, for the reason
 * given at struct oko_extension_walk. */
struct oko_tcp_options {
	__u16 pad;
	__u16 end;    /* of the options, in bytes from the start of the frame */
	__u16 next;   /* the option after the one in hand, likewise */
	__u16 offset; /* of the one in hand, likewise */
	__u16 pad2;
	__u8 kind;
	__u8 length; /* in bytes, kind and length included; of OKO_TCP_END, with the padding behind it */
};

/* The options behind `tcp`, none in hand yet. The cursor, which must be where oko_parse_tcp() left it, goes to the
 * payload. */
static __always_inline struct oko_tcp_options oko_parse_tcp_options(struct xdp_md *ctx, struct oko_cursor *cursor,
								    const struct tcphdr *tcp)
{
	__u64 length = tcp->doff * 4 - sizeof(*tcp);
	__u32 offset = oko_offset(ctx, cursor);

	cursor->pos += length;
	cursor->left -= length;
	return (struct oko_tcp_options){.end = offset + length, .next = offset};
}

/* Take the next option in hand: 1 if there is one, 0 at the end, -1 if what is left is none (a length that is too small
 * or beyond the header). After OKO_TCP_END comes the end.
 *
 * A function of its own, so that a loop over options is OKO_MAX_TCP_OPTIONS calls, not copies. What the loop does with
 * an option is best in such a function, too:
 *
 *	#pragma clang loop unroll(full)
 *	for (int count = 0; count < OKO_MAX_TCP_OPTIONS; count++)
 *		if (oko_next_tcp_option(ctx, &options) <= 0)
 *			break;
 */
static inline __noinline int oko_next_tcp_option(struct xdp_md *ctx, struct oko_tcp_options *options)
{
	__u32 offset = options->next;
	__u32 left = options->end - offset;
	__u8 *option;
	__u32 length;

	if (!left)
		return 0;
	option = oko_bytes_at(ctx, offset, 1);
	if (!option)
		return -1;
	if (option[0] == OKO_TCP_END) {
		length = left;
	} else if (option[0] == OKO_TCP_NOP) {
		length = 1;
	} else {
		if (left < 2 || (void *)option + 2 > (void *)(long)ctx->data_end)
			return -1;
		length = option[1];
		if (length < 2 || length > left)
			return -1;
	}
	options->kind = option[0];
	options->length = length;
	options->offset = offset;
	options->next = offset + length;
	return 1;
}

/* The `size` bytes (a constant) of the option in hand behind its kind and length; NULL unless it has so many, no more
 * and no less. */
static __always_inline void *oko_tcp_option_value(struct xdp_md *ctx, const struct oko_tcp_options *options, __u64 size)
{
	if (options->length != 2 + size)
		return NULL;
	return oko_bytes_at(ctx, options->offset + 2, size);
}

/* UDP (RFC 768). Its length field is not checked. */
static __always_inline struct udphdr *oko_parse_udp(struct oko_cursor *cursor)
{
	return oko_parse_bytes(cursor, sizeof(struct udphdr));
}

/* The first 8 bytes of an ICMP or ICMPv6 message (RFC 792, RFC 4443). `identifier` and `sequence` are those of echo
 * and its reply; other types use these 4 bytes otherwise. (<linux/icmp.h> needs the headers of a C library.) */
struct oko_icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
	__be16 sequence;
};

#define OKO_ICMP_ECHO_REPLY 0
#define OKO_ICMP_UNREACHABLE 3
#define OKO_ICMP_SOURCE_QUENCH 4
#define OKO_ICMP_REDIRECT 5
#define OKO_ICMP_ECHO 8
#define OKO_ICMP_TIME_EXCEEDED 11
#define OKO_ICMP_PARAMETER_PROBLEM 12

#define OKO_ICMPV6_UNREACHABLE 1
#define OKO_ICMPV6_TOO_BIG 2
#define OKO_ICMPV6_TIME_EXCEEDED 3
#define OKO_ICMPV6_PARAMETER_PROBLEM 4
#define OKO_ICMPV6_ECHO 128
#define OKO_ICMPV6_ECHO_REPLY 129

/* Of either version: the protocol number of IP says which. */
static __always_inline struct oko_icmp *oko_parse_icmp(struct oko_cursor *cursor)
{
	return oko_parse_bytes(cursor, sizeof(struct oko_icmp));
}

/* Whether the message is an error: then the packet that it is about follows, perhaps cut off, from its IPv4 header on
 * (RFC 792; oko_parse_quoted_ipv4()). A redirect is none, though it quotes a packet, too. */
static __always_inline int oko_is_icmp_error(const struct oko_icmp *icmp)
{
	return icmp->type == OKO_ICMP_UNREACHABLE || icmp->type == OKO_ICMP_SOURCE_QUENCH ||
	       icmp->type == OKO_ICMP_TIME_EXCEEDED || icmp->type == OKO_ICMP_PARAMETER_PROBLEM;
}

/* Whether the message is an error, which all types below 128 are (RFC 4443, section 2.1): then the packet that it is
 * about follows, perhaps cut off, from its IPv6 header on (oko_parse_quoted_ipv6()). */
static __always_inline int oko_is_icmpv6_error(const struct oko_icmp *icmp)
{
	return icmp->type < 128;
}

#endif
