/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter that counts packets, in each kind of storage that a program has. */
#include <oko.h>

#ifndef ENTRIES
#define ENTRIES 4
#endif
#ifndef ANSWER
#define ANSWER OKO_MATCH
#endif

enum colour {
	RED,
	GREEN = 7,
};

struct settings {
	oko_ipv4 gateway;
	__be16 port;
	_Bool enabled;
	__u8 mac[6];
	enum colour colour;
	__s32 offset[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} packets SEC(".maps");

const volatile __u32 answer = ANSWER;

SEC("filter")
int counting(struct xdp_md *ctx)
{
	__u32 port = oko_in_port(ctx), zero = 0;
	__u64 one = 1, *count = bpf_map_lookup_elem(&seen, &port);
	struct settings *chosen = bpf_map_lookup_elem(&settings, &zero);
	__u32 *mine = bpf_map_lookup_elem(&packets, &zero);

	if (mine)
		*mine += 1;
	if (count)
		*count += 1;
	else
		bpf_map_update_elem(&seen, &port, &one, BPF_ANY);
	return chosen && chosen->enabled ? OKO_NO_MATCH : answer;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
