/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A token bucket for each source, packed in 64 bits and changed by compare-and-exchange. */
#include <oko.h>

#define TOKENS_MAX 1000
#define NS_PER_TOKEN 1000000

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, oko_ipv4);
	__type(value, __u64);
} buckets SEC(".maps");

SEC("filter")
int bucket_exchange(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct iphdr *ip;
	oko_ipv4 source;
	__u64 *bucket;
	__be16 type;
	__u64 now;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return OKO_NO_MATCH;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return OKO_NO_MATCH;
	source = ip->saddr;
	now = oko_now() / NS_PER_TOKEN;
	bucket = bpf_map_lookup_elem(&buckets, &source);
	if (!bucket) {
		__u64 full = (now & 0xffffffff) << 32 | TOKENS_MAX;

		bpf_map_update_elem(&buckets, &source, &full, BPF_NOEXIST);
		return OKO_NO_MATCH;
	}
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u64 old = *bucket, fresh;
		__u32 tokens = old, then = old >> 32, earned = (__u32)now - then;

		if (earned > TOKENS_MAX)
			earned = TOKENS_MAX;
		tokens += earned;
		if (tokens > TOKENS_MAX)
			tokens = TOKENS_MAX;
		if (!tokens)
			return OKO_MATCH;
		fresh = (now & 0xffffffff) << 32 | (tokens - 1);
		if (__sync_val_compare_and_swap(bucket, old, fresh) == old)
			return OKO_NO_MATCH;
	}
	return OKO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
