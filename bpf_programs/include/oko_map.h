/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What the tools show of a program's maps: types for their members, the meaning of their keys and values,
 * configuration, and reports. The tools read all of it from the object's BTF: compile with -g. */
#ifndef OKO_MAP_H
#define OKO_MAP_H

#include <linux/bpf.h>
#include <linux/in6.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Members of keys and values. Tools know the types by their names; numbers in network order by __be16, __be32, __be64,
 * states by their enum. */
typedef __be32 oko_ipv4;      /* a.b.c.d */
typedef __u8 oko_ip_protocol; /* tcp, udp, … */
typedef __u64 oko_time;	      /* ns, as oko_now(): shown as the time since then */

/* An address of either version; IPv4 as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2), which is shown as a.b.c.d. */
typedef struct oko_ip {
	__be32 word[4];
} oko_ip;

/* The key of an LPM trie; `length` in bits, for an IPv4 prefix of n bits in an oko_ip 96 + n. */
struct oko_prefix {
	__u32 length;
	oko_ip addr;
};

struct oko_ipv4_prefix {
	__u32 length;
	oko_ipv4 addr;
};

/* Both ends of a conversation; which is first is the program's business. Of a protocol without ports they are 0. */
struct oko_flow {
	oko_ip addr[2];
	__be16 port[2];
	oko_ip_protocol protocol;
	__u8 pad[3];
};

static __always_inline oko_ip oko_ip_of_ipv4(oko_ipv4 addr)
{
	return (oko_ip){.word = {0, 0, bpf_htonl(0xffff), addr}};
}

static __always_inline oko_ip oko_ip_of_ipv6(const struct in6_addr *addr)
{
	const __be32 *word = (const __be32 *)addr;

	return (oko_ip){.word = {word[0], word[1], word[2], word[3]}};
}

/* What a map is for, behind its SEC(".maps"): } connections SEC(".maps") OKO_KEY(flow) OKO_VALUE(flow_state);
 *
 *	OKO_KEY		flow, prefix, address, port (of the switch), index
 *	OKO_VALUE	configuration, flow_state (of what the key says), shared_state, report
 */
#define OKO_KEY(MEANING) __attribute__((btf_decl_tag("oko:key=" #MEANING)))
#define OKO_VALUE(MEANING) __attribute__((btf_decl_tag("oko:value=" #MEANING)))

/* A variable that operators set while the program runs: OKO_CONFIG struct settings config = {.burst = 10};
 *
 * The program reads its members as those of any variable. What is written in the source are the defaults. The
 * variable is a map of one element, the tools show and write its members by name, and it keeps its content when the
 * program is replaced by one with a configuration of the same size. It must be one variable, not static, not const. */
#define OKO_CONFIG SEC(".data.config") OKO_VALUE(configuration)

/* A ring buffer for events says what its records are by __type(value, struct NAME): tools then print them by the names
 * of the members. (The kernel knows of no such type, and records may have any size.) */

/* Tell of an event: put `size` bytes (a constant) of `record`, on the stack or in a map, into `ring`, a map of type
 * BPF_MAP_TYPE_RINGBUF. Every byte must have been written, padding too. Return 0; negative if there was no room, then
 * nobody will know of it unless the program counts it. */
static __always_inline long oko_report(void *ring, const void *record, __u64 size)
{
	return bpf_ringbuf_output(ring, (void *)record, size, 0);
}

#endif
