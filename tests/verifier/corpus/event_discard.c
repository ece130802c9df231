/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A record that is discarded when the packet is not worth it after all. */
#include <oko.h>

struct event {
	__u32 source;
	__u16 port;
	__u16 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("filter")
int event_discard(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct event *event;
	struct tcphdr *tcp;
	struct iphdr *ip;
	__be16 type;

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		goto discard;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP)
		goto discard;
	event->source = ip->saddr;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp)
		goto discard;
	event->port = bpf_ntohs(tcp->dest);
	event->flags = tcp->fin | tcp->urg << 1 | tcp->psh << 2;
	if (event->flags != 7)
		goto discard;
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 1;
discard:
	bpf_ringbuf_discard(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
