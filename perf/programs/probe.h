/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A probe: a packet of IPv4 whose identification says when it was sent. All others have a smaller one. */
#ifndef PROBE_H
#define PROBE_H

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PROBES 0x8000 /* that may be on their way */
#define FIRST_PROBE 0x8000

/* The identification and the checksum of an IPv4 header without options, RFC 791, 3.1, directly behind Ethernet. */
struct probed {
	__u8 addresses[12];
	__be16 type;
	__u8 version;
	__u8 tos;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 sum;
} __attribute__((packed));

/* ns, 0 for a probe that was not sent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROBES);
	__type(key, __u32);
	__type(value, __u64);
} departures SEC(".maps");

static __always_inline int is_ipv4(const struct probed *packet)
{
	return packet->type == bpf_htons(0x0800);
}

#endif
