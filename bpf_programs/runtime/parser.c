/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The parser of the pipeline: packet → lookup key. The compiler links it as a static subprogram, so the kernel
 * verifies it at each call, and it uses neither maps nor read-only data. oko/flow/headers.py has the same rules
 * in Python. */
#include <oko.h>

#include "key.h"

static __always_inline void parse_ports(struct oko_cursor *cursor, struct oko_key *key)
{
	struct tcphdr *tcp;
	struct udphdr *udp;

	if (key->ip_proto == IPPROTO_TCP) {
		tcp = oko_parse_tcp(cursor);
		if (!tcp)
			return;
		key->tp_src = tcp->source;
		key->tp_dst = tcp->dest;
	} else if (key->ip_proto == IPPROTO_UDP) {
		udp = oko_parse_udp(cursor);
		if (!udp)
			return;
		key->tp_src = udp->source;
		key->tp_dst = udp->dest;
	}
}

static __always_inline void parse_ipv4(struct oko_cursor *cursor, struct oko_key *key)
{
	struct iphdr *ip = oko_parse_ipv4(cursor);

	if (!ip)
		return;
	key->ip_proto = ip->protocol;
	key->ip_tos = ip->tos;
	key->ipv4_src = ip->saddr;
	key->ipv4_dst = ip->daddr;
	if (!oko_is_later_fragment(ip))
		parse_ports(cursor, key);
}

/* Write all of `key`, which must be 8-byte aligned and may be uninitialised; in_port becomes 0, the caller sets
 * it. Return 0, or 1 for a runt: a frame shorter than an Ethernet header. */
SEC("runtime")
int oko_parse(struct xdp_md *ctx, struct oko_key *key)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct ethhdr *eth;

	key = __builtin_assume_aligned(key, 8);
	__builtin_memset(key, 0, sizeof(*key));
	eth = oko_parse_ethernet(&cursor, &key->eth_type);
	if (!eth)
		return 1;
	/* struct ethhdr is packed, but its addresses are at even offsets: copy half words, not bytes. */
	__builtin_memcpy(key->eth_dst, __builtin_assume_aligned(eth->h_dest, 2), ETH_ALEN);
	__builtin_memcpy(key->eth_src, __builtin_assume_aligned(eth->h_source, 2), ETH_ALEN);
	if (key->eth_type == bpf_htons(ETH_P_IP))
		parse_ipv4(&cursor, key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
