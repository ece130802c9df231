/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Sends packets of a list, over and over, as fast as a live test run makes frames, or so many per second. A packet has
 * the length that it has in the list; its headers are copied, behind them are zeros. With every pass over the list the
 * address of the client moves, so that a list stands for as many flows as are asked for. Each processor that sends goes
 * through the list on its own. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "probe.h"

#define HEADERS 128 /* bytes */
#define ENTRANCES 2
#define MARK 64	    /* frames from one look at the clock to the next */
#define CATCH_UP 64 /* frames that may follow at once when the processor was busy elsewhere */

struct template
{
	__u32 length;  /* of the frame, at least 14, at most that of the test run's */
	__u8 entrance; /* where it is sent into */
	__u8 address;  /* offset of the last 32 bits of the client's address; 0: it has none */
	__u8 sums[2];  /* offsets of the checksums that cover it; 0: none */
	__u8 headers[HEADERS];
};

struct state {
	__u64 sent;
	__u64 wanted;	/* frames, then all others are dropped */
	__u64 began;	/* ns */
	__u64 last;	/* ns, when `sent` was last a multiple of MARK */
	__u64 due;	/* 1/1024 ns, when the next frame is to be sent */
	__u64 interval; /* 1/1024 ns between two frames; 0: as fast as it goes */
	__u32 next;	/* in the list */
	__u32 count;	/* of the list */
	__u32 variant;	/* what is added to the client's address */
	__u32 first;	/* the least that is */
	__u32 variants; /* how many there are */
	__u32 stride;	/* from one to the next, modulo `variants` */
	__u32 probing;	/* whether one of MARK frames is a probe, if it is IPv4 */
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, ENTRANCES);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 17);
	__type(key, __u32);
	__type(value, struct template);
} templates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

static __always_inline int is_due(struct state *state)
{
	__u64 now;

	if (!state->interval && state->sent % MARK)
		return 1;
	now = bpf_ktime_get_ns();
	if (!state->sent) {
		state->began = now;
		state->due = now << 10;
	}
	if (state->interval) {
		if (now << 10 < state->due)
			return 0;
		if ((now << 10) - state->due > CATCH_UP * state->interval)
			state->due = (now << 10) - CATCH_UP * state->interval;
		state->due += state->interval;
	}
	if (state->sent % MARK == 0)
		state->last = now;
	return 1;
}

/* RFC 1624, equation 3, for 32 bits at once. */
static __always_inline void adjust(void *data, const void *end, __u8 offset, __u32 before, __u32 after)
{
	__u16 *sum = data + offset;
	__u32 total;

	if (!offset || (const void *)(sum + 1) > end)
		return;
	total = (__u16) ~*sum + (__u16)~before + (__u16)(~before >> 16) + (__u16)after + (after >> 16);
	total = (total & 0xffff) + (total >> 16);
	*sum = ~((total & 0xffff) + (total >> 16));
}

static __always_inline void move_client(void *data, const void *end, const struct template *template, __u32 variant)
{
	__u32 *address = data + template->address;
	__u32 before, after;

	if (!template->address || (const void *)(address + 1) > end)
		return;
	before = *address;
	after = __builtin_bswap32(__builtin_bswap32(before) + variant);
	*address = after;
	adjust(data, end, template->sums[0], before, after);
	adjust(data, end, template->sums[1], before, after);
}

/* Gives the packet a number of its own, by which `sink.c` finds when it was sent. */
static __always_inline void make_probe(void *data, const void *end, __u64 number)
{
	struct probed *packet = data;
	__u32 slot = number % PROBES;
	__u64 now;
	__u16 before;

	if ((const void *)(packet + 1) > end || !is_ipv4(packet))
		return;
	before = packet->id;
	packet->id = __builtin_bswap16(FIRST_PROBE + slot);
	adjust(data, end, offsetof(struct probed, sum), before, packet->id);
	now = bpf_ktime_get_ns();
	bpf_map_update_elem(&departures, &slot, &now, BPF_ANY);
}

static __always_inline void advance(struct state *state)
{
	__u64 further;

	state->sent++;
	if (++state->next < state->count)
		return;
	state->next = 0;
	further = (__u64)(state->variant - state->first) + state->stride;
	state->variant = state->first + (further < state->variants ? further : further - state->variants);
}

SEC("xdp")
int traffic(struct xdp_md *ctx)
{
	__u64 *words = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;
	__u32 index = 0, variant;
	struct state *state = bpf_map_lookup_elem(&states, &index);
	struct template *template;
	const __u64 *headers;

	if (!state || state->sent >= state->wanted || !is_due(state))
		return XDP_DROP;
	index = state->next;
	template = bpf_map_lookup_elem(&templates, &index);
	if (!template || (void *)words + HEADERS > end)
		return XDP_ABORTED;
	headers = (const __u64 *)template->headers;
#pragma clang loop unroll(full)
	for (int word = 0; word < HEADERS / 8; word++)
		words[word] = headers[word];
	variant = state->variant;
	if (variant)
		move_client(words, end, template, variant);
	if (state->probing && state->sent % MARK == 0)
		make_probe(words, end, state->sent / MARK);
	advance(state);
	if (bpf_xdp_adjust_tail(ctx, (int)template->length - (int)(end - (void *)words)))
		return XDP_ABORTED;
	return bpf_redirect_map(&target, template->entrance, XDP_ABORTED);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
