/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The first bytes of a strange packet, in a reserved record. */
#include <oko.h>

struct event {
	__u64 time;
	__u32 length;
	__u8 bytes[20];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

SEC("filter")
int event_reserve(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct event *event;
	struct iphdr *ip = data + 14;

	if ((void *)(ip + 1) > end)
		return 0;
	if (ip->version == 4 && ip->ihl >= 5)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->time = oko_now();
	event->length = end - data;
	__builtin_memcpy(event->bytes, ip, sizeof(event->bytes));
	bpf_ringbuf_submit(event, 0);
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
