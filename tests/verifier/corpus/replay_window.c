/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Numbers of ESP seen before, in a window of 64 bits under a spin lock. */
#include <oko.h>

struct window {
	__u64 seen;
	__u32 highest;
	struct bpf_spin_lock lock;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, __u32);
	__type(value, struct window);
} windows SEC(".maps");

struct esp {
	__be32 index;
	__be32 number;
};

SEC("filter")
int replay_window(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct window *window;
	__u32 index, number;
	struct iphdr *ip;
	struct esp *esp;
	__be16 type;
	int old = 0;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_ESP)
		return 0;
	esp = oko_parse_bytes(&cursor, sizeof(*esp));
	if (!esp)
		return 0;
	index = esp->index;
	number = bpf_ntohl(esp->number);
	window = bpf_map_lookup_elem(&windows, &index);
	if (!window)
		return 0;
	bpf_spin_lock(&window->lock);
	if (number > window->highest) {
		__u32 ahead = number - window->highest;

		window->seen = ahead < 64 ? window->seen << ahead | 1 : 1;
		window->highest = number;
	} else {
		__u32 behind = window->highest - number;

		if (behind >= 64) {
			old = 1;
		} else {
			old = window->seen >> behind & 1;
			window->seen |= 1ULL << behind;
		}
	}
	bpf_spin_unlock(&window->lock);
	return old;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
