/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The hash by which a group of type select chooses a bucket; oko/flow/selection.py has it in Python. */
#include <oko.h>

#include "packet.h"

#pragma clang diagnostic ignored "-Wunused-parameter" /* all functions of a kind have the same prototype */

#define FACTOR 0x9e3779b97f4a7c15ULL /* 2^64 divided by the golden ratio, odd: multiplying by it spreads the bits */

static __always_inline __u64 mix(__u64 state, __u64 value)
{
	state = (state ^ value) * FACTOR;
	return state ^ state >> 32;
}

static __always_inline __u64 ethernet_address(const __u8 *bytes)
{
	__be16 high;
	__be32 low;

	__builtin_memcpy(&high, bytes, sizeof(high));
	__builtin_memcpy(&low, bytes + sizeof(high), sizeof(low));
	return (__u64)bpf_ntohs(high) << 32 | bpf_ntohl(low);
}

static __always_inline __u64 mix_ipv6_address(__u64 state, const __u8 *bytes)
{
	__be64 words[2];

	__builtin_memcpy(words, bytes, sizeof(words));
	return mix(mix(state, bpf_be64_to_cpu(words[0])), bpf_be64_to_cpu(words[1]));
}

/* Return 32 bits, of the headers in the key. */
SEC("runtime/select_hash")
int oko_select_hash(struct xdp_md *ctx, struct oko_packet *packet)
{
	const struct oko_key *key;
	__u64 state;

	if (!packet)
		return 0;
	key = &packet->key;
	state = mix(0, ethernet_address(key->eth_src));
	state = mix(state, ethernet_address(key->eth_dst));
	state = mix(state, bpf_ntohs(key->eth_type));
	state = mix(state, bpf_ntohs(key->vlan_tci) & 0x1fff);
	state = mix(state, key->ip_proto);
	state = mix(state, bpf_ntohl(key->ipv4_src));
	state = mix(state, bpf_ntohl(key->ipv4_dst));
	state = mix_ipv6_address(state, key->ipv6_src);
	state = mix_ipv6_address(state, key->ipv6_dst);
	state = mix(state, bpf_ntohs(key->tp_src));
	return mix(state, bpf_ntohs(key->tp_dst));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
