/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The server name of a TLS ClientHello, found among the first eight extensions. */
#include <oko.h>

struct name {
	char text[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct name);
	__type(value, __u32);
} names SEC(".maps");

SEC("filter")
int tls_sni(struct xdp_md *ctx)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct name name = {};
	struct tcphdr *tcp;
	struct iphdr *ip;
	__u8 *at, *end = cursor.end;
	__be16 type;
	__u32 length;

	if (!oko_parse_ethernet(&cursor, &type) || type != bpf_htons(ETH_P_IP))
		return 0;
	ip = oko_parse_ipv4(&cursor);
	if (!ip || ip->protocol != IPPROTO_TCP)
		return 0;
	tcp = oko_parse_tcp(&cursor);
	if (!tcp || tcp->dest != bpf_htons(443))
		return 0;
	at = (__u8 *)tcp + tcp->doff * 4;
	if (at + 44 > end || at[0] != 22 || at[5] != 1)
		return 0;
	at += 43;
	at += 1 + at[0];
	if (at + 2 > end)
		return 0;
	length = at[0] << 8 | at[1];
	if (length > 256)
		return 0;
	at += 2 + length;
	if (at + 1 > end)
		return 0;
	at += 1 + at[0] + 2;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		__u32 kind, size;

		if (at + 4 > end)
			return 0;
		kind = at[0] << 8 | at[1];
		size = at[2] << 8 | at[3];
		if (kind == 0) {
			at += 9;
			if (at + sizeof(name) > end)
				return 0;
			__builtin_memcpy(name.text, at, sizeof(name));
			return bpf_map_lookup_elem(&names, &name) != NULL;
		}
		if (size > 512)
			return 0;
		at += 4 + size;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
