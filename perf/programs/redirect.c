/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What somebody would write by hand for "what comes in here goes out there": count packets and bytes, redirect. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	__u32 index = 0;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter) {
		counter->packets++;
		counter->bytes += ctx->data_end - ctx->data;
	}
	return bpf_redirect_map(&target, 0, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
