/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What a firewall consists of: a connection table, events, counters, settings and functions of its own. */
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum state { NEW, ESTABLISHED };

struct connection_key {
	__be32 source;
	__be32 destination;
	__u8 mac[6];
	__be16 type;
};

struct connection {
	__u64 last_seen;
	__u32 packets;
	enum state state;
};

struct event {
	__be32 source;
	__u32 in_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 8);
} unused SEC(".maps");

const volatile __u32 limit = 3;
__u64 seen;
__u32 first = 7;
static __u32 unknown;

extern __u32 oko_in_port(struct xdp_md *ctx);

static __attribute__((noinline)) int report(struct xdp_md *ctx, __be32 source)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return 0;
	event->source = source;
	event->in_port = oko_in_port(ctx);
	bpf_ringbuf_submit(event, 0);
	return 1;
}

__attribute__((noinline)) int is_within(__u32 packets)
{
	return packets <= limit;
}

SEC("filter")
int connections_filter(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct connection fresh = {.packets = 1, .state = NEW}, *known;
	struct connection_key key = {};
	struct ethhdr *eth = data;
	struct iphdr *ip = data + sizeof(*eth);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP)) {
		unknown++;
		return 0;
	}
	seen++;
	key.source = ip->saddr;
	key.destination = ip->daddr;
	key.type = eth->h_proto;
	__builtin_memcpy(key.mac, eth->h_source, sizeof(key.mac));
	known = bpf_map_lookup_elem(&connections, &key);
	if (known) {
		known->last_seen = bpf_ktime_get_ns();
		known->packets++;
		known->state = ESTABLISHED;
		return is_within(known->packets);
	}
	fresh.last_seen = bpf_ktime_get_ns();
	bpf_map_update_elem(&connections, &key, &fresh, BPF_NOEXIST);
	return report(ctx, key.source) ? first : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
