/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Parses a packet with every helper of the SDK that fits, and tells how far it came and what it found. */
#include <oko.h>

/* Offsets are in bytes from the start of the frame; what was not there is zero. */
struct found {
	__u32 headers; /* how many were parsed; IPv6 extension headers do not count */
	__u32 offset;  /* of the cursor */
	__u32 left;    /* of the cursor */
	__be32 identification;
	__be16 eth_type;
	__u8 protocol; /* of what follows IP */
	__u8 place;    /* enum oko_place */
	__u32 transport;
	__u32 options; /* how many TCP options were taken in hand */
	__s32 end;     /* what the last oko_next_tcp_option() returned */
	__u8 kinds[OKO_MAX_TCP_OPTIONS];
	__u8 lengths[OKO_MAX_TCP_OPTIONS];
	__be16 mss;
	__u8 window_scale;
	__u8 quoted_protocol;
	__u32 quoted_left; /* behind the IP headers of the quoted packet */
	struct oko_ports quoted_ports;
	struct oko_flow flow;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct found);
} reached SEC(".maps") OKO_KEY(index) OKO_VALUE(shared_state);

static __noinline int take_option(struct xdp_md *ctx, struct oko_tcp_options *options, struct found *found)
{
	int result = oko_next_tcp_option(ctx, options);
	__u32 count = found->options;
	__be16 *mss;
	__u8 *scale;

	found->end = result;
	if (result != 1 || count >= OKO_MAX_TCP_OPTIONS)
		return 0;
	found->kinds[count] = options->kind;
	found->lengths[count] = options->length;
	found->options = count + 1;
	if (options->kind == OKO_TCP_MSS) {
		mss = oko_tcp_option_value(ctx, options, sizeof(*mss));
		if (mss)
			found->mss = *mss;
	} else if (options->kind == OKO_TCP_WINDOW_SCALE) {
		scale = oko_tcp_option_value(ctx, options, sizeof(*scale));
		if (scale)
			found->window_scale = *scale;
	}
	return 1;
}

static __always_inline int parse_tcp(struct xdp_md *ctx, struct oko_cursor *cursor, struct found *found)
{
	struct tcphdr *tcp = oko_parse_tcp(cursor);
	struct oko_tcp_options options;

	if (!tcp)
		return 0;
	found->flow.port[0] = tcp->source;
	found->flow.port[1] = tcp->dest;
	options = oko_parse_tcp_options(ctx, cursor, tcp);
#pragma clang loop unroll(full)
	for (int count = 0; count <= OKO_MAX_TCP_OPTIONS; count++)
		if (!take_option(ctx, &options, found))
			break;
	return 1;
}

static __always_inline void parse_quoted(struct xdp_md *ctx, struct oko_cursor *cursor, struct found *found,
					 int is_ipv6)
{
	struct oko_fragment fragment;
	struct oko_ports *ports;
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;
	int protocol;

	if (is_ipv6) {
		ipv6 = oko_parse_quoted_ipv6(cursor);
		if (!ipv6)
			return;
		protocol = oko_parse_ipv6_extensions(ctx, cursor, ipv6->nexthdr, &fragment);
	} else {
		ipv4 = oko_parse_quoted_ipv4(cursor);
		if (!ipv4)
			return;
		protocol = ipv4->protocol;
	}
	found->quoted_protocol = protocol;
	found->quoted_left = cursor->left;
	ports = oko_parse_ports(cursor);
	if (ports)
		found->quoted_ports = *ports;
}

static __always_inline int parse_icmp(struct xdp_md *ctx, struct oko_cursor *cursor, struct found *found, int is_ipv6)
{
	struct oko_icmp *icmp = oko_parse_icmp(cursor);

	if (!icmp)
		return 0;
	if (is_ipv6 ? oko_is_icmpv6_error(icmp) : oko_is_icmp_error(icmp))
		parse_quoted(ctx, cursor, found, is_ipv6);
	return 1;
}

static __always_inline int parse_transport(struct xdp_md *ctx, struct oko_cursor *cursor, struct found *found)
{
	struct udphdr *udp;

	found->transport = oko_offset(ctx, cursor);
	if (found->protocol == IPPROTO_TCP)
		return parse_tcp(ctx, cursor, found);
	if (found->protocol == IPPROTO_ICMP)
		return parse_icmp(ctx, cursor, found, 0);
	if (found->protocol == IPPROTO_ICMPV6)
		return parse_icmp(ctx, cursor, found, 1);
	if (found->protocol != IPPROTO_UDP)
		return 0;
	udp = oko_parse_udp(cursor);
	if (!udp)
		return 0;
	found->flow.port[0] = udp->source;
	found->flow.port[1] = udp->dest;
	return 1;
}

/* Return whether the transport header may be next. */
static __always_inline int parse_ip(struct xdp_md *ctx, struct oko_cursor *cursor, struct found *found)
{
	struct oko_fragment fragment;
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;
	int protocol;

	if (found->eth_type == bpf_htons(ETH_P_IP)) {
		ipv4 = oko_parse_ipv4(cursor);
		if (!ipv4)
			return 0;
		fragment = oko_ipv4_fragment(ipv4);
		protocol = ipv4->protocol;
		found->flow.addr[0] = oko_ip_of_ipv4(ipv4->saddr);
		found->flow.addr[1] = oko_ip_of_ipv4(ipv4->daddr);
	} else if (found->eth_type == bpf_htons(ETH_P_IPV6)) {
		ipv6 = oko_parse_ipv6(cursor);
		if (!ipv6)
			return 0;
		found->flow.addr[0] = oko_ip_of_ipv6(&ipv6->saddr);
		found->flow.addr[1] = oko_ip_of_ipv6(&ipv6->daddr);
		protocol = oko_parse_ipv6_extensions(ctx, cursor, ipv6->nexthdr, &fragment);
	} else {
		return 0;
	}
	found->headers = 2;
	if (protocol < 0)
		return 0;
	found->protocol = protocol;
	found->place = fragment.place;
	found->identification = fragment.identification;
	return fragment.place == OKO_WHOLE;
}

SEC("xdp")
int oko_harness(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__u32 index = 0;
	struct found *found = bpf_map_lookup_elem(&reached, &index);
	__be16 eth_type;

	if (!found)
		return XDP_ABORTED;
	__builtin_memset(found, 0, sizeof(*found));
	if (oko_parse_ethernet(&cursor, &eth_type)) {
		found->headers = 1;
		found->eth_type = eth_type;
		if (parse_ip(ctx, &cursor, found) && parse_transport(ctx, &cursor, found))
			found->headers = 3;
	}
	found->offset = oko_offset(ctx, &cursor);
	found->left = cursor.left;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
