/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Puts the next packet of a list in the place of the one that a test run repeats, and jumps to the pipeline. Of a
 * packet the headers are copied; behind them it has its length, and whatever was there. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include <oko_cursor.h>

#define HEADERS 124 /* bytes */

struct packet {
	__u32 length;
	__u8 headers[HEADERS];
};

struct position {
	__u32 next;
	__u32 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 17);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct position);
} position SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} slot SEC(".maps");

SEC("xdp")
int rotation(struct xdp_md *ctx)
{
	__u32 zero = 0, index, size;
	struct position *place = bpf_map_lookup_elem(&position, &zero);
	struct packet *packet;

	if (!place)
		return XDP_ABORTED;
	index = place->next;
	place->next = index + 1 < place->count ? index + 1 : 0;
	packet = bpf_map_lookup_elem(&packets, &index);
	if (!packet || bpf_xdp_adjust_tail(ctx, packet->length - oko_cursor(ctx).left))
		return XDP_ABORTED;
	size = packet->length < HEADERS ? packet->length : HEADERS;
	if (!size || bpf_xdp_store_bytes(ctx, 0, packet->headers, size))
		return XDP_ABORTED;
	bpf_tail_call_static(ctx, &slot, 0);
	return XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
