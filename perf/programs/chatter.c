/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A filter program that matches nothing, counts what it sees by the last byte of the source address, and tells of one
 * packet in EVERY. Nothing depends on its maps, so that anybody may write them. */
#include <oko.h>

#define EVERY 256

struct seen {
	__u64 packets;
};

struct event {
	__u32 source;
	__u32 zero;
	__u64 packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct seen);
} sources SEC(".maps") OKO_KEY(index) OKO_VALUE(report);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct seen);
} notes SEC(".maps") OKO_KEY(index) OKO_VALUE(report);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__type(value, struct event);
} events SEC(".maps");

SEC("filter")
int chatter(struct xdp_md *ctx)
{
	const __u8 *data = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;
	struct seen first = {.packets = 1}, *seen;
	struct event event = {};

	if ((const void *)(data + 12) > end)
		return OKO_NO_MATCH;
	event.source = data[11];
	seen = bpf_map_lookup_elem(&sources, &event.source);
	if (!seen) {
		bpf_map_update_elem(&sources, &event.source, &first, BPF_ANY);
		return OKO_NO_MATCH;
	}
	seen->packets++;
	event.packets = seen->packets;
	if (event.packets % EVERY == 0)
		oko_report(&events, &event, sizeof(event));
	return OKO_NO_MATCH;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
