/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What the author of a filter program needs.
 *
 * A filter program is one function in SEC("filter"), with the signature int NAME(struct xdp_md *ctx), and a
 * licence in SEC("license"). It returns OKO_MATCH or OKO_NO_MATCH, reads the packet and never writes it, and
 * keeps its state in maps, declared as libbpf does (SEC(".maps"), __uint, __type). The code must be free of
 * cycles: unroll every loop.
 *
 *	oko_cursor.h	a place in a packet, and the contract of all oko_parse_X()
 *	oko_ethernet.h	Ethernet, VLAN tags, SNAP
 *	oko_ip.h	IPv4, IPv6 and its extension headers, fragments
 *	oko_transport.h	TCP and its options, UDP, ICMP and ICMPv6, the packet that an ICMP error quotes
 *	oko_map.h	what tools show of maps: types of members, the meaning of keys and values, configuration,
 *reports
 */
#ifndef OKO_H
#define OKO_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "oko_cursor.h"
#include "oko_ethernet.h"
#include "oko_ip.h"
#include "oko_transport.h"
#include "oko_map.h"

#define OKO_NO_MATCH 0
#define OKO_MATCH 1

/* OpenFlow number of the port that the packet came in on, host order. The switch provides it when it links the
 * program. */
extern __u32 oko_in_port(struct xdp_md *ctx);

/* Time in ns from an arbitrary start; never goes back. In a replay, the time of the capture. */
static __always_inline oko_time oko_now(void)
{
	return bpf_ktime_get_ns();
}

#endif
