/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A count-min sketch of four rows: the least of four counters is over a limit. */
#include <oko.h>

#define COLUMNS 512

struct row {
	__u32 cells[COLUMNS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct row);
} sketch SEC(".maps");

static const __u32 factors[4] = {2654435761u, 2246822519u, 3266489917u, 668265263u};

SEC("filter")
int count_min(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	__u32 least = ~0u;
	struct iphdr *ip;
	__u32 source;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip)
		return 0;
	source = ip->saddr;
#pragma unroll
	for (__u32 i = 0; i < 4; i++) {
		__u32 number = i, column = (source * factors[i]) >> 23;
		struct row *row = bpf_map_lookup_elem(&sketch, &number);

		if (!row)
			return 0;
		if (column >= COLUMNS)
			column = COLUMNS - 1;
		row->cells[column]++;
		if (row->cells[column] < least)
			least = row->cells[column];
	}
	return least > 1000;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
