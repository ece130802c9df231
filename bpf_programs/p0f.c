/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Passive fingerprints of TCP SYNs, as p0f 3 takes them, for IPv4 and IPv6, also behind VLAN tags.
 *
 * A SYN matches if its signature, the one that p0f would name, is among the chosen ones; with `invert`, if it is not,
 * or if the SYN has none. SYN means SYN without ACK. A SYN that p0f does not look at (a first fragment, one behind
 * IPv6 extension headers, one with FIN or RST, a malformed one) has no signature. All other packets match if the
 * configuration says so.
 *
 * Signatures are data: `oko p0f load` writes those of p0f's database into one of two banks, and then makes that bank
 * the one in use, so that every packet sees either the old signatures or the new ones. Where p0f and its README differ,
 * this is what p0f does; docs/programs/p0f.md has the list. */
#include <stdbool.h>

#include <oko.h>

#define BANKS 2
#define BANK_SIZE 512	  /* signatures in a bank; the first is none, and counts the SYNs without a signature */
#define MAX_CANDIDATES 64 /* signatures of one layout */
#define MAX_OPTIONS 24	  /* that p0f looks at */
#define MAX_PADDING 39	  /* bytes behind an end of options that is the first */

enum quirk {
	QUIRK_DF = 1 << 0,	    /* IPv4: do not fragment */
	QUIRK_NONZERO_ID = 1 << 1,  /* IPv4: with it, an identification */
	QUIRK_ZERO_ID = 1 << 2,	    /* IPv4: without it, no identification */
	QUIRK_ECN = 1 << 3,	    /* a bit of explicit congestion notification, in IP or TCP */
	QUIRK_RESERVED = 1 << 4,    /* IPv4: the reserved flag */
	QUIRK_FLOW_LABEL = 1 << 5,  /* IPv6: a flow label */
	QUIRK_ZERO_SEQ = 1 << 6,    /* sequence number 0 */
	QUIRK_NONZERO_ACK = 1 << 7, /* an acknowledgement number, without ACK */
	QUIRK_ZERO_ACK = 1 << 8,    /* none, with ACK: never in a SYN */
	QUIRK_URGENT_POINTER = 1 << 9,
	QUIRK_URG = 1 << 10,
	QUIRK_PSH = 1 << 11,
	QUIRK_ZERO_TIMESTAMP = 1 << 12,	   /* the sender's own timestamp is 0 */
	QUIRK_PEER_TIMESTAMP = 1 << 13,	   /* the peer's is not */
	QUIRK_NONZERO_PADDING = 1 << 14,   /* something behind the end of options */
	QUIRK_EXCESSIVE_SCALE = 1 << 15,   /* a window scale beyond 14 */
	QUIRK_MALFORMED_OPTIONS = 1 << 16, /* a length that is wrong, or too many options */
};

#define MAY_BE_MISSING (QUIRK_DF | QUIRK_NONZERO_ID) /* in a fuzzy match */
#define MAY_BE_ADDED (QUIRK_ZERO_ID | QUIRK_ECN)

/* Which number of a SYN is compared with a signature's window. */
enum window_unit {
	UNIT_BYTES,
	UNIT_MSS, /* or what hosts take for it */
	UNIT_MTU,
	WINDOW_UNITS,
};

/* Headers that must be the same, of a packet in hand or of signatures. */
struct layout {
	__u64 kinds[3];	 /* of TCP options, a byte for each: the last one in the lowest byte of the first word */
	__u8 options;	 /* how many */
	__u8 padding;	 /* bytes behind OKO_TCP_END */
	__u8 ip_options; /* bytes */
	__u8 bank;
	__u8 pad[4];
};

/* Where in `signatures` those of a layout are, in the order of the database. */
struct candidates {
	__u16 first;
	__u16 count;
};

/* What must be the same in a SYN and a signature. */
struct traits {
	__u16 mss;
	__u8 scale;
	__u8 payload; /* 1 if there is some */
} __attribute__((aligned(4)));

/* A condition on SYNs of one layout. Written so that it takes few branches to compare with it; the bits of `mask`
 * count. */
struct signature {
	enum quirk quirks[2]; /* any of them; of IPv4, of IPv6 */
	struct traits traits;
	struct traits mask;
	enum window_unit window_unit;
	__u32 window_modulus; /* 0 for none */
	__u32 window;	      /* in `window_unit`, modulo `window_modulus` */
	__u32 window_mask;    /* 0 for any */
	__u32 exact_hops;     /* hops, the lost part of `ttl`, up to which a match is not fuzzy */
	__u32 most_hops;      /* up to which it is a match at all */
	__u8 ttl;	      /* as sent */
	bool generic;	      /* only if no other signature matches */
	bool tool;	      /* not of an operating system: no fuzzy match */
	bool chosen;
};

/* What people call a signature, for those who list them. */
struct signature_name {
	char label[64];
	char text[192];
};

struct p0f_config {
	__u32 bank;  /* of the signatures in use */
	bool invert; /* match SYNs that have none of the chosen signatures */
	bool others; /* match packets that are no SYNs */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BANKS *BANK_SIZE);
	__type(key, struct layout);
	__type(value, struct candidates);
} layouts SEC(".maps") OKO_VALUE(configuration);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BANKS *BANK_SIZE);
	__type(key, __u32);
	__type(value, struct signature);
} signatures SEC(".maps") OKO_KEY(index) OKO_VALUE(configuration);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BANKS *BANK_SIZE);
	__type(key, __u32);
	__type(value, struct signature_name);
} names SEC(".maps") OKO_KEY(index) OKO_VALUE(configuration);

/* SYNs that had a signature. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BANKS *BANK_SIZE);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps") OKO_KEY(index) OKO_VALUE(report);

OKO_CONFIG struct p0f_config config = {};

/* What p0f looks at in a SYN. The kernel's verifier follows constants that are stored at multiples of 8: what changes
 * from option to option must not be there, or each would be verified once for every way to it. */
struct syn {
	struct layout layout;
	__u16 pad;
	__u16 next;    /* option, in bytes from the start of the frame */
	__u16 end;     /* of the options, likewise */
	__u16 headers; /* bytes of IP and TCP */
	__u32 pad2;
	__u32 quirks;
	__u32 pad3;
	struct traits traits;
	__u16 pad4;
	__u16 window;
	__u8 ttl;
	__u8 version;	/* of IP */
	bool timestamp; /* not 0 */
	__u8 pad5;
};

/* A SYN whose signature is being looked for, and the indices of the first that matched in each way, 0 for none. */
struct search {
	struct syn syn;
	__u32 window[WINDOW_UNITS]; /* in each unit; NO_MULTIPLE where it is no multiple */
	__u32 exact;
	__u32 generic;
	__u32 fuzzy;
};

#define NO_MULTIPLE 0xffff

/* Of one packet, while it is in hand. In a map, for there the kernel's verifier has nothing to tell ways apart by, and
 * follows the walk over candidates once instead of once for every way through those before. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct search);
} searches SEC(".maps");

enum packet_kind {
	NO_SYN,
	OPAQUE_SYN, /* p0f does not look at it */
	PLAIN_SYN,
};

static __always_inline void add_kind(struct layout *layout, __u8 kind)
{
	layout->kinds[2] = layout->kinds[2] << 8 | layout->kinds[1] >> 56;
	layout->kinds[1] = layout->kinds[1] << 8 | layout->kinds[0] >> 56;
	layout->kinds[0] = layout->kinds[0] << 8 | kind;
	layout->options++;
}

/* An option of a kind that has one length, `size` in bytes. p0f reads it by that length, whatever it says its length
 * is. NULL if the header ends before. */
static __always_inline __u8 *fixed_option(struct xdp_md *ctx, struct syn *syn, __u32 left, __u32 size)
{
	__u8 *option = oko_bytes_at(ctx, syn->next, size);

	if (left < size || !option)
		return NULL;
	if (option[1] != size)
		syn->quirks |= QUIRK_MALFORMED_OPTIONS;
	return option;
}

/* The length of an option that says how long it is, 0 if that cannot be. */
static __always_inline __u32 variable_option(struct xdp_md *ctx, struct syn *syn, __u32 left, __u32 least, __u32 most)
{
	__u8 *option = oko_bytes_at(ctx, syn->next, 2);
	__u32 length;

	if (left < 2 || !option)
		return 0;
	length = option[1];
	return length < least || length > most || length > left ? 0 : length;
}

/* Take the next option; 0 if there is none, or none that can be stepped over: then `next` stays before `end`. */
static __noinline int take_option(struct xdp_md *ctx, struct syn *syn)
{
	__u32 offset = syn->next, left = syn->end - offset, length;
	__u8 *option = oko_bytes_at(ctx, offset, 1);
	__u8 kind;

	if (!left || !option)
		return 0;
	kind = option[0];
	add_kind(&syn->layout, kind);
	if (kind == OKO_TCP_END) {
		syn->layout.padding = left - 1;
		syn->next = syn->end;
		return 0;
	}
	if (kind == OKO_TCP_NOP) {
		length = 1;
	} else if (kind == OKO_TCP_MSS) {
		length = 4;
		option = fixed_option(ctx, syn, left, length);
		if (!option)
			return 0;
		syn->traits.mss = option[2] << 8 | option[3];
	} else if (kind == OKO_TCP_WINDOW_SCALE) {
		length = 3;
		option = fixed_option(ctx, syn, left, length);
		if (!option)
			return 0;
		syn->traits.scale = option[2];
		if (option[2] > 14)
			syn->quirks |= QUIRK_EXCESSIVE_SCALE;
	} else if (kind == OKO_TCP_SACK_PERMITTED) {
		length = 2;
		if (!fixed_option(ctx, syn, left, length))
			return 0;
	} else if (kind == OKO_TCP_TIMESTAMPS) {
		length = 10;
		option = fixed_option(ctx, syn, left, length);
		if (!option)
			return 0;
		syn->timestamp = *(__be32 *)(option + 2) != 0;
		if (!syn->timestamp)
			syn->quirks |= QUIRK_ZERO_TIMESTAMP;
		if (*(__be32 *)(option + 6))
			syn->quirks |= QUIRK_PEER_TIMESTAMP;
	} else {
		length = kind == OKO_TCP_SACK ? variable_option(ctx, syn, left, 10, 34)
					      : variable_option(ctx, syn, left, 2, 40);
		if (!length)
			return 0;
	}
	syn->next = offset + length;
	return 1;
}

/* TCP's part of a SYN, from a cursor at its header, which is `offset` bytes into the frame. 0 if it is not whole. */
static __always_inline int read_tcp(struct oko_cursor *cursor, __u32 offset, struct syn *syn)
{
	struct tcphdr *tcp = oko_parse_tcp(cursor);
	__u8 flags;

	if (!tcp)
		return 0;
	flags = oko_tcp_flags(tcp);
	syn->window = bpf_ntohs(tcp->window);
	syn->headers += tcp->doff * 4;
	syn->next = offset + sizeof(*tcp);
	syn->end = syn->next + tcp->doff * 4 - sizeof(*tcp);
	syn->traits.payload = cursor->left > tcp->doff * 4 - sizeof(*tcp);
	if (flags & (OKO_TCP_ECE | OKO_TCP_CWR) || ((__u8 *)tcp)[12] & 0x01) /* the latter is NS, RFC 3540 */
		syn->quirks |= QUIRK_ECN;
	if (!tcp->seq)
		syn->quirks |= QUIRK_ZERO_SEQ;
	if (((__u8 *)&tcp->ack_seq)[0] & 0x01) /* the one bit that p0f looks at */
		syn->quirks |= QUIRK_NONZERO_ACK;
	if (flags & OKO_TCP_URG)
		syn->quirks |= QUIRK_URG;
	else if (tcp->urg_ptr)
		syn->quirks |= QUIRK_URGENT_POINTER;
	if (flags & OKO_TCP_PSH)
		syn->quirks |= QUIRK_PSH;
	return 1;
}

/* Whether one of the bytes from `offset` on is not 0. p0f does not look at the last one before `end`. */
static __noinline int has_padding(struct xdp_md *ctx, __u32 offset, __u32 end)
{
#pragma clang loop unroll(full)
	for (int count = 0; count < MAX_PADDING - 1; count++, offset++) {
		__u8 *byte = oko_bytes_at(ctx, offset, 1);

		if (!byte || offset + 1 >= end)
			return 0;
		if (*byte)
			return 1;
	}
	return 0;
}

static __always_inline void read_options(struct xdp_md *ctx, struct syn *syn)
{
#pragma clang loop unroll(full)
	for (int count = 0; count < MAX_OPTIONS; count++)
		if (!take_option(ctx, syn))
			break;
	if (syn->next != syn->end)
		syn->quirks |= QUIRK_MALFORMED_OPTIONS;
	if (has_padding(ctx, syn->end - syn->layout.padding, syn->end))
		syn->quirks |= QUIRK_NONZERO_PADDING;
}

/* IPv4's part. 0 if TCP does not follow; `opaque` is set if p0f does not look at what follows. */
static __always_inline int read_ipv4(struct oko_cursor *cursor, struct syn *syn, bool *opaque)
{
	struct iphdr *ip = oko_parse_ipv4(cursor);

	if (!ip || ip->version != 4 || ip->protocol != IPPROTO_TCP || oko_is_later_fragment(ip))
		return 0;
	*opaque = oko_ipv4_fragment(ip).place != OKO_WHOLE;
	syn->version = 4;
	syn->ttl = ip->ttl;
	syn->headers = ip->ihl * 4;
	syn->layout.ip_options = ip->ihl * 4 - sizeof(*ip);
	if (ip->tos & 0x03)
		syn->quirks |= QUIRK_ECN;
	if (ip->frag_off & bpf_htons(0x8000))
		syn->quirks |= QUIRK_RESERVED;
	if (ip->frag_off & bpf_htons(0x4000))
		syn->quirks |= ip->id ? QUIRK_DF | QUIRK_NONZERO_ID : QUIRK_DF;
	else if (!ip->id)
		syn->quirks |= QUIRK_ZERO_ID;
	return 1;
}

/* The same of IPv6. */
static __always_inline int read_ipv6(struct xdp_md *ctx, struct oko_cursor *cursor, struct syn *syn, bool *opaque)
{
	struct ipv6hdr *ip = oko_parse_ipv6(cursor);
	struct oko_fragment fragment;
	__u32 first;

	if (!ip || ip->version != 6)
		return 0;
	first = bpf_ntohl(*(__be32 *)ip);
	syn->version = 6;
	syn->ttl = ip->hop_limit;
	syn->headers = sizeof(*ip);
	if (first & 0x00300000)
		syn->quirks |= QUIRK_ECN;
	if (first & 0x000fffff)
		syn->quirks |= QUIRK_FLOW_LABEL;
	if (ip->nexthdr == IPPROTO_TCP)
		return 1;
	*opaque = true;
	return oko_parse_ipv6_extensions(ctx, cursor, ip->nexthdr, &fragment) == IPPROTO_TCP;
}

/* What kind of packet this is; of a plain SYN, fill `syn`, which is zero. */
static __always_inline enum packet_kind read_packet(struct xdp_md *ctx, struct syn *syn)
{
	struct oko_cursor cursor = oko_cursor(ctx), ahead;
	bool opaque = false;
	__be16 eth_type;
	__u32 offset;
	__u8 *start, flags;

	if (!oko_parse_ethernet(&cursor, &eth_type))
		return NO_SYN;
	if (eth_type == bpf_htons(ETH_P_IP)) {
		if (!read_ipv4(&cursor, syn, &opaque))
			return NO_SYN;
	} else if (eth_type == bpf_htons(ETH_P_IPV6)) {
		if (!read_ipv6(ctx, &cursor, syn, &opaque))
			return NO_SYN;
	} else {
		return NO_SYN;
	}
	offset = oko_offset(ctx, &cursor);
	ahead = cursor;
	start = oko_parse_bytes(&ahead, 14); /* as far as the flags, which is what a first fragment may have */
	if (!start)
		return NO_SYN;
	flags = start[13];
	if ((flags & (OKO_TCP_SYN | OKO_TCP_ACK)) != OKO_TCP_SYN)
		return NO_SYN;
	if (opaque || flags & (OKO_TCP_FIN | OKO_TCP_RST) || !read_tcp(&cursor, offset, syn))
		return OPAQUE_SYN;
	read_options(ctx, syn);
	return PLAIN_SYN;
}

/* Whether the window is a multiple of `size` in bytes; then how often, in `unit`. */
static __always_inline int is_multiple(struct search *search, __u32 size, enum window_unit unit)
{
	__u32 window = search->window[UNIT_BYTES];

	if (window % size)
		return 0;
	search->window[unit] = window / size;
	return 1;
}

#define HEADERS_IPV4 40 /* bytes of IP and TCP, without options */
#define HEADERS_IPV6 60
#define TIMESTAMPS 12 /* bytes that hosts take off an MSS for them */
#define ETHERNET_MTU 1500

/* Find what the window is a multiple of, in p0f's order: the MSS, with or without timestamps, then that of Ethernet,
 * then the MTU that belongs to the MSS, by several ways to count headers, then that of Ethernet. Always 0. */
static __noinline int find_multiple(struct search *search)
{
	const struct syn *syn = &search->syn;
	__u32 mss = syn->traits.mss;

	search->window[UNIT_BYTES] = syn->window;
	search->window[UNIT_MSS] = NO_MULTIPLE;
	search->window[UNIT_MTU] = NO_MULTIPLE;
	if (!syn->window || mss < 100 || is_multiple(search, mss, UNIT_MSS))
		return 0;
	if (syn->timestamp && is_multiple(search, mss - TIMESTAMPS, UNIT_MSS))
		return 0;
	if (is_multiple(search, ETHERNET_MTU - HEADERS_IPV4, UNIT_MSS) ||
	    is_multiple(search, ETHERNET_MTU - HEADERS_IPV4 - TIMESTAMPS, UNIT_MSS))
		return 0;
	if (syn->version == 6 && (is_multiple(search, ETHERNET_MTU - HEADERS_IPV6, UNIT_MSS) ||
				  is_multiple(search, ETHERNET_MTU - HEADERS_IPV6 - TIMESTAMPS, UNIT_MSS)))
		return 0;
	if (is_multiple(search, mss + HEADERS_IPV4, UNIT_MTU) || is_multiple(search, mss + syn->headers, UNIT_MTU))
		return 0;
	if (syn->version == 6 && is_multiple(search, mss + HEADERS_IPV6, UNIT_MTU))
		return 0;
	is_multiple(search, ETHERNET_MTU, UNIT_MTU);
	return 0;
}

static __always_inline __u32 bits(const struct traits *traits)
{
	__u32 bits;

	__builtin_memcpy(&bits, traits, sizeof(bits));
	return bits;
}

/* See whether a signature matches, and take down if it is the first of its kind. 1 if there is no need to go on. */
static __noinline int consider(struct search *search, __u32 index)
{
	struct signature *signature = bpf_map_lookup_elem(&signatures, &index);
	const struct syn *syn = &search->syn;
	__u32 wanted, missing, added, hops, unit, window;

	if (!signature)
		return 1;
	wanted = signature->quirks[syn->version == 6];
	missing = wanted & ~syn->quirks;
	added = syn->quirks & ~wanted;
	if ((bits(&syn->traits) ^ bits(&signature->traits)) & bits(&signature->mask) || missing & ~MAY_BE_MISSING ||
	    added & ~MAY_BE_ADDED)
		return 0;
	hops = (__u32)signature->ttl - syn->ttl; /* huge if more are left than were sent */
	if (hops > signature->most_hops)
		return 0;
	unit = signature->window_unit;
	if (unit >= WINDOW_UNITS)
		return 0;
	window = search->window[unit];
	if (signature->window_modulus)
		window %= signature->window_modulus;
	if ((window ^ signature->window) & signature->window_mask)
		return 0;
	if (missing | added || hops > signature->exact_hops) {
		if (!search->fuzzy)
			search->fuzzy = index;
		return 0;
	}
	if (signature->generic) {
		if (!search->generic)
			search->generic = index;
		return 0;
	}
	search->exact = index;
	return 1;
}

/* The index of the signature that p0f would name, 0 for none. */
static __always_inline __u32 find_signature(const struct syn *syn)
{
	struct candidates *candidates = bpf_map_lookup_elem(&layouts, &syn->layout);
	struct signature *signature;
	struct search *search;
	__u32 index = 0;

	search = bpf_map_lookup_elem(&searches, &index);
	if (!candidates || !search)
		return 0;
	*search = (struct search){.syn = *syn};
	find_multiple(search);
#pragma clang loop unroll(full)
	for (int count = 0; count < MAX_CANDIDATES; count++)
		if (count >= candidates->count || consider(search, candidates->first + count))
			break;
	if (search->exact)
		return search->exact;
	if (search->generic)
		return search->generic;
	index = search->fuzzy;
	signature = bpf_map_lookup_elem(&signatures, &index);
	return signature && !signature->tool ? index : 0;
}

SEC("filter")
int p0f(struct xdp_md *ctx)
{
	__u32 bank = config.bank % BANKS, index = 0;
	struct signature *signature;
	struct syn syn = {};
	enum packet_kind kind;
	__u64 *count;

	kind = read_packet(ctx, &syn);
	if (kind == NO_SYN)
		return config.others ? OKO_MATCH : OKO_NO_MATCH;
	syn.layout.bank = bank;
	if (kind == PLAIN_SYN)
		index = find_signature(&syn);
	if (!index)
		index = bank * BANK_SIZE;
	count = bpf_map_lookup_elem(&counts, &index);
	if (count)
		(*count)++;
	signature = bpf_map_lookup_elem(&signatures, &index);
	return (signature && signature->chosen) != config.invert ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
