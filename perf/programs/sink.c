/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Counts every frame and drops it, and of a probe how long it took. Only a marker goes on to the stack, where a packet
 * socket waits for it. */
#include "probe.h"

#define MARKER 0x88b5 /* local experimental ethertype 1, IEEE 802 */
#define MARK 64	      /* frames from one look at the clock to the next */

struct arrivals {
	__u64 frames;
	__u64 bytes;
	__u64 last; /* ns, when `frames` was last a multiple of MARK */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct arrivals);
} frames SEC(".maps");

/* By ns: eight buckets from each power of two to the next, those below eight of one ns each. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 62 * 8);
	__type(key, __u32);
	__type(value, __u64);
} delays SEC(".maps");

/* clang 14 makes nothing of __builtin_clzll for BPF. */
static __always_inline __u32 power_of_two(__u64 value)
{
	__u32 power = 0;

#pragma clang loop unroll(full)
	for (__u32 bits = 32; bits; bits >>= 1) {
		if (value >> bits) {
			value >>= bits;
			power += bits;
		}
	}
	return power;
}

static __always_inline __u32 bucket_of(__u64 delay)
{
	__u32 power = power_of_two(delay);

	return power < 3 ? delay : (power - 2) * 8 + (delay >> (power - 3) & 7);
}

static __always_inline void take_time(const struct probed *packet)
{
	__u32 slot = bpf_ntohs(packet->id) - FIRST_PROBE, index;
	__u64 *sent = bpf_map_lookup_elem(&departures, &slot), *delays_of_bucket;

	if (!sent || !*sent)
		return;
	index = bucket_of(bpf_ktime_get_ns() - *sent);
	delays_of_bucket = bpf_map_lookup_elem(&delays, &index);
	if (delays_of_bucket)
		++*delays_of_bucket;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	const struct probed *packet = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;
	__u32 index = 0;
	struct arrivals *arrivals = bpf_map_lookup_elem(&frames, &index);

	if (arrivals) {
		arrivals->bytes += end - (const void *)packet;
		if (++arrivals->frames % MARK == 0)
			arrivals->last = bpf_ktime_get_ns();
	}
	if ((const void *)(packet + 1) > end)
		return XDP_DROP;
	if (packet->type == bpf_htons(MARKER))
		return XDP_PASS;
	if (is_ipv4(packet) && bpf_ntohs(packet->id) >= FIRST_PROBE)
		take_time(packet);
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
