/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* An event on the stack, sent for every new connection. */
#include <oko.h>

struct event {
	__u64 time;
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 in_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");

SEC("filter")
int event_output(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct event event = {};
	struct tcphdr *tcp;
	struct iphdr *ip;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP)
		return 0;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp || !tcp->syn || tcp->ack)
		return 0;
	event.time = oko_now();
	event.source = ip->saddr;
	event.destination = ip->daddr;
	event.source_port = tcp->source;
	event.destination_port = tcp->dest;
	event.in_port = oko_in_port(ctx);
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
