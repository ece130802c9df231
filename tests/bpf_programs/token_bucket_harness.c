/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Runs the token bucket as a program of its own, by a clock that goes on by itself from packet to packet. */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

static __always_inline __u64 harness_now(void);
#define bpf_ktime_get_ns harness_now

#include <oko.h>

/* As in firewall_harness.c. */
#undef SEC
#define SEC(name) __attribute__((section(name)))
static __always_inline int token_bucket(struct xdp_md *ctx);

#include "../../bpf_programs/token_bucket.c"

struct run {
	__u64 now;    /* ns */
	__u64 step;   /* ns that every packet adds */
	__u64 source; /* IPv4 address of the next packet, which every packet increments; 0: leave it alone */
	__u64 matches;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct run);
} runs SEC(".maps");

static __always_inline __u64 harness_now(void)
{
	__u32 index = 0;
	struct run *run = bpf_map_lookup_elem(&runs, &index);

	return run ? run->now : 0;
}

static __always_inline void forge(struct xdp_md *ctx, __u32 source)
{
	struct iphdr *ip = (void *)(long)ctx->data + sizeof(struct ethhdr);

	if ((void *)(ip + 1) <= (void *)(long)ctx->data_end)
		ip->saddr = bpf_htonl(source);
}

SEC("xdp")
int token_bucket_harness(struct xdp_md *ctx)
{
	__u32 index = 0;
	struct run *run = bpf_map_lookup_elem(&runs, &index);
	int matches;

	if (!run)
		return XDP_ABORTED;
	if (run->source)
		forge(ctx, run->source++);
	matches = token_bucket(ctx);
	run->now += run->step;
	run->matches += matches;
	return matches;
}
