/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The lookup key: what the pipeline knows of a packet's headers. The compiler reads this layout from the BTF
 * of parser.o and finds members by the name that oko/flow/fields.py gives, so it is written only here.
 * All members are in network order; a header that is not there leaves zeros. Fields that rules often name together
 * share a word of eight bytes, as masked words are what is hashed. */
#ifndef OKO_KEY_H
#define OKO_KEY_H

#include <linux/types.h>

struct oko_key {
	__be32 in_port;
	__be16 eth_type;
	__u8 ip_proto;
	__u8 ip_tos;
	__be32 ipv4_src;  /* of ARP: the sender's protocol address */
	__be32 ipv4_dst;  /* of ARP: the target's */
	__be16 tp_src;	  /* of ICMP: the type */
	__be16 tp_dst;	  /* of ICMP: the code */
	__be16 vlan_tci;  /* of the outermost tag, with bit 12 (DEI) set; 0 without a tag */
	__be16 tcp_flags; /* 12 bits */
	__u8 eth_src[6];
	__be16 arp_op;
	__u8 eth_dst[6];
	__u8 ip_frag; /* 1 a fragment, 3 one that is not the first */
	__u8 unused;
	__be64 metadata;
	__u8 ipv6_src[16];
	__u8 ipv6_dst[16];
	__be32 ipv6_label;  /* 20 bits */
	__be32 mpls_lse;    /* of the outermost label; its TTL reads as 0 */
	__u8 arp_sha[6];    /* of neighbour discovery: the source's link-layer address */
	__be16 ipv6_exthdr; /* OFPIEH_* bits */
	__u8 arp_tha[6];    /* of neighbour discovery: the target's */
	__be16 unused2;
	__u8 nd_target[16];
};

#endif
