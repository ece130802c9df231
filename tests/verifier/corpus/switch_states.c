/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A connection's state, moved by TCP flags, in a map. */
#include <oko.h>

enum state { LISTEN, SYN_SEEN, ESTABLISHED, CLOSING, CLOSED };

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u32);
} states SEC(".maps");

SEC("filter")
int switch_states(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__u32 *state, first = SYN_SEEN;
	struct tcphdr *tcp;
	struct iphdr *ip;
	__be16 type;
	__u64 key;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP)
		return 0;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp)
		return 0;
	key = (__u64)ip->saddr << 32 | (__u32)tcp->source << 16 | tcp->dest;
	state = bpf_map_lookup_elem(&states, &key);
	if (!state) {
		if (tcp->syn)
			bpf_map_update_elem(&states, &key, &first, BPF_ANY);
		return !tcp->syn;
	}
	switch (*state) {
	case LISTEN:
		if (tcp->syn)
			*state = SYN_SEEN;
		break;
	case SYN_SEEN:
		if (tcp->ack && !tcp->syn)
			*state = ESTABLISHED;
		else if (tcp->rst)
			*state = CLOSED;
		break;
	case ESTABLISHED:
		if (tcp->fin)
			*state = CLOSING;
		else if (tcp->rst)
			*state = CLOSED;
		break;
	case CLOSING:
		if (tcp->ack)
			*state = CLOSED;
		break;
	case CLOSED:
		bpf_map_delete_elem(&states, &key);
		return 1;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
