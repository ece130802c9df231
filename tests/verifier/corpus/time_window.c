/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Packets of each second, in a ring of 16 seconds. */
#include <oko.h>

struct second {
	__u64 number;
	__u32 packets;
	__u32 unused;
};

struct second ring[16];

SEC("filter")
int time_window(struct xdp_md *ctx)
{
	__u64 now = bpf_ktime_get_boot_ns() / 1000000000;
	struct second *second = &ring[now % 16];
	__u32 sum = 0;

	if (second->number != now) {
		second->number = now;
		second->packets = 0;
	}
	second->packets++;
#pragma unroll
	for (int i = 0; i < 16; i++)
		if (now - ring[i].number < 10)
			sum += ring[i].packets;
	return sum > 5000;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
