/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* NTP mode 7 replies of more than 200 bytes. */
#include <oko.h>

SEC("filter")
int ntp_monlist(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct udphdr *udp;
	struct iphdr *ip;
	__u8 *ntp;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	if (!(ip = oko_parse_ipv4(&cursor)) || ip->protocol != IPPROTO_UDP || oko_is_later_fragment(ip))
		return 0;
	if (!(udp = oko_parse_udp(&cursor)) || udp->source != bpf_htons(123))
		return 0;
	if (cursor.left < 200 || !(ntp = oko_parse_bytes(&cursor, 4)))
		return 0;
	return (ntp[0] & 7) == 7 && (ntp[3] == 42 || ntp[3] == 20);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
