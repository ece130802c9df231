/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Packets for the controllers, through a ring buffer. oko/compiler/packet_in.py reads the records. */
#include <stdbool.h>

#include <oko.h>

#include "packet.h"

#pragma clang diagnostic ignored "-Wunused-parameter" /* all functions of a kind have the same prototype */

struct oko_packet_in {
	__u64 time; /* ns */
	__u64 metadata;
	__u32 slot; /* of the rule */
	__u32 in_port;
	__u32 length; /* of the frame */
	__u8 reason;
	__u8 table;
	__u16 unused;
	__u8 frame[];
};

/* What the argument holds. */
struct cause {
	__u32 slot;
	__u8 reason;
	__u8 table;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} packet_ins SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} packet_in_drops SEC(".maps");

/* Send a record of `size` bytes, which must be constant as the kernel wants it so. Return whether there was room. */
static __always_inline bool tell(struct xdp_md *ctx, const struct oko_packet *packet, const struct cause *cause,
				 __u64 length, const __u64 size)
{
	struct oko_packet_in *record;

	barrier_var(length); /* compare all 64 bits, and each bound on its own, for the kernel's verifier */
	if (length < ETH_HLEN)
		return false;
	barrier_var(length);
	if (length > size - sizeof(*record))
		return false;
	record = bpf_ringbuf_reserve(&packet_ins, size, 0);
	if (!record)
		return false;
	record->time = bpf_ktime_get_ns();
	record->metadata = bpf_be64_to_cpu(packet->key.metadata);
	record->slot = cause->slot;
	record->in_port = bpf_ntohl(packet->key.in_port);
	record->length = length;
	record->reason = cause->reason;
	record->table = cause->table;
	record->unused = 0;
	if (bpf_xdp_load_bytes(ctx, 0, record->frame, length)) {
		bpf_ringbuf_discard(record, 0);
		return false;
	}
	bpf_ringbuf_submit(record, 0);
	return true;
}

/* The argument is a struct cause. Return 1 if the packet found no room, which is counted. */
SEC("runtime/packet_in")
int oko_packet_in(struct xdp_md *ctx, struct oko_packet *packet, const struct oko_argument *argument, __u32 number)
{
	__u64 length = ctx->data_end - ctx->data;
	const struct cause *cause = (const void *)argument;
	__u32 index = 0;
	bool told = false;
	__u64 *drops;

	if (!packet || !argument)
		return 0;
	/* Frames of the usual sizes in as little of the ring as they need; the last takes what XDP takes of a jumbo
	 * frame. */
	if (length <= 128 - sizeof(struct oko_packet_in))
		told = tell(ctx, packet, cause, length, 128);
	else if (length <= 512 - sizeof(struct oko_packet_in))
		told = tell(ctx, packet, cause, length, 512);
	else if (length <= 1664 - sizeof(struct oko_packet_in))
		told = tell(ctx, packet, cause, length, 1664);
	else if (length <= 4096 - sizeof(struct oko_packet_in))
		told = tell(ctx, packet, cause, length, 4096);
	else if (length <= 16384 - sizeof(struct oko_packet_in))
		told = tell(ctx, packet, cause, length, 16384);
	if (told)
		return 0;
	drops = bpf_map_lookup_elem(&packet_in_drops, &index);
	if (drops)
		++*drops;
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
