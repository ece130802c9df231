/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A request line of HTTP, by words of the payload, behind a header of any length. */
#include <oko.h>

SEC("filter")
int http_method(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct tcphdr *tcp;
	struct iphdr *ip;
	__be32 *text;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP)
		return 0;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp)
		return 0;
	if (tcp->doff > 5 && !oko_parse_bytes(&cursor, tcp->doff * 4 - sizeof(*tcp)))
		return 0;
	text = oko_parse_bytes(&cursor, 8);
	if (!text)
		return 0;
	if (text[0] == bpf_htonl(0x47455420))
		return 1;
	if (text[0] == bpf_htonl(0x504f5354) && (text[1] & bpf_htonl(0xff000000)) == bpf_htonl(0x20000000))
		return 1;
	return text[0] == bpf_htonl(0x48454144);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
