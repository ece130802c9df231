/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Both ends of a load whose frames can be told apart. A live test run, whose frames seem to come from the loopback
 * device, sends frames that end in a stamp, a number that counts up; at the interfaces of `ports` it is written down
 * what has arrived of which frame.
 *
 * Frame N is of flow N % FLOWS. Those of flow 0 are to arrive at every port: no more than WINDOW frames are under way
 * behind the last of them that did, so that no queue of a veth (256 frames) is ever too short. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define FLOWS 32
#define PORTS 4
#define FRAMES (1 << 22)
#define WINDOW 192
#define INTERFACES 64
#define WORDS 26   /* of a frame, without its stamp */
#define LONGEST 40 /* words of a frame that has grown on its way, without its stamp */
#define SEED 0x811c9dc5
#define FACTOR 0x9e3779b1 /* odd: multiplying by it spreads the bits */
#define TWICE 2		  /* even, as no digest is */

struct flow {
	__u32 words[WORDS];
};

struct control {
	__u64 stamped; /* frames that were sent */
	__u64 limit;   /* how many are to be, at least; the last one is of flow 0 */
};

struct arrived {
	__u32 digests[PORTS]; /* of all bytes before the stamp; 0 where the frame has not arrived */
};

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, struct flow);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

/* By ifindex: one more than the index of the port. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, INTERFACES);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

/* By port: one more than the last stamp that has arrived. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PORTS);
	__type(key, __u32);
	__type(value, __u64);
} reached SEC(".maps");

/* By port: frames without a stamp that was given out. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PORTS);
	__type(key, __u32);
	__type(value, __u64);
} strays SEC(".maps");

/* By stamp. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FRAMES);
	__type(key, __u32);
	__type(value, struct arrived);
} frames SEC(".maps");

/* The last stamp that has arrived everywhere, and one more. */
static __always_inline __u64 arrived_everywhere(void)
{
	__u64 least = ~0ULL;

#pragma unroll
	for (__u32 port = 0; port < PORTS; port++) {
		__u32 index = port;
		__u64 *at = bpf_map_lookup_elem(&reached, &index);

		if (at && *at < least)
			least = *at;
	}
	return least;
}

static __always_inline int send(struct xdp_md *ctx)
{
	__u32 *words = (void *)(long)ctx->data;
	__u32 index = 0;
	struct control *state = bpf_map_lookup_elem(&control, &index);
	struct flow *flow;
	__u64 stamp;

	if (!state)
		return XDP_ABORTED;
	stamp = state->stamped;
	if (stamp >= state->limit && stamp % FLOWS == 1)
		return XDP_DROP;
	if (stamp >= arrived_everywhere() + WINDOW)
		return XDP_DROP;
	index = stamp % FLOWS;
	flow = bpf_map_lookup_elem(&flows, &index);
	if (!flow || (void *)(words + WORDS + 2) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
#pragma unroll
	for (__u32 word = 0; word < WORDS; word++)
		words[word] = flow->words[word];
	words[WORDS] = stamp;
	words[WORDS + 1] = stamp >> 32;
	state->stamped = stamp + 1;
	return bpf_redirect_map(&target, 0, XDP_ABORTED);
}

/* Returns whether the frame has a stamp. */
static __always_inline int record(struct xdp_md *ctx, __u32 port)
{
	const __u32 *at = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;
	__u32 digest = SEED, index = 0;
	struct control *state = bpf_map_lookup_elem(&control, &index);
	__u64 size = ctx->data_end - ctx->data;
	struct arrived *frame;
	__u64 stamp, *last;

	if (size % sizeof(*at) || size > (LONGEST + 2) * sizeof(*at))
		return 0;
	for (__u32 word = 0; word < LONGEST; word++) {
		if ((const void *)(at + 3) > end)
			break;
		digest = (digest ^ *at) * FACTOR;
		digest ^= digest >> 15;
		at++;
	}
	if (!state || (const void *)(at + 2) > end)
		return 0;
	stamp = at[0] | (__u64)at[1] << 32;
	if (stamp >= state->stamped)
		return 0;
	index = stamp;
	frame = bpf_map_lookup_elem(&frames, &index);
	last = bpf_map_lookup_elem(&reached, &port);
	if (!frame || !last || port >= PORTS)
		return 0;
	frame->digests[port] = frame->digests[port] ? TWICE : digest | 1;
	if (stamp >= *last)
		*last = stamp + 1;
	return 1;
}

SEC("xdp")
int stamped(struct xdp_md *ctx)
{
	__u32 interface = ctx->ingress_ifindex;
	__u32 *port = bpf_map_lookup_elem(&ports, &interface);
	__u32 index;
	__u64 *count;

	if (!port || !*port)
		return send(ctx);
	index = *port - 1;
	if (!record(ctx, index)) {
		count = bpf_map_lookup_elem(&strays, &index);
		if (count)
			++*count;
	}
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
