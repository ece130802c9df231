/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Headers copied to the stack by xdp_load_bytes instead of pointers. */
#include <oko.h>

SEC("filter")
int load_header(struct xdp_md *ctx)
{
	struct iphdr ip;
	struct tcphdr tcp;

	if (bpf_xdp_load_bytes(ctx, sizeof(struct ethhdr), &ip, sizeof(ip)))
		return 0;
	if (ip.version != 4 || ip.protocol != IPPROTO_TCP)
		return 0;
	if (bpf_xdp_load_bytes(ctx, sizeof(struct ethhdr) + ip.ihl * 4, &tcp, sizeof(tcp)) < 0)
		return 0;
	return tcp.syn && tcp.fin;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
