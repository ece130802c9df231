/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What the XDP programs that are written by hand have in common: two ports, and counters as OpenFlow asks for them. */
#ifndef BY_HAND_H
#define BY_HAND_H

#include <oko.h>

#define SWITCH_PORTS 2

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, SWITCH_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counter);
} drops SEC(".maps");

/* The interface that is port 0; whatever comes in elsewhere came in at port 1. */
struct {
	__u32 interface;
	__u32 pad;
} first SEC(".data.first") = {.pad = 1};

static __always_inline __u32 port_of(const struct xdp_md *ctx)
{
	return ctx->ingress_ifindex != first.interface;
}

static __always_inline void count(void *counters, __u32 index, const struct xdp_md *ctx)
{
	struct counter *counter = bpf_map_lookup_elem(counters, &index);

	if (counter) {
		counter->packets++;
		counter->bytes += ctx->data_end - ctx->data;
	}
}

static __always_inline int drop(const struct xdp_md *ctx)
{
	count(&drops, 0, ctx);
	return XDP_DROP;
}

#endif
