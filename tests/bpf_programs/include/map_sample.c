/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter program with everything that oko_map.h has: it counts flows of IPv4, reports new ones, and matches those
 * from one of the ports of its configuration. */
#include <oko.h>

struct settings {
	__u64 openers; /* bit N: packets from port N match */
	__u32 timeout[3];
	oko_ipv4 router;
};

OKO_CONFIG struct settings config = {.openers = 1 << 2, .timeout = {10, 20, 30}};

struct count {
	__u64 packets;
	oko_time last_seen;
};

struct event {
	oko_time when;
	struct oko_flow flow;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct oko_flow);
	__type(value, struct count);
} flows SEC(".maps") OKO_KEY(flow) OKO_VALUE(flow_state);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps") OKO_VALUE(report);

SEC("filter")
int map_sample(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct event event = {.when = oko_now()};
	struct count first = {.packets = 1, .last_seen = event.when};
	__u32 port = oko_in_port(ctx);
	struct count *count;
	__be16 eth_type;
	struct iphdr *ip;

	if (!oko_parse_ethernet(&cursor, &eth_type) || eth_type != bpf_htons(ETH_P_IP))
		return OKO_NO_MATCH;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return OKO_NO_MATCH;
	event.flow.addr[0] = oko_ip_of_ipv4(ip->saddr);
	event.flow.addr[1] = oko_ip_of_ipv4(ip->daddr);
	event.flow.protocol = ip->protocol;
	count = bpf_map_lookup_elem(&flows, &event.flow);
	if (count) {
		__sync_fetch_and_add(&count->packets, 1);
		count->last_seen = event.when;
	} else if (!bpf_map_update_elem(&flows, &event.flow, &first, BPF_ANY)) {
		oko_report(&events, &event, sizeof(event));
	}
	return port < 64 && (config.openers >> port & 1) ? OKO_MATCH : OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
