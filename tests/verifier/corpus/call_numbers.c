/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Static and global functions of numbers, three deep. */
#include <oko.h>

__u32 seed = 17;

static __noinline __u32 rotate(__u32 number, __u32 count)
{
	return number << (count & 31) | number >> (-count & 31);
}

static __noinline __u32 round_of(__u32 hash, __u32 word)
{
	word *= 0xcc9e2d51;
	word = rotate(word, 15) * 0x1b873593;
	return rotate(hash ^ word, 13) * 5 + 0xe6546b64;
}

__noinline int hash_of(__u32 one, __u32 two, __u32 three)
{
	__u32 hash = round_of(round_of(round_of(seed, one), two), three);

	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	return hash ^ hash >> 13;
}

SEC("filter")
int call_numbers(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return 0;
	return ((__u32)hash_of(ip->saddr, ip->daddr, ip->protocol) & 7) == 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
