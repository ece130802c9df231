/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter program with a map of each kind, which counts packets in all of them, and says whether the port is odd. */
#include <oko.h>

OKO_CONFIG __u32 config = 7;

struct count {
	__u32 packets;
	__u32 last_port;
};

#define COUNTS(NAME, TYPE, KEY)                                                                                        \
	struct {                                                                                                       \
		__uint(type, TYPE);                                                                                    \
		__uint(max_entries, 4);                                                                                \
		__type(key, KEY);                                                                                      \
		__type(value, struct count);                                                                           \
	} NAME SEC(".maps")

COUNTS(hash, BPF_MAP_TYPE_HASH, __u32);
COUNTS(lru, BPF_MAP_TYPE_LRU_HASH, __u32);
COUNTS(percpu_hash, BPF_MAP_TYPE_PERCPU_HASH, __u32);
COUNTS(array, BPF_MAP_TYPE_ARRAY, __u32);
COUNTS(percpu_array, BPF_MAP_TYPE_PERCPU_ARRAY, __u32);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct oko_prefix);
	__type(value, struct count);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

static __always_inline void count(struct count *count, __u32 port)
{
	if (count) {
		count->packets++;
		count->last_port = port;
	}
}

SEC("filter")
int kinds_of_maps(struct xdp_md *ctx)
{
	struct oko_prefix prefix = {.length = 128, .addr = oko_ip_of_ipv4(bpf_htonl(0x0a000001))};
	struct count first = {};
	__u32 port = oko_in_port(ctx);
	__u32 key = 1;

	bpf_map_update_elem(&hash, &key, &first, BPF_NOEXIST);
	bpf_map_update_elem(&lru, &key, &first, BPF_NOEXIST);
	bpf_map_update_elem(&percpu_hash, &key, &first, BPF_NOEXIST);
	count(bpf_map_lookup_elem(&hash, &key), port);
	count(bpf_map_lookup_elem(&lru, &key), port);
	count(bpf_map_lookup_elem(&percpu_hash, &key), port);
	count(bpf_map_lookup_elem(&array, &key), port);
	count(bpf_map_lookup_elem(&percpu_array, &key), port);
	count(bpf_map_lookup_elem(&prefixes, &prefix), port);
	oko_report(&ring, &port, sizeof(port));
	return port == config ? OKO_NO_MATCH : (port & 1) ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
