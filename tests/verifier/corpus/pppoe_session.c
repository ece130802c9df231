/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The PPP protocol inside a PPPoE session. */
#include <oko.h>

struct pppoe {
	__u8 version : 4;
	__u8 type : 4;
	__u8 code;
	__be16 session;
	__be16 length;
	__be16 protocol;
} __attribute__((packed));

SEC("filter")
int pppoe_session(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct pppoe *pppoe;
	__be16 type;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_PPP_SES))
		return 0;
	pppoe = oko_parse_bytes(&cursor, sizeof(*pppoe));
	if (!pppoe || pppoe->version != 1 || pppoe->type != 1 || pppoe->code)
		return 0;
	return pppoe->protocol == bpf_htons(0x0021) || pppoe->protocol == bpf_htons(0x0057);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
