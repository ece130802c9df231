/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A connection-tracking firewall for IPv4: TCP, UDP and ICMP echo, also behind VLAN tags.
 *
 * A packet matches if it belongs to a tracked connection or starts one from a port that may open connections.
 * Nothing else matches: not ARP or IPv6 (write a rule for them), not other ICMP messages (errors about a tracked
 * connection included), not a later fragment, which has no ports, and not a malformed header.
 *
 * The TCP states are those of RFC 9293, as seen from between the hosts. Sequence numbers are not followed. An entry
 * that was quiet for longer than its state allows counts as absent. */
#include <oko.h>

#define SECOND 1000000000ULL
#define PORTS 64 /* of the bits in firewall_config.openers */

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_CONTROL (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)

enum connection_state {
	NONE,
	SYN_SENT,     /* TCP: the opener's SYN */
	SYN_RECEIVED, /* TCP: a SYN from both sides */
	ESTABLISHED,  /* TCP: the opener acknowledged */
	FIN_WAIT,     /* TCP: a FIN from one side */
	LAST_ACK,     /* TCP: a FIN from both sides */
	TIME_WAIT,    /* TCP: and the acknowledgement */
	CLOSED,	      /* TCP: a RST from either side */
	UNREPLIED,    /* UDP, ICMP echo: packets from the opener only */
	REPLIED,      /* UDP, ICMP echo: packets from both sides */
	CONNECTION_STATES,
};

/* Both ends of a connection, the lower (address, port) first, so that both directions have one key. For ICMP echo
 * the requester's port is the identifier, the other one 0. */
struct connection_key {
	oko_ipv4 addr[2];
	__be16 port[2];
	__u8 protocol;
	__u8 pad[3];
};

struct connection {
	__u64 last_seen;  /* ns, as oko_now() */
	__u64 packets[2]; /* from the side addr[i], port[i] of the key */
	__u64 bytes[2];	  /* of IPv4, header included */
	enum connection_state state;
	__u8 opener;   /* the side that opened: an index into the key's addr and port */
	__u8 finished; /* TCP: bit i: side i has sent a FIN */
	__u8 pad[2];
};

/* All zero is the default configuration. */
struct firewall_config {
	__u64 openers;			  /* bit N: OpenFlow port N may open connections; 0: only port 1 may */
	__u32 timeout[CONNECTION_STATES]; /* s, by enum connection_state; 0: the default of that state */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct firewall_config);
} config SEC(".maps");

/* What the firewall knows of a packet. */
struct packet {
	struct connection_key key;
	__u32 sender; /* the side that sent it: an index into key.addr and key.port */
	__u32 bytes;
	__u8 starts;  /* whether it may start a connection */
	__u8 control; /* TCP: SYN, ACK, FIN, RST */
};

/* Whether a TCP sends such segments (RFC 9293, section 3.10.7, drops the others); PSH, URG, ECE and CWR are free. */
static __always_inline int is_sane(__u8 control)
{
	return control == TCP_SYN || control == (TCP_SYN | TCP_ACK) || control == TCP_ACK ||
	       control == (TCP_FIN | TCP_ACK) || control == TCP_RST || control == (TCP_RST | TCP_ACK);
}

static __always_inline int parse_tcp(struct oko_cursor *cursor, struct packet *packet, __be16 *source, __be16 *dest)
{
	struct tcphdr *tcp = oko_parse_tcp(cursor);

	if (!tcp)
		return 0;
	packet->control = ((__u8 *)tcp)[13] & TCP_CONTROL;
	packet->starts = packet->control == TCP_SYN;
	*source = tcp->source;
	*dest = tcp->dest;
	return is_sane(packet->control);
}

static __always_inline int parse_udp(struct oko_cursor *cursor, struct packet *packet, __be16 *source, __be16 *dest)
{
	struct udphdr *udp = oko_parse_udp(cursor);

	if (!udp)
		return 0;
	packet->starts = 1;
	*source = udp->source;
	*dest = udp->dest;
	return 1;
}

static __always_inline int parse_icmp(struct oko_cursor *cursor, struct packet *packet, __be16 *source, __be16 *dest)
{
	struct oko_icmp *icmp = oko_parse_icmp(cursor);

	if (!icmp)
		return 0;
	if (icmp->type == OKO_ICMP_ECHO) {
		packet->starts = 1;
		*source = icmp->identifier;
		return 1;
	}
	*dest = icmp->identifier;
	return icmp->type == OKO_ICMP_ECHO_REPLY;
}

/* Return whether this is a packet of the kind that the firewall tracks; if so, fill `packet`, which is zero. */
static __always_inline int parse(struct xdp_md *ctx, struct packet *packet)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__be16 eth_type, source = 0, dest = 0;
	struct iphdr *ip;
	int known;

	if (!oko_parse_ethernet(&cursor, &eth_type) || eth_type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || oko_is_later_fragment(ip))
		return 0;
	if (ip->protocol == IPPROTO_TCP)
		known = parse_tcp(&cursor, packet, &source, &dest);
	else if (ip->protocol == IPPROTO_UDP)
		known = parse_udp(&cursor, packet, &source, &dest);
	else if (ip->protocol == IPPROTO_ICMP)
		known = parse_icmp(&cursor, packet, &source, &dest);
	else
		known = 0;
	if (!known)
		return 0;

	packet->bytes = bpf_ntohs(ip->tot_len);
	packet->key.protocol = ip->protocol;
	if (bpf_ntohl(ip->saddr) < bpf_ntohl(ip->daddr) ||
	    (ip->saddr == ip->daddr && bpf_ntohs(source) <= bpf_ntohs(dest))) {
		packet->sender = 0;
		packet->key.addr[0] = ip->saddr;
		packet->key.addr[1] = ip->daddr;
		packet->key.port[0] = source;
		packet->key.port[1] = dest;
	} else {
		packet->sender = 1;
		packet->key.addr[0] = ip->daddr;
		packet->key.addr[1] = ip->saddr;
		packet->key.port[0] = dest;
		packet->key.port[1] = source;
	}
	return 1;
}

static __always_inline int may_open(const struct firewall_config *settings, __u32 port)
{
	__u64 openers = settings->openers ? settings->openers : 1ULL << 1;

	return port < PORTS && (openers >> port & 1);
}

/* Seconds, those of Linux's own connection tracking. */
static __always_inline __u32 default_timeout(__u32 state)
{
	if (state == ESTABLISHED)
		return 5 * 24 * 60 * 60;
	if (state == SYN_SENT || state == FIN_WAIT || state == TIME_WAIT || state == REPLIED)
		return 120;
	if (state == SYN_RECEIVED)
		return 60;
	if (state == CLOSED)
		return 10;
	return 30;
}

static __always_inline int is_expired(const struct connection *connection, const struct firewall_config *settings,
				      __u64 now)
{
	__u32 state = connection->state;
	__u32 timeout;

	if (state == NONE || state >= CONNECTION_STATES)
		return 1;
	timeout = settings->timeout[state];
	if (!timeout)
		timeout = default_timeout(state);
	/* Another CPU may have seen a later packet first: then the difference is negative. */
	return (__s64)(now - connection->last_seen) > (__s64)(timeout * SECOND);
}

/* The state of a TCP connection after `packet`, NONE if the packet is not one that may come in this state. */
static __always_inline __u32 tcp_state_after(struct connection *connection, const struct packet *packet, int opens)
{
	__u32 state = connection->state;
	int from_opener = packet->sender == connection->opener;

	if (packet->control & TCP_RST)
		return CLOSED;
	if (state == CLOSED)
		return NONE;
	if (packet->control == TCP_SYN) {
		if (!opens)
			return NONE;
		/* From the other side: simultaneous open, RFC 9293, section 3.5. From the opener: sent again, or by a
		 * host that lost its state; the other side's answer settles it. */
		return state == SYN_SENT && !from_opener ? SYN_RECEIVED : state;
	}
	if (state == SYN_SENT)
		return packet->control & TCP_SYN && !from_opener ? SYN_RECEIVED : NONE;
	if (packet->control & TCP_FIN) {
		connection->finished |= 1 << packet->sender;
		if (state == TIME_WAIT)
			return TIME_WAIT;
		return connection->finished == 3 ? LAST_ACK : FIN_WAIT;
	}
	if (state == SYN_RECEIVED && from_opener)
		return ESTABLISHED;
	if (state == LAST_ACK && packet->control == TCP_ACK)
		return TIME_WAIT;
	return state;
}

static __always_inline __u32 state_after(struct connection *connection, const struct packet *packet, int opens)
{
	if (packet->key.protocol == IPPROTO_TCP)
		return tcp_state_after(connection, packet, opens);
	return packet->sender == connection->opener ? connection->state : REPLIED;
}

static __always_inline int start(const struct packet *packet, __u64 now)
{
	struct connection connection = {.last_seen = now, .opener = packet->sender};

	connection.state = packet->key.protocol == IPPROTO_TCP ? SYN_SENT : UNREPLIED;
	if (packet->sender) {
		connection.packets[1] = 1;
		connection.bytes[1] = packet->bytes;
	} else {
		connection.packets[0] = 1;
		connection.bytes[0] = packet->bytes;
	}
	return bpf_map_update_elem(&connections, &packet->key, &connection, BPF_ANY) ? OKO_NO_MATCH : OKO_MATCH;
}

static __always_inline int follow(struct connection *connection, const struct packet *packet, __u32 state, __u64 now)
{
	__u32 sender = packet->sender & 1;

	connection->state = state;
	connection->last_seen = now;
	__sync_fetch_and_add(&connection->packets[sender], 1);
	__sync_fetch_and_add(&connection->bytes[sender], packet->bytes);
	return OKO_MATCH;
}

SEC("filter")
int firewall(struct xdp_md *ctx)
{
	struct packet packet = {};
	struct firewall_config *settings;
	struct connection *connection;
	__u32 index = 0, state;
	__u64 now;
	int opens;

	if (!parse(ctx, &packet))
		return OKO_NO_MATCH;
	settings = bpf_map_lookup_elem(&config, &index);
	if (!settings)
		return OKO_NO_MATCH;
	opens = packet.starts && may_open(settings, oko_in_port(ctx));
	now = oko_now();
	connection = bpf_map_lookup_elem(&connections, &packet.key);
	if (connection && !is_expired(connection, settings, now)) {
		/* A new SYN may reuse the ports of a connection that is over, RFC 9293, section 3.6.1. */
		if (opens && (connection->state == CLOSED || connection->state == TIME_WAIT))
			return start(&packet, now);
		state = state_after(connection, &packet, opens);
		return state == NONE ? OKO_NO_MATCH : follow(connection, &packet, state, now);
	}
	return opens ? start(&packet, now) : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
