/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Meters with drop bands. oko/compiler/meter.py writes and reads the same layout, oko/flow/bucket.py has the token
 * bucket in Python. */
#include <stdbool.h>

#include <oko.h>

#include "packet.h"

#pragma clang diagnostic ignored "-Wunused-parameter" /* all functions of a kind have the same prototype */

enum {
	METERS = 1024,
	BANDS = 4,
};

struct oko_band {
	__u64 rate;	/* tokens gained in each ns */
	__u64 capacity; /* below 2^63 */
	__u64 fill;	/* ns in which an empty bucket gains its capacity, or more */
	__u64 tokens;
	__u64 packets; /* dropped */
	__u64 bytes;
};

struct oko_meter {
	struct bpf_spin_lock lock;
	__u32 bands;
	__u64 last;	  /* time of the last packet, ns */
	__u64 per_packet; /* tokens that a packet costs */
	__u64 per_byte;	  /* and each of its bytes */
	__u64 packets;
	__u64 bytes;
	struct oko_band band[BANDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, METERS);
	__type(key, __u32);
	__type(value, struct oko_meter);
} meters SEC(".maps");

/* Take `cost` tokens if there are so many, `elapsed` ns after the last packet. */
static __always_inline bool take(struct oko_band *band, __u64 cost, __u64 elapsed)
{
	if (elapsed >= band->fill)
		band->tokens = band->capacity;
	else
		band->tokens += elapsed * band->rate; /* that is less than the capacity */
	if (band->tokens > band->capacity)
		band->tokens = band->capacity;
	if (band->tokens < cost)
		return false;
	band->tokens -= cost;
	return true;
}

/* Charge the packet to the meter in slot `number`. Return 1 if it has to be dropped. */
SEC("runtime/meter")
int oko_meter(struct xdp_md *ctx, struct oko_packet *packet, const struct oko_argument *argument, __u32 number)
{
	__u64 now = bpf_ktime_get_ns(); /* before the lock, under which no helper can be called */
	__u64 size = ctx->data_end - ctx->data;
	struct oko_meter *meter = bpf_map_lookup_elem(&meters, &number);
	__u64 elapsed = 0, highest = 0, cost;
	int exceeded = -1;

	if (!meter)
		return 1;
	bpf_spin_lock(&meter->lock);
	meter->packets++;
	meter->bytes += size;
	/* Another processor may have read the clock later and come here earlier. */
	if (now > meter->last) {
		elapsed = now - meter->last;
		meter->last = now;
	}
	cost = meter->per_packet + size * meter->per_byte;
#pragma unroll
	for (int i = 0; i < BANDS; i++) {
		if (i >= (int)meter->bands || take(&meter->band[i], cost, elapsed))
			continue;
		if (exceeded < 0 || meter->band[i].rate > highest) {
			exceeded = i;
			highest = meter->band[i].rate;
		}
	}
#pragma unroll
	for (int i = 0; i < BANDS; i++) {
		if (i == exceeded) {
			meter->band[i].packets++;
			meter->band[i].bytes += size;
		}
	}
	bpf_spin_unlock(&meter->lock);
	return exceeded >= 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
