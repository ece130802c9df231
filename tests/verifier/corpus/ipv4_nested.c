/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A TCP reset, with nested ifs and one return. */
#include <oko.h>

SEC("filter")
int ipv4_nested(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	int found = 0;

	if (data + sizeof(*eth) <= end) {
		if (eth->h_proto == bpf_htons(ETH_P_IP)) {
			struct iphdr *ip = data + sizeof(*eth);

			if (data + sizeof(*eth) + sizeof(*ip) <= end) {
				if (ip->protocol == IPPROTO_TCP && ip->ihl >= 5) {
					struct tcphdr *tcp = (void *)ip + ip->ihl * 4;

					if ((void *)(tcp + 1) <= end)
						found = tcp->rst;
				}
			}
		}
	}
	return found;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
