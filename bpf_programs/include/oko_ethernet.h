/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Ethernet, VLAN tags and SNAP. */
#ifndef OKO_ETHERNET_H
#define OKO_ETHERNET_H

#include <linux/if_ether.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>

#include "oko_cursor.h"

/* An IEEE 802.1Q or 802.1ad tag as it follows its TPID. */
struct oko_vlan {
	__be16 tci;
	__be16 eth_type;
};

/* An IEEE 802.2 header with SNAP (RFC 1042). */
struct oko_snap {
	__u8 llc[3];
	__u8 organisation[3];
	__be16 eth_type;
};

#define OKO_ETH_TYPE_802_2 0x05ff /* eth_type of an 802.3 frame without SNAP, as in Open vSwitch */

/* One tag, if `eth_type` says that one follows; then `eth_type` becomes the tag's. */
static __always_inline struct oko_vlan *oko_parse_vlan(struct oko_cursor *cursor, __be16 *eth_type)
{
	struct oko_vlan *vlan;

	if (*eth_type != bpf_htons(ETH_P_8021Q) && *eth_type != bpf_htons(ETH_P_8021AD))
		return NULL;
	vlan = oko_parse_bytes(cursor, sizeof(*vlan));
	if (vlan)
		*eth_type = vlan->eth_type;
	return vlan;
}

/* An 802.2 header with SNAP whose type is an Ethernet type; `eth_type` becomes it. */
static __always_inline struct oko_snap *oko_parse_snap(struct oko_cursor *cursor, __be16 *eth_type)
{
	struct oko_cursor ahead = *cursor;
	struct oko_snap *snap = oko_parse_bytes(&ahead, sizeof(*snap));

	if (!snap || snap->llc[0] != 0xaa || snap->llc[1] != 0xaa || snap->llc[2] != 0x03 || snap->organisation[0] ||
	    snap->organisation[1] || snap->organisation[2] || bpf_ntohs(snap->eth_type) < ETH_P_802_3_MIN)
		return NULL;
	*eth_type = snap->eth_type;
	*cursor = ahead;
	return snap;
}

/* Ethernet with at most two VLAN tags; a third tag's TPID, or that of a tag cut off, is the eth_type. `eth_type`
 * (network order) is what the payload is, also for 802.3 with SNAP; OKO_ETH_TYPE_802_2 for 802.3 without. The
 * cursor goes to the payload. NULL for a frame shorter than 14 bytes. */
static __always_inline struct ethhdr *oko_parse_ethernet(struct oko_cursor *cursor, __be16 *eth_type)
{
	struct ethhdr *eth = oko_parse_bytes(cursor, sizeof(*eth));

	if (!eth)
		return NULL;
	*eth_type = eth->h_proto;
	if (oko_parse_vlan(cursor, eth_type))
		oko_parse_vlan(cursor, eth_type);
	if (bpf_ntohs(*eth_type) < ETH_P_802_3_MIN && !oko_parse_snap(cursor, eth_type))
		*eth_type = bpf_htons(OKO_ETH_TYPE_802_2);
	return eth;
}

#endif
