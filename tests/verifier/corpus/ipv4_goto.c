/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A short time to live, leaving by goto. */
#include <oko.h>

struct totals {
	__u64 seen;
	__u64 matched;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

SEC("filter")
int ipv4_goto(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct totals *total;
	int verdict = OKO_NO_MATCH;
	__u32 zero = 0;

	if ((void *)(eth + 1) > end)
		goto out;
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		goto out;
	if ((void *)(ip + 1) > end)
		goto out;
	if (ip->ttl > 5)
		goto out;
	verdict = OKO_MATCH;
out:
	total = bpf_map_lookup_elem(&totals, &zero);
	if (total) {
		total->seen++;
		if (verdict)
			total->matched++;
	}
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
