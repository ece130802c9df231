/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The smaller of several lengths bounds an index into a map's value. */
#include <oko.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

struct histogram {
	__u32 counts[24];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct histogram);
} histograms SEC(".maps");

SEC("filter")
int min_max(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + 14;
	struct histogram *histogram;
	__s32 length, place;
	__u32 which;

	if ((void *)(ip + 1) > end)
		return 0;
	which = ip->protocol == IPPROTO_TCP;
	histogram = bpf_map_lookup_elem(&histograms, &which);
	if (!histogram)
		return 0;
	length = MIN((__s32)bpf_ntohs(ip->tot_len), (__s32)(end - data)) - 20;
	place = MIN(MAX(length, 0) / 64, 23);
	histogram->counts[place]++;
	return histogram->counts[place] > histogram->counts[0];
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
