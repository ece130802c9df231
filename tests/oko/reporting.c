/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter that reports every packet, with a map of each type whose elements behave in their own way. */
#include <oko.h>

enum verdict {
	PASSED = 1,
};

struct seen {
	__u32 port;
	enum verdict verdict;
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	__type(value, struct seen);
} packets SEC(".maps");

#ifdef SECOND_RING
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} others SEC(".maps");
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u64);
} lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 8);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct oko_ipv4_prefix);
	__type(value, __u64);
} lpm SEC(".maps");

static __u64 number;

SEC("filter")
int reporting(struct xdp_md *ctx)
{
	struct oko_ipv4_prefix prefix = {.length = 32};
	struct seen seen = {.port = oko_in_port(ctx), .verdict = PASSED, .number = number++};
	__u32 zero = 0;

	bpf_map_lookup_elem(&array, &zero);
	bpf_map_lookup_elem(&percpu, &zero);
	bpf_map_lookup_elem(&lru, &zero);
	bpf_map_lookup_elem(&hash, &zero);
	bpf_map_lookup_elem(&lpm, &prefix);
#ifdef SECOND_RING
	oko_report(&others, &seen, sizeof(seen));
#else
	oko_report(&packets, &seen, sizeof(seen));
#endif
	return OKO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
