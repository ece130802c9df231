/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A static function that works on a map's value. */
#include <oko.h>

struct average {
	__u32 count;
	__u32 sum;
	__u64 mean;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, struct average);
} averages SEC(".maps");

static __noinline int sample(struct average *average, __u32 length)
{
	average->count++;
	average->sum += length;
	if (average->count == 16) {
		average->mean = (average->mean * 7 + average->sum / 16) / 8;
		average->count = 0;
		average->sum = 0;
	}
	return length > average->mean * 2;
}

SEC("filter")
int call_map_value(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct average *average;
	__u32 protocol;

	if (data + 34 > end)
		return 0;
	protocol = ((struct iphdr *)(data + 14))->protocol;
	average = bpf_map_lookup_elem(&averages, &protocol);
	if (!average)
		return 0;
	return sample(average, end - data);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
