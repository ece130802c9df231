/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* An index from the packet chooses a counter. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct locked {
	struct bpf_spin_lock lock;
	__u32 count[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct locked);
} counters SEC(".maps");

SEC("filter")
int unbounded_index(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 key = 1, index;
	struct locked *counter = bpf_map_lookup_elem(&counters, &key);

	if (!counter || data + 1 > end)
		return 0;
	index = data[0];
#ifdef MENDED
	if (index >= 7)
		return 0;
#endif
	counter->count[index] = 1; /* fault: map-bounds */
	return 1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
