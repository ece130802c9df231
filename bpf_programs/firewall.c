/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A connection-tracking firewall for IPv4 and IPv6, also behind VLAN tags.
 *
 * A packet matches if it belongs to a tracked connection, starts one from a port that may open connections, or is an
 * ICMP error about a packet of one. Nothing else matches: not ARP or neighbour discovery (write rules for them), not a
 * malformed packet, not a segment outside of the window. docs/programs/firewall.md says it in full.
 *
 * TCP is followed through the states of RFC 9293 as a host in the middle can see them, with sequence numbers. Of UDP,
 * ICMP queries and all other protocols there is only who asked and whether somebody answered.
 *
 * An entry has a slot: that of a connection that is being opened in one ring, where the newest takes the place of the
 * oldest; that of an established one in another, which gives a place away only when its connection has expired, or if
 * the configuration says so. A flood of SYNs moves through the first ring and never gets to the second. */
#include <oko.h>

#define SECOND 1000000000ULL
#define PORTS 64 /* of the bits in settings.openers */

#define OPENING_SLOTS 32768
#define ESTABLISHED_SLOTS 131072
#define PROBES 8 /* slots that are looked at for one whose connection has expired */

#define FRAGMENT_TIMEOUT (30 * SECOND)
#define FRAGMENTS 16384

#define LEAST_TCP_HEADER 20
#define LONGEST_PACKET 65535
#define LEAST_ACK_WINDOW 66000 /* an ACK that is older by no more is taken for a late one */
#define LARGEST_SCALE 14       /* RFC 7323, section 2.3 */

enum connection_state {
	NONE,		  /* no packet was tracked yet, or the last one ended it */
	SYN_SENT,	  /* TCP: the opener's SYN */
	SYN_SENT_BY_BOTH, /* TCP: and one of the other side: a simultaneous open */
	SYN_RECEIVED,	  /* TCP: the other side's SYN|ACK */
	ESTABLISHED,	  /* TCP: the opener acknowledged that */
	FIN_WAIT,	  /* TCP: a FIN from one side */
	CLOSE_WAIT,	  /* TCP: that was acknowledged */
	LAST_ACK,	  /* TCP: a FIN from both sides */
	TIME_WAIT,	  /* TCP: both acknowledged */
	CLOSED,		  /* TCP: a RST */
	UNREPLIED,	  /* others: packets from the opener only */
	REPLIED,	  /* others: packets from both sides */
	DELETED,	  /* the entry is being taken out of the map */
};

/* Seconds after the last packet until an entry counts as absent; in the order of enum connection_state, from SYN_SENT
 * to REPLIED, and for what has no ports. */
struct timeouts {
	__u32 syn_sent;
	__u32 syn_sent_by_both;
	__u32 syn_received;
	__u32 established;
	__u32 fin_wait;
	__u32 close_wait;
	__u32 last_ack;
	__u32 time_wait;
	__u32 closed;
	__u32 udp_unreplied;
	__u32 udp_replied;
	__u32 icmp;
	__u32 other;
};

enum when_full {
	REFUSE_NEW,	      /* the packet that would establish one more connection does not match */
	EVICT_NEXT_TO_EXPIRE, /* of PROBES connections */
};

struct firewall_settings {
	__u64 openers;	   /* bit N: OpenFlow port N may open connections */
	__u32 established; /* connections at most, up to ESTABLISHED_SLOTS */
	enum when_full when_full;
	struct timeouts timeout;
	__u32 pad;
};

/* The timeouts are those of Linux. */
OKO_CONFIG struct firewall_settings config = {
    .openers = 1 << 1,
    .established = ESTABLISHED_SLOTS,
    .when_full = REFUSE_NEW,
    .timeout =
	{
	    .syn_sent = 120,
	    .syn_sent_by_both = 120,
	    .syn_received = 60,
	    .established = 5 * 24 * 60 * 60,
	    .fin_wait = 120,
	    .close_wait = 60,
	    .last_ack = 30,
	    .time_wait = 120,
	    .closed = 10,
	    .udp_unreplied = 30,
	    .udp_replied = 120,
	    .icmp = 30,
	    .other = 600,
	},
};

/* What one side of a TCP connection has sent, and what it may send. Numbers are sequence numbers of that side, and
 * window sizes in bytes, scaled. */
struct side {
	__u32 end;    /* behind the last byte that it sent */
	__u32 limit;  /* behind the last byte that the other side has room for */
	__u32 window; /* the largest that it offered; 0: it has sent nothing yet */
	__u32 acked;  /* the largest acknowledgement that it sent */
	__u8 scale;   /* of its windows, as a shift */
	_Bool scales; /* its SYN had a window scale */
	_Bool sacks;  /* its SYN permitted selective acknowledgements */
	_Bool has_acked;
	_Bool finished;	 /* it sent a FIN; then `end` is behind that */
	_Bool fragments; /* it sent a segment in fragments, so that it may be up to LONGEST_PACKET ahead of `end` */
	__u8 pad[2];
};

/* The last TCP segment that was let through, also one that did not fit into the state: the hosts may understand it
 * better than a host in the middle, and the answer will tell. */
struct last {
	__u32 end;
	__u32 ack;
	__u16 window;
	__u8 kind; /* enum kind */
	__u8 sender;
	__u8 scale;
	_Bool scales;
	_Bool sacks;
	__u8 pad;
};

/* Sides are indices into the key's addr and port. */
struct connection {
	struct bpf_spin_lock lock;
	__u32 identity; /* of the key: says whether the kernel has given this memory to another entry meanwhile */
	oko_time last_seen;
	__u64 packets[2]; /* from each side */
	__u64 bytes[2];	  /* of IP, headers included */
	enum connection_state state;
	__u32 slot;
	struct side side[2];
	struct last last;
	__u8 opener; /* the side that opened */
	_Bool replied;
	_Bool assured; /* TCP: it was established */
	_Bool simultaneous;
	__u8 pad[4];
};

/* The lower (address, port) is first, so that both directions have one key. Of an ICMP query the requester's port is
 * the identifier, the other one is 0 for an echo; of other protocols both are 0. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OPENING_SLOTS + ESTABLISHED_SLOTS + 64); /* some are replaced on several CPUs at once */
	__type(key, struct oko_flow);
	__type(value, struct connection);
} connections SEC(".maps") OKO_KEY(flow) OKO_VALUE(flow_state);

/* Both rings: the connection that has the slot, or had it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, OPENING_SLOTS + ESTABLISHED_SLOTS);
	__type(key, __u32);
	__type(value, struct oko_flow);
} slots SEC(".maps") OKO_KEY(index) OKO_VALUE(shared_state);

struct rings {
	__u64 opened;  /* slots of opening connections that were given away */
	__u64 probed;  /* slots of established ones that were looked at */
	__u64 evicted; /* established connections that made room for others */
	__u64 refused; /* packets, because there was no room */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rings);
} rings SEC(".maps") OKO_KEY(index) OKO_VALUE(report);

/* Packets whose first fragment came; of those from a port that may not open connections only if it matched, so that
 * nobody there can push out others. */
struct fragment_key {
	oko_ip source;
	oko_ip dest;
	__be32 identification;
	oko_ip_protocol protocol;
	__u8 pad[3];
};

struct fragment {
	oko_time first_seen;
	_Bool matched;
	__u8 pad[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FRAGMENTS);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragments SEC(".maps") OKO_VALUE(shared_state);

/* A segment by its flags; the order is of no meaning. */
enum kind {
	OTHER, /* not TCP */
	SYN,
	SYN_ACK,
	FIN,
	ACK,
	RST,
};

/* What the firewall knows of a packet. */
struct packet {
	struct oko_flow key;
	__u32 seq; /* TCP, all in host order */
	__u32 ack;
	__u32 sack;	       /* the end of the highest block that is selectively acknowledged, or `ack` */
	__u32 length;	       /* in sequence numbers: SYN and FIN are one each */
	__be32 identification; /* of a fragment */
	__u16 window;
	__u16 bytes; /* of IP, headers included */
	__u8 sender; /* the side that sent it */
	__u8 kind;
	__u8 place; /* enum oko_place */
	__u8 scale;
	_Bool scales;
	_Bool sacks;
	_Bool starts; /* whether it may start a connection */
	_Bool quoted; /* this is not the packet itself, but that which the ICMP error in it is about */
	_Bool has_ack;
	__u8 pad[3];
};

/* The packet in hand: the stack has no room for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps") OKO_KEY(index) OKO_VALUE(shared_state);

static __always_inline int is_before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

static __always_inline int is_after(__u32 a, __u32 b)
{
	return is_before(b, a);
}

/* The kind of a segment, OTHER if no TCP sends such (RFC 9293, section 3.10.7); PSH, ECE and CWR are free, and URG with
 * what may carry data. */
static __always_inline enum kind kind_of(__u8 flags)
{
	__u8 control = flags & (OKO_TCP_FIN | OKO_TCP_SYN | OKO_TCP_RST | OKO_TCP_ACK);
	int urgent = flags & OKO_TCP_URG;

	if (control == OKO_TCP_SYN)
		return SYN;
	if (control == OKO_TCP_ACK)
		return ACK;
	if (control == (OKO_TCP_FIN | OKO_TCP_ACK))
		return FIN;
	if (urgent)
		return OTHER;
	if (control == (OKO_TCP_SYN | OKO_TCP_ACK))
		return SYN_ACK;
	return control == OKO_TCP_RST || control == (OKO_TCP_RST | OKO_TCP_ACK) ? RST : OTHER;
}

static __always_inline void note_ports(const struct oko_ports *ports, struct packet *packet)
{
	packet->key.port[0] = ports->source;
	packet->key.port[1] = ports->dest;
}

/* Take down the option in hand. */
static __noinline int note_option(struct xdp_md *ctx, const struct oko_tcp_options *options, struct packet *packet)
{
	__be32 *block;
	__u8 *scale;

	if (options->kind == OKO_TCP_WINDOW_SCALE) {
		scale = oko_tcp_option_value(ctx, options, 1);
		if (!scale)
			return 0;
		packet->scale = *scale < LARGEST_SCALE ? *scale : LARGEST_SCALE;
		packet->scales = 1;
	} else if (options->kind == OKO_TCP_SACK_PERMITTED) {
		packet->sacks = 1;
	} else if (options->kind == OKO_TCP_SACK) {
#pragma clang loop unroll(full)
		for (__u32 number = 0; number < 4; number++) {
			if (options->length < 2 + 8 * (number + 1))
				break;
			block = oko_bytes_at(ctx, options->offset + 2 + 8 * number, 8);
			if (!block)
				break;
			if (is_after(bpf_ntohl(block[1]), packet->sack))
				packet->sack = bpf_ntohl(block[1]);
		}
	}
	return 0;
}

static __always_inline void note_options(struct xdp_md *ctx, struct oko_cursor *cursor, const struct tcphdr *tcp,
					 struct packet *packet)
{
	struct oko_tcp_options options = oko_parse_tcp_options(ctx, cursor, tcp);

#pragma clang loop unroll(full)
	for (int count = 0; count < OKO_MAX_TCP_OPTIONS; count++) {
		if (oko_next_tcp_option(ctx, &options) <= 0)
			break;
		note_option(ctx, &options, packet);
	}
}

static __always_inline int parse_tcp(struct xdp_md *ctx, struct oko_cursor *cursor, struct packet *packet)
{
	struct tcphdr *tcp = oko_parse_tcp(cursor);
	__u8 flags;

	if (!tcp)
		return 0;
	flags = oko_tcp_flags(tcp);
	packet->kind = kind_of(flags);
	if (packet->kind == OTHER)
		return 0;
	packet->starts = packet->kind == SYN;
	packet->has_ack = (flags & OKO_TCP_ACK) != 0;
	packet->seq = bpf_ntohl(tcp->seq);
	packet->ack = bpf_ntohl(tcp->ack_seq);
	packet->sack = packet->ack;
	packet->window = bpf_ntohs(tcp->window);
	packet->length = cursor->left - (tcp->doff * 4 - sizeof(*tcp));
	if (flags & (OKO_TCP_SYN | OKO_TCP_FIN))
		packet->length++;
	note_ports((struct oko_ports *)tcp, packet);
	if (tcp->doff * 4 > sizeof(*tcp))
		note_options(ctx, cursor, tcp, packet);
	return 1;
}

static __always_inline int parse_udp(struct oko_cursor *cursor, struct packet *packet)
{
	__u64 left = cursor->left;
	struct udphdr *udp = oko_parse_udp(cursor);
	__u16 length;

	if (!udp)
		return 0;
	length = bpf_ntohs(udp->len);
	if (length < sizeof(*udp) || (packet->place == OKO_WHOLE && length > left))
		return 0;
	packet->starts = 1;
	note_ports((struct oko_ports *)udp, packet);
	return 1;
}

/* The query of a reply, by its type; the type itself for a query, -1 for what is neither. */
static __always_inline int icmp_query(__u8 type)
{
	if (type == 0 || type == 8)
		return 8;
	if (type == 13 || type == 15 || type == 17)
		return type;
	return type == 14 || type == 16 || type == 18 ? type - 1 : -1;
}

static __always_inline int icmpv6_query(__u8 type)
{
	if (type == 128 || type == 129)
		return 128;
	return type == 139 || type == 140 ? 139 : -1;
}

/* An ICMP query or its reply. Types and codes are told apart by the port that is not the identifier; that of an echo
 * is 0. */
static __always_inline int parse_icmp(const struct oko_icmp *icmp, struct packet *packet)
{
	int is_v6 = packet->key.protocol == IPPROTO_ICMPV6;
	int query = is_v6 ? icmpv6_query(icmp->type) : icmp_query(icmp->type);
	__be16 which;

	if (query < 0)
		return 0;
	which = bpf_htons((query & 7) << 8 | icmp->code); /* three bits tell all queries apart */
	packet->starts = query == icmp->type;
	packet->key.port[0] = packet->starts ? icmp->identifier : which;
	packet->key.port[1] = packet->starts ? which : icmp->identifier;
	return 1;
}

/* Whether the first end is lower, or the same. */
static __always_inline int is_in_order(const struct oko_flow *key)
{
#pragma clang loop unroll(full)
	for (int word = 0; word < 4; word++)
		if (key->addr[0].word[word] != key->addr[1].word[word])
			return bpf_ntohl(key->addr[0].word[word]) < bpf_ntohl(key->addr[1].word[word]);
	return bpf_ntohs(key->port[0]) <= bpf_ntohs(key->port[1]);
}

/* Bring the ends in the key, which are source and destination so far, into their order. */
static __noinline int order(struct packet *packet)
{
	struct oko_flow *key = &packet->key;
	oko_ip source = key->addr[0];
	__be16 port = key->port[0];

	packet->sender = !is_in_order(key);
	if (packet->sender) {
		key->addr[0] = key->addr[1];
		key->port[0] = key->port[1];
		key->addr[1] = source;
		key->port[1] = port;
	}
	return 0;
}

static __always_inline int is_same(const oko_ip *a, const oko_ip *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

/* The packet that an ICMP error quotes, from its IP header on: which connection it is of, and who sent it. The error
 * must be for that one. */
static __always_inline int parse_quoted(struct xdp_md *ctx, struct oko_cursor *cursor, struct packet *packet)
{
	oko_ip receiver = packet->key.addr[1];
	struct oko_fragment fragment;
	struct oko_ports *quoted;
	struct oko_icmp *icmp;
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;
	int protocol;

	if (packet->key.protocol == IPPROTO_ICMP) {
		ipv4 = oko_parse_quoted_ipv4(cursor);
		if (!ipv4)
			return 0;
		fragment = oko_ipv4_fragment(ipv4);
		protocol = ipv4->protocol;
		packet->key.addr[0] = oko_ip_of_ipv4(ipv4->saddr);
		packet->key.addr[1] = oko_ip_of_ipv4(ipv4->daddr);
	} else {
		ipv6 = oko_parse_quoted_ipv6(cursor);
		if (!ipv6)
			return 0;
		packet->key.addr[0] = oko_ip_of_ipv6(&ipv6->saddr);
		packet->key.addr[1] = oko_ip_of_ipv6(&ipv6->daddr);
		protocol = oko_parse_ipv6_extensions(ctx, cursor, ipv6->nexthdr, &fragment);
	}
	if (protocol < 0 || fragment.place == OKO_LATER_FRAGMENT || !is_same(&receiver, &packet->key.addr[0]))
		return 0;
	packet->quoted = 1;
	packet->key.protocol = protocol;
	if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) {
		quoted = oko_parse_ports(cursor);
		if (quoted)
			note_ports(quoted, packet);
		return quoted != NULL;
	}
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
		icmp = oko_parse_icmp(cursor);
		return icmp && parse_icmp(icmp, packet);
	}
	return 1;
}

/* The IP header and its extensions: return the protocol of what follows, -1 if there is nothing to look at. */
static __always_inline int parse_ip(struct xdp_md *ctx, struct oko_cursor *cursor, struct packet *packet)
{
	struct oko_fragment fragment;
	__be16 eth_type, offset = 0;
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;
	__u8 *header;
	int protocol;

	if (!oko_parse_ethernet(cursor, &eth_type))
		return -1;
	if (eth_type == bpf_htons(ETH_P_IP)) {
		ipv4 = oko_parse_ipv4(cursor);
		if (!ipv4 || *(__u8 *)ipv4 >> 4 != 4)
			return -1;
		packet->bytes = bpf_ntohs(ipv4->tot_len);
		packet->key.addr[0] = oko_ip_of_ipv4(ipv4->saddr);
		packet->key.addr[1] = oko_ip_of_ipv4(ipv4->daddr);
		fragment = oko_ipv4_fragment(ipv4);
		protocol = ipv4->protocol;
		offset = bpf_htons(bpf_ntohs(ipv4->frag_off) << 3);
	} else if (eth_type == bpf_htons(ETH_P_IPV6)) {
		ipv6 = oko_parse_ipv6(cursor);
		if (!ipv6 || *(__u8 *)ipv6 >> 4 != 6)
			return -1;
		packet->bytes = sizeof(*ipv6) + bpf_ntohs(ipv6->payload_len);
		packet->key.addr[0] = oko_ip_of_ipv6(&ipv6->saddr);
		packet->key.addr[1] = oko_ip_of_ipv6(&ipv6->daddr);
		protocol = oko_parse_ipv6_extensions(ctx, cursor, ipv6->nexthdr, &fragment);
		if (fragment.place == OKO_LATER_FRAGMENT) {
			header = oko_parse_bytes(cursor, OKO_LEAST_EXTENSION);
			if (!header)
				return -1;
			protocol = header[0];
			offset = *(__be16 *)(header + 2) & bpf_htons(0xfff8);
		}
	} else {
		return -1;
	}
	packet->place = fragment.place;
	packet->identification = fragment.identification;
	/* What would write over the header that was judged (RFC 1858, section 3). */
	if (fragment.place == OKO_LATER_FRAGMENT && protocol == IPPROTO_TCP && bpf_ntohs(offset) < LEAST_TCP_HEADER)
		return -1;
	return protocol;
}

/* Return whether this is a packet that a connection may have; if so, fill `packet`, which is zero. The key of a later
 * fragment is not in order and has no ports. */
static __noinline int parse(struct xdp_md *ctx, struct packet *packet)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	int protocol = parse_ip(ctx, &cursor, packet);
	struct oko_icmp *icmp;
	int known = 1;

	if (protocol < 0)
		return 0;
	packet->key.protocol = protocol;
	if (packet->place == OKO_LATER_FRAGMENT)
		return 1;
	if (protocol == IPPROTO_TCP) {
		known = parse_tcp(ctx, &cursor, packet);
	} else if (protocol == IPPROTO_UDP) {
		known = parse_udp(&cursor, packet);
	} else if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
		icmp = oko_parse_icmp(&cursor);
		if (!icmp)
			return 0;
		if (protocol == IPPROTO_ICMP ? oko_is_icmp_error(icmp) : oko_is_icmpv6_error(icmp))
			known = parse_quoted(ctx, &cursor, packet);
		else
			known = parse_icmp(icmp, packet);
	} else {
		packet->starts = 1;
	}
	if (known)
		order(packet);
	return known;
}

/* Whether the port that the packet came in by may open connections. */
static __always_inline int may_open(struct xdp_md *ctx)
{
	__u32 port = oko_in_port(ctx);

	return port < PORTS && (config.openers >> port & 1);
}

static __always_inline __u32 identity_of(const struct oko_flow *key)
{
	const __u32 *word = (const __u32 *)key;
	__u32 sum = 0;

#pragma clang loop unroll(full)
	for (__u32 index = 0; index < sizeof(*key) / sizeof(*word); index++)
		sum = sum * 31 + word[index];
	return sum;
}

/* Seconds. */
static __always_inline __u32 timeout_of(__u32 state, __u8 protocol)
{
	const __u32 *timeouts = (const __u32 *)&config.timeout;
	/* Of NONE it is beyond all. (Linux 6.1 learns no bound from a comparison with NONE itself.) */
	__u64 index = (__u64)state - SYN_SENT;

	barrier_var(index); /* else compilers compare the state */
	if (index < UNREPLIED - SYN_SENT)
		return timeouts[index];
	if (state == NONE || state >= DELETED)
		return 0;
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
		return config.timeout.icmp;
	if (protocol != IPPROTO_UDP)
		return config.timeout.other;
	return state == REPLIED ? config.timeout.udp_replied : config.timeout.udp_unreplied;
}

/* How long the connection may stay as it is, in ns; not positive if it has expired. Another CPU may have seen a later
 * packet first: then it is longer than the timeout. */
static __always_inline __s64 rest_of(const struct connection *connection, __u8 protocol, __u64 now)
{
	return connection->last_seen + timeout_of(connection->state, protocol) * SECOND - now;
}

enum treatment {
	INVALID, /* no match */
	IGNORED, /* a match that changes nothing: the hosts know better */
	CHECKED, /* a match if it is in the window */
};

/* What may come in which state. */
static __always_inline enum treatment treatment_of(__u8 kind, __u32 state, int from_opener)
{
	if (kind == RST)
		return state == NONE ? INVALID : CHECKED;
	if (kind == SYN) {
		if (state <= SYN_SENT_BY_BOTH)
			return CHECKED;
		/* From a host that has lost its state; the other's answer will settle it (RFC 9293, section 3.5.1). */
		return from_opener ? IGNORED : INVALID;
	}
	if (kind == SYN_ACK) {
		if (from_opener)
			return state == SYN_SENT_BY_BOTH || state == SYN_RECEIVED ? CHECKED : INVALID;
		return state <= SYN_SENT_BY_BOTH ? CHECKED : IGNORED;
	}
	if (state > SYN_SENT_BY_BOTH)
		return CHECKED;
	/* The other side has a connection left of which the opener knows nothing any more: its RST will end it. */
	return kind == ACK && !from_opener ? IGNORED : INVALID;
}

/* What a SYN or SYN|ACK says of its sender. */
static __always_inline void begin_side(struct side *sender, struct side *receiver, const struct packet *packet,
				       int from_opener)
{
	*sender = (struct side){
	    .end = packet->seq + packet->length,
	    .limit = packet->seq + packet->length,
	    .window = packet->window ? packet->window : 1,
	    .scale = packet->scale,
	    .scales = packet->scales,
	    .sacks = packet->sacks,
	    .fragments = sender->fragments,
	};
	/* Windows are scaled only if both sides say so (RFC 7323, section 2.2). */
	if (!from_opener && !(sender->scales && receiver->scales))
		sender->scale = receiver->scale = 0;
}

/* Follow the sequence numbers (RFC 9293, section 3.10.7.4; the bounds are those of a host in the middle, as Guido van
 * Rooij gave them in "Real stateful TCP packet filtering in IP Filter", and as Linux has them). */
static __always_inline enum treatment follow_window(struct connection *connection, const struct packet *packet,
						    int from_opener)
{
	__u32 from = packet->sender & 1;
	struct side *sender = &connection->side[from], *receiver = &connection->side[from ^ 1];
	__u32 seq = packet->seq, end = seq + packet->length;
	__u32 ack = packet->ack, sack = receiver->sacks ? packet->sack : ack;
	__u32 window = packet->window, sent, oldest_ack;
	int is_syn = packet->kind == SYN || packet->kind == SYN_ACK;
	int is_opening = connection->state == SYN_SENT || connection->state == SYN_RECEIVED;

	if (is_syn && (!sender->window || (is_opening && is_after(end, sender->end)))) {
		begin_side(sender, receiver, packet, from_opener);
		if (!packet->has_ack)
			return CHECKED;
	} else if (!sender->window) {
		/* A RST in answer to a SYN, or what comes after that. */
		sender->end = end;
		sender->window = window ? window : 1;
		sender->limit = end + sender->window;
		if (!receiver->window)
			receiver->end = receiver->limit = sack;
		else if (sack == receiver->end + 1)
			receiver->end = sack; /* after a keepalive, whose one byte is not to be acknowledged */
	}
	if (packet->place == OKO_FIRST_FRAGMENT)
		sender->fragments = 1;
	if (!packet->has_ack || (packet->kind == RST && !ack))
		ack = sack = receiver->end;
	if (packet->kind == RST && !seq && connection->state == SYN_SENT)
		seq = end = sender->end; /* in answer to a SYN */

	sent = receiver->end;
	if (receiver->fragments && is_after(sack, sent) && !is_after(sack, sent + LONGEST_PACKET))
		sent = sack;
	oldest_ack = sent - (sender->window > LEAST_ACK_WINDOW ? sender->window : LEAST_ACK_WINDOW);
	if (is_after(seq, sender->limit)) {
		/* More than the receiver has room for. If it takes it nevertheless, it will acknowledge it. */
		if (receiver->window && is_after(end, sender->end - receiver->window - 1) &&
		    !is_before(sack, oldest_ack) && end - sender->limit + 1 <= receiver->window &&
		    !is_after(sack, sent)) {
			sender->end = end;
			return IGNORED;
		}
		return INVALID;
	}
	if (is_after(sack, sent))
		return INVALID; /* acknowledges what was never sent */
	if (receiver->window && is_before(end, sender->end - receiver->window))
		return IGNORED; /* sent again, long after it was acknowledged */
	if (is_before(sack, oldest_ack))
		return IGNORED; /* an ACK that was under way for long */

	receiver->end = sent;
	if (!is_syn)
		window <<= sender->scale & 15;
	if (sender->window < window + (sack - ack))
		sender->window = window + (sack - ack);
	if (is_after(end, sender->end))
		sender->end = end;
	if (packet->has_ack && (!sender->has_acked || is_after(ack, sender->acked))) {
		sender->acked = ack;
		sender->has_acked = 1;
	}
	if (receiver->window && is_after(end, sender->limit))
		receiver->window += end - sender->limit;
	if (!is_before(sack + window, receiver->limit))
		receiver->limit = sack + (window ? window : 1);
	return CHECKED;
}

enum reset {
	BLIND,	  /* not by one who sees the connection */
	IN_DOUBT, /* in the window if it is, but not where it should be: the receiver will challenge it */
	PROBABLE, /* it ends the connection if it is in the window */
	CERTAIN,  /* whatever the window */
};

/* What a RST is worth, before the window is looked at (RFC 5961, section 3.2). */
static __always_inline enum reset reset_of(const struct connection *connection, const struct packet *packet)
{
	__u32 from = packet->sender & 1;
	const struct side *receiver = &connection->side[from ^ 1];
	const struct last *last = &connection->last;
	enum reset reset = PROBABLE;

	if (connection->state >= FIN_WAIT)
		return CERTAIN; /* nothing much to lose, and the ports may belong to a new connection already */
	if (receiver->has_acked && last->kind != SYN) {
		if (!packet->seq && connection->state != ESTABLISHED)
			return PROBABLE;
		if (is_before(packet->seq, receiver->acked))
			return BLIND;
		if (connection->state != ESTABLISHED || packet->seq == receiver->acked)
			return PROBABLE;
		if (last->kind == ACK && last->sender == from && packet->seq == last->end)
			return PROBABLE;
		reset = IN_DOUBT;
	}
	/* In answer to a segment that was ignored here. */
	if (((connection->replied && last->kind == SYN) || (!connection->assured && last->kind == ACK)) &&
	    packet->ack == last->end)
		return CERTAIN;
	if (connection->state == SYN_SENT && last->kind == ACK && last->sender != connection->opener &&
	    packet->seq == last->ack)
		return CERTAIN;
	return reset;
}

static __always_inline void note_last(struct connection *connection, const struct packet *packet)
{
	connection->last = (struct last){
	    .end = packet->seq + packet->length,
	    .ack = packet->ack,
	    .window = packet->window,
	    .kind = packet->kind,
	    .sender = packet->sender,
	    .scale = packet->scale,
	    .scales = packet->scales,
	    .sacks = packet->sacks,
	};
}

/* The SYN|ACK answers a SYN that was ignored: the hosts begin a new connection. */
static __always_inline void begin_again(struct connection *connection, const struct packet *packet)
{
	__u32 from = packet->sender & 1;
	const struct last *last = &connection->last;

	connection->side[from] = (struct side){};
	connection->side[from ^ 1] = (struct side){
	    .end = last->end,
	    .limit = last->end,
	    .window = last->window ? last->window : 1,
	    .scale = last->scale,
	    .scales = last->scales,
	    .sacks = last->sacks,
	};
	connection->simultaneous = 0;
}

/* Where the FINs and their acknowledgements have brought an established connection. */
static __always_inline enum connection_state closing_state(const struct connection *connection)
{
	const struct side *first = &connection->side[0], *second = &connection->side[1];
	int first_done = first->finished && !is_before(second->acked, first->end);
	int second_done = second->finished && !is_before(first->acked, second->end);

	if (first->finished && second->finished)
		return first_done && second_done ? TIME_WAIT : LAST_ACK;
	if (first->finished || second->finished)
		return first_done || second_done ? CLOSE_WAIT : FIN_WAIT;
	return ESTABLISHED;
}

/* The state after a segment that is in the window. */
static __always_inline enum connection_state state_after(struct connection *connection, const struct packet *packet,
							 int from_opener)
{
	__u32 state = connection->state;

	if (packet->kind == SYN) {
		if (from_opener)
			return state == NONE ? SYN_SENT : state;
		connection->simultaneous = 1;
		return SYN_SENT_BY_BOTH;
	}
	if (packet->kind == SYN_ACK)
		return SYN_RECEIVED;
	if (state == CLOSED)
		return CLOSED;
	if (packet->kind == FIN)
		connection->side[packet->sender & 1].finished = 1;
	if (state == SYN_RECEIVED) {
		if (packet->kind == ACK && !from_opener && !connection->simultaneous)
			return SYN_RECEIVED;
		if (from_opener || connection->simultaneous)
			connection->assured = 1;
	}
	return closing_state(connection);
}

static __always_inline enum treatment follow_tcp(struct connection *connection, const struct packet *packet)
{
	int from_opener = packet->sender == connection->opener;
	enum treatment treatment = treatment_of(packet->kind, connection->state, from_opener);
	enum reset reset = PROBABLE;

	if (treatment == INVALID)
		return INVALID;
	if (treatment == IGNORED) {
		if (packet->kind != SYN_ACK || connection->last.kind != SYN ||
		    connection->last.sender == packet->sender || connection->last.end != packet->ack) {
			note_last(connection, packet);
			return IGNORED;
		}
		begin_again(connection, packet);
	}
	if (packet->kind == RST) {
		reset = reset_of(connection, packet);
		if (reset == BLIND)
			return INVALID;
	}
	if (reset != CERTAIN) {
		treatment = follow_window(connection, packet, from_opener);
		if (treatment != CHECKED)
			return treatment;
	}
	note_last(connection, packet);
	if (packet->kind != RST)
		connection->state = state_after(connection, packet, from_opener);
	else if (!connection->replied)
		connection->state = NONE; /* the SYN was refused, or taken back */
	else if (reset != IN_DOUBT)
		connection->state = CLOSED;
	return CHECKED;
}

/* Whether a new SYN may reuse the ports of a connection that is over (RFC 9293, section 3.6.1): both sides have closed
 * it, or the opener has reset it. After a RST of the other side the SYN|ACK will tell. */
static __always_inline int begins_anew(const struct connection *connection, const struct packet *packet)
{
	const struct last *last = &connection->last;

	if (packet->kind != SYN)
		return 0;
	if (connection->state != CLOSED)
		return connection->state == TIME_WAIT;
	return packet->sender == connection->opener && (connection->side[0].finished || connection->side[1].finished ||
							(last->kind == RST && last->sender == packet->sender));
}

/* Let the packet be the first of the connection. */
static __always_inline void begin(struct connection *connection, const struct packet *packet)
{
	connection->state = NONE;
	connection->packets[0] = connection->packets[1] = 0;
	connection->bytes[0] = connection->bytes[1] = 0;
	connection->side[0] = connection->side[1] = (struct side){};
	connection->last = (struct last){};
	connection->opener = packet->sender;
	connection->replied = connection->assured = connection->simultaneous = 0;
}

/* Return whether the packet matches. Runs under the connection's lock, and must not call anything. */
static __always_inline int follow(struct connection *connection, const struct packet *packet, __u64 now, int opens)
{
	__u32 sender = packet->sender & 1;
	int expired = rest_of(connection, packet->key.protocol, now) < 0;
	enum treatment treatment = CHECKED;

	if (packet->quoted)
		return connection->state != NONE && !expired;
	if (connection->state == NONE || expired || begins_anew(connection, packet)) {
		if (!opens)
			return 0;
		begin(connection, packet);
	}
	if (packet->key.protocol == IPPROTO_TCP)
		treatment = follow_tcp(connection, packet);
	else if (sender != connection->opener)
		connection->state = REPLIED;
	else if (connection->state == NONE)
		connection->state = UNREPLIED;
	if (treatment == INVALID)
		return 0;
	if (sender != connection->opener)
		connection->replied = 1;
	if (treatment == CHECKED)
		connection->last_seen = now;
	connection->packets[sender]++;
	connection->bytes[sender] += packet->bytes;
	return 1;
}

/* How long the connection in a slot may stay as it is, in seconds; 0 if the slot is free or the connection has expired.
 */
static __noinline __u32 rest_of_slot(__u32 slot, __u64 now)
{
	struct oko_flow *key = bpf_map_lookup_elem(&slots, &slot);
	struct connection *connection;
	__s64 rest;

	if (!key)
		return 0;
	connection = bpf_map_lookup_elem(&connections, key);
	if (!connection || connection->slot != slot || connection->state == NONE)
		return 0;
	rest = rest_of(connection, key->protocol, now);
	return rest < 0 ? 0 : rest / SECOND + 1;
}

/* Take the connection out of the map that has the slot; if not `forced`, only an expired one. Return 0 if it stays. A
 * CPU that has looked it up before will find it DELETED; once the memory is another connection's, the identity is not
 * its own. */
static __noinline int clear_slot(__u32 slot, __u64 now, int forced)
{
	struct oko_flow *key = bpf_map_lookup_elem(&slots, &slot);
	struct connection *connection;
	int is_there, goes;

	if (!key)
		return 0;
	connection = bpf_map_lookup_elem(&connections, key);
	if (!connection)
		return 1;
	bpf_spin_lock(&connection->lock);
	is_there = connection->slot == slot && connection->state != DELETED;
	goes = is_there && (forced || connection->state == NONE || rest_of(connection, key->protocol, now) < 0);
	if (goes)
		connection->state = DELETED;
	bpf_spin_unlock(&connection->lock);
	if (goes)
		bpf_map_delete_elem(&connections, key);
	return goes || !is_there;
}

/* Make an entry without packets in the ring of opening connections, in the place of the oldest there. If another CPU
 * was faster, its entry is the one. */
static __noinline int make_entry(const struct packet *packet, __u64 now)
{
	struct connection fresh = {.identity = identity_of(&packet->key)};
	__u32 index = 0;
	struct rings *counts = bpf_map_lookup_elem(&rings, &index);
	struct oko_flow *key;

	if (!counts)
		return 0;
	fresh.slot = __sync_fetch_and_add(&counts->opened, 1) % OPENING_SLOTS;
	key = bpf_map_lookup_elem(&slots, &fresh.slot);
	if (!key)
		return 0;
	clear_slot(fresh.slot, now, 1);
	*key = packet->key;
	bpf_map_update_elem(&connections, &packet->key, &fresh, BPF_NOEXIST);
	return 0;
}

/* A slot for one more established connection, -1 if there is none. */
static __noinline int take_slot(__u64 now)
{
	__u32 index = 0, probed, rest, least = ~0U, slot = 0;
	struct rings *counts = bpf_map_lookup_elem(&rings, &index);
	__u32 limit = config.established < ESTABLISHED_SLOTS ? config.established : ESTABLISHED_SLOTS;

	if (!counts || !limit)
		return -1;
#pragma clang loop unroll(full)
	for (int probe = 0; probe < PROBES; probe++) {
		probed = OPENING_SLOTS + __sync_fetch_and_add(&counts->probed, 1) % limit;
		rest = rest_of_slot(probed, now);
		if (rest < least) {
			least = rest;
			slot = probed;
		}
		if (!rest)
			break;
	}
	if ((least && config.when_full == REFUSE_NEW) || !clear_slot(slot, now, least != 0)) {
		__sync_fetch_and_add(&counts->refused, 1);
		return -1;
	}
	if (least)
		__sync_fetch_and_add(&counts->evicted, 1);
	return slot;
}

/* Move the connection to the ring of established ones. Return whether there was room. */
static __noinline int establish(struct connection *connection, const struct packet *packet, __u64 now)
{
	__u32 identity = identity_of(&packet->key);
	int slot = take_slot(now);
	struct oko_flow *key;
	__u32 number = slot;

	if (slot < 0)
		return 0;
	key = bpf_map_lookup_elem(&slots, &number);
	if (!key)
		return 0;
	*key = packet->key;
	bpf_spin_lock(&connection->lock);
	/* If another CPU was faster, the slot stays free. */
	if (connection->identity == identity && connection->slot < OPENING_SLOTS)
		connection->slot = number;
	bpf_spin_unlock(&connection->lock);
	return 1;
}

enum outcome {
	REFUSED,
	MATCHED,
	ESTABLISHES, /* a match, if there is room for one more established connection */
};

static __noinline int track(struct connection *connection, const struct packet *packet, __u64 now, int opens)
{
	__u32 identity = identity_of(&packet->key);
	int outcome = REFUSED;

	bpf_spin_lock(&connection->lock);
	if (connection->identity == identity && connection->state != DELETED &&
	    follow(connection, packet, now, opens)) {
		outcome = MATCHED;
		if (connection->slot < OPENING_SLOTS && (connection->assured || connection->state == REPLIED))
			outcome = ESTABLISHES;
	}
	bpf_spin_unlock(&connection->lock);
	return outcome;
}

static __always_inline struct fragment_key fragment_key_of(const struct packet *packet, __u32 sender)
{
	return (struct fragment_key){
	    .source = packet->key.addr[sender & 1],
	    .dest = packet->key.addr[(sender & 1) ^ 1],
	    .identification = packet->identification,
	    .protocol = packet->key.protocol,
	};
}

static __noinline int note_fragment(const struct packet *packet, __u64 now, int matched)
{
	struct fragment_key key = packet->sender ? fragment_key_of(packet, 1) : fragment_key_of(packet, 0);
	struct fragment fragment = {.first_seen = now, .matched = matched};

	return bpf_map_update_elem(&fragments, &key, &fragment, BPF_ANY);
}

/* Whether a later fragment matches: as the first did. If that has not come yet, it may be one that opens a connection.
 */
static __noinline int follows_fragment(struct xdp_md *ctx, const struct packet *packet, __u64 now)
{
	struct fragment_key key = fragment_key_of(packet, 0);
	struct fragment *fragment = bpf_map_lookup_elem(&fragments, &key);

	if (!fragment || (__s64)(now - fragment->first_seen) >= (__s64)FRAGMENT_TIMEOUT)
		return may_open(ctx);
	return fragment->matched;
}

/* Return whether the packet belongs to a connection, or `opens` one. */
static __always_inline int belongs(const struct packet *packet, __u64 now, int opens)
{
	struct connection *connection = bpf_map_lookup_elem(&connections, &packet->key);
	int outcome;

	if (!connection) {
		if (!opens)
			return 0;
		make_entry(packet, now);
		connection = bpf_map_lookup_elem(&connections, &packet->key);
		if (!connection)
			return 0;
	}
	outcome = track(connection, packet, now, opens);
	return outcome == ESTABLISHES ? establish(connection, packet, now) : outcome;
}

SEC("filter")
int firewall(struct xdp_md *ctx)
{
	__u32 index = 0;
	struct packet *packet = bpf_map_lookup_elem(&packets, &index);
	int known, matches;
	__u64 now;

	if (!packet)
		return OKO_NO_MATCH;
	*packet = (struct packet){};
	known = parse(ctx, packet);
	if (!known && packet->place != OKO_FIRST_FRAGMENT)
		return OKO_NO_MATCH;
	now = oko_now();
	if (packet->place == OKO_LATER_FRAGMENT)
		return follows_fragment(ctx, packet, now) ? OKO_MATCH : OKO_NO_MATCH;
	matches = known && belongs(packet, now, packet->starts && !packet->quoted && may_open(ctx));
	if (packet->place == OKO_FIRST_FRAGMENT && (matches || may_open(ctx)))
		note_fragment(packet, now, matches);
	return matches ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
