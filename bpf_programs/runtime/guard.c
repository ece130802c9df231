/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The program on the way out of every port of a bridge that stays Open vSwitch's: no shim leaves the machine. Where
 * somebody has replaced Oko's own rules, Open vSwitch may send a packet out as it got it, behind its shim: it is
 * dropped here and counted. It has the form by which the rules know a shim, whatever its addresses, TTL and id are
 * (oko/flow/shim.py). */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* TCX_NEXT, which <linux/bpf.h> has since 6.6. */
enum verdict { NEXT = -1 };

enum nsh {
	ETHERTYPE = 0x894f,
	METADATA_TYPE = 2,
	NEXT_ETHERNET = 3,
	SERVICE_INDEX = 255,
};

struct shim {
	__u8 addresses[2 * ETH_ALEN];
	__be16 type;
	__be16 version;
	__u8 metadata_type;
	__u8 next_protocol;
	__u8 path[3];
	__u8 service_index;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} dropped SEC(".maps");

SEC("tcx/egress")
int oko_guard(struct __sk_buff *skb)
{
	__u32 index = 0;
	struct shim shim;
	__u64 *frames;

	/* A tag that the device is to insert stands before all else. */
	if (skb->vlan_present || bpf_skb_load_bytes(skb, 0, &shim, sizeof(shim)))
		return NEXT;
	if (shim.type != bpf_htons(ETHERTYPE) || shim.metadata_type != METADATA_TYPE ||
	    shim.next_protocol != NEXT_ETHERNET || shim.service_index != SERVICE_INDEX)
		return NEXT;
	frames = bpf_map_lookup_elem(&dropped, &index);
	if (frames)
		++*frames;
	/* There is no interface number 0: the frame ends here, but its sender hears of no error. TCX_DROP would be one,
	 * and Open vSwitch would not send the frames that it has behind this one. */
	return bpf_redirect(0, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
