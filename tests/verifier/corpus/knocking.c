/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A sequence of three ports opens a fourth for a source, for a minute. */
#include <oko.h>

struct progress {
	__u32 stage;
	__u32 failures;
	__u64 deadline;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, oko_ipv4);
	__type(value, struct progress);
} progress SEC(".maps");

static const __u16 sequence[] = {7000, 8000, 9000};

SEC("filter")
int knocking(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct progress fresh = {}, *known;
	__u64 now = bpf_ktime_get_coarse_ns();
	struct tcphdr *tcp;
	struct iphdr *ip;
	oko_ipv4 source;
	__be16 type;
	__u16 port;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP)
		return 0;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp || !tcp->syn)
		return 0;
	source = ip->saddr;
	port = bpf_ntohs(tcp->dest);
	known = bpf_map_lookup_elem(&progress, &source);
	if (!known) {
		if (port == sequence[0]) {
			fresh.stage = 1;
			bpf_map_update_elem(&progress, &source, &fresh, BPF_ANY);
		}
		return 0;
	}
	if (known->stage >= 3)
		return port == 22 && now < known->deadline;
	if (port == sequence[known->stage]) {
		if (++known->stage == 3)
			known->deadline = now + 60ULL * 1000000000;
	} else {
		known->failures++;
		known->stage = 0;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
