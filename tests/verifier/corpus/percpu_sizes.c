/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A histogram of frame sizes by powers of two, one for each CPU. */
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} sizes SEC(".maps");

static __always_inline __u32 logarithm(__u32 number)
{
	__u32 result = 0;

	if (number >= 1 << 8) {
		number >>= 8;
		result += 8;
	}
	if (number >= 1 << 4) {
		number >>= 4;
		result += 4;
	}
	if (number >= 1 << 2) {
		number >>= 2;
		result += 2;
	}
	if (number >= 1 << 1)
		result += 1;
	return result;
}

SEC("filter")
int percpu_sizes(struct xdp_md *ctx)
{
	__u32 length = ctx->data_end - ctx->data, bucket = logarithm(length);
	__u64 *count = bpf_map_lookup_elem(&sizes, &bucket);

	if (count)
		*count += 1;
	return length > 1400;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
