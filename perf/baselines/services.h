/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Twenty rules, as one would write them by hand for one filter program: TCP to and from each of ten services passes if
 * the program matches. Include it behind the program. */
#include "by_hand.h"

#define SERVICES 10

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SWITCH_PORTS *SERVICES);
	__type(key, __u32);
	__type(value, struct counter);
} rules SEC(".maps");

static __always_inline int service_of(__u16 port)
{
	switch (port) {
	case 22:
		return 0;
	case 25:
		return 1;
	case 53:
		return 2;
	case 80:
		return 3;
	case 110:
		return 4;
	case 143:
		return 5;
	case 443:
		return 6;
	case 993:
		return 7;
	case 3306:
		return 8;
	case 8080:
		return 9;
	default:
		return -1;
	}
}

/* The rule of the packet, negative if there is none. */
static __always_inline int rule_of(struct xdp_md *ctx, __u32 port)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct tcphdr *tcp;
	struct iphdr *ip;
	__be16 eth_type;
	int service;

	if (!oko_parse_ethernet(&cursor, &eth_type) || eth_type != bpf_htons(ETH_P_IP))
		return -1;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP || oko_is_later_fragment(ip))
		return -1;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp)
		return -1;
	service = service_of(bpf_ntohs(port ? tcp->source : tcp->dest));
	return service < 0 ? service : service * SWITCH_PORTS + (int)port;
}

static __always_inline int serve(struct xdp_md *ctx, int (*program)(struct xdp_md *))
{
	__u32 port = port_of(ctx);
	int rule = rule_of(ctx, port);

	if (rule < 0 || !program(ctx))
		return drop(ctx);
	count(&rules, rule, ctx);
	return bpf_redirect_map(&target, !port, XDP_DROP);
}
