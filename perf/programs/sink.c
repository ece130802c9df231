/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Counts every frame and drops it. Only a marker goes on to the stack, where a packet socket waits for it. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MARKER 0x88b5 /* local experimental ethertype 1, IEEE 802 */
#define MARK 64	      /* frames from one look at the clock to the next */

struct ethernet {
	__u8 addresses[12];
	__be16 type;
};

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

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	const struct ethernet *header = (void *)(long)ctx->data;
	const void *end = (void *)(long)ctx->data_end;
	__u32 index = 0;
	struct arrivals *arrivals = bpf_map_lookup_elem(&frames, &index);

	if (arrivals) {
		arrivals->bytes += end - (const void *)header;
		if (++arrivals->frames % MARK == 0)
			arrivals->last = bpf_ktime_get_ns();
	}
	if ((const void *)(header + 1) <= end && header->type == bpf_htons(MARKER))
		return XDP_PASS;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
