/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The lookup key: what the pipeline knows of a packet's headers. The compiler reads this layout from the BTF
 * of parser.o and finds members by the name that oko/flow/fields.py gives, so it is written only here.
 * All members are in network order; a header that is not there leaves zeros. */
#ifndef OKO_KEY_H
#define OKO_KEY_H

#include <linux/types.h>

struct oko_key {
	__be32 in_port;
	__be16 eth_type;
	__u8 ip_proto;
	__u8 ip_tos;
	__be32 ipv4_src;
	__be32 ipv4_dst;
	__be16 tp_src;
	__be16 tp_dst;
	__u8 eth_src[6];
	__u8 eth_dst[6];
};

#endif
