/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A token bucket for each destination, under a spin lock. */
#include <oko.h>

struct bucket {
	struct bpf_spin_lock lock;
	__u32 tokens;
	__u64 updated;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, oko_ipv4);
	__type(value, struct bucket);
} buckets SEC(".maps");

SEC("filter")
int bucket_lock(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__u64 now = oko_now(), earned;
	int verdict = OKO_NO_MATCH;
	struct bucket *bucket;
	oko_ipv4 destination;
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return OKO_NO_MATCH;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return OKO_NO_MATCH;
	destination = ip->daddr;
	bucket = bpf_map_lookup_elem(&buckets, &destination);
	if (!bucket)
		return OKO_NO_MATCH;
	bpf_spin_lock(&bucket->lock);
	earned = (now - bucket->updated) / 1000000;
	if (earned) {
		bucket->updated = now;
		bucket->tokens = bucket->tokens + earned > 500 ? 500 : bucket->tokens + earned;
	}
	if (bucket->tokens)
		bucket->tokens--;
	else
		verdict = OKO_MATCH;
	bpf_spin_unlock(&bucket->lock);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
