/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What the pipeline knows of the packet in hand: the single element of the per-CPU array `packet`. The compiler reads
 * the layout from BTF, as that of the key. Host order where the key's comment does not say otherwise. */
#ifndef OKO_PACKET_H
#define OKO_PACKET_H

#include "key.h"

enum {
	OKO_SET_FIELDS = 40, /* one more than the highest OXM number of a field that can be set */
	OKO_KEY_WORDS = sizeof(struct oko_key) / 8,
};

/* The data of one action, e.g. the value of a set-field: as long as its OXM, in network order, zeros behind. */
struct oko_argument {
	__u8 value[16];
};

/* The actions that wait for the end of the pipeline (OpenFlow 1.3.5, 5.10). `kinds` has a bit for each kind that is
 * there, `fields` one for each set-field, by OXM number. */
struct oko_action_set {
	__u64 fields;
	__u32 kinds;
	__u32 output; /* a port set */
	__u32 group;
	__u32 pop_mpls; /* the ethertype behind it */
	__u32 push_mpls;
	__u32 push_vlan;
	__u32 set_mpls_ttl;
	__u32 set_ttl;
	struct oko_argument values[OKO_SET_FIELDS];
};

struct oko_packet {
	struct oko_key key;
	__u16 network;			 /* offset of what follows the eth_type: the IP header, if there is one */
	__u16 transport;		 /* offset of the TCP, UDP, ICMP or ICMPv6 header; 0 if none was parsed */
	__u32 outputs;			 /* the port set that the packet has to leave by */
	__u64 ran;			 /* programs that ran on this packet, by slot */
	__u64 said;			 /* and which of them said yes */
	__u64 hint;			 /* groups of hashed rules that may have one for the packet */
	__u64 lookup[OKO_KEY_WORDS + 1]; /* the key of a hash: number of the group, then masked words of 4 bytes */
	struct oko_action_set set;
};

#endif
