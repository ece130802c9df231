/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A Bloom filter of four hashes in an array in .bss, with masked indices. */
#include <oko.h>

#define BITS 32768

__u64 bits[BITS / 64];

SEC("filter")
int bloom(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *ip;
	__u32 hash;
	__be16 type;
	int known = 1;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return 0;
	hash = ip->saddr * 2654435761u;
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u32 bit = hash & (BITS - 1);

		known &= bits[bit / 64] >> (bit % 64) & 1;
		bits[bit / 64] |= 1ULL << (bit % 64);
		hash = (hash ^ hash >> 15) * 2246822519u;
	}
	return known;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
