/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A reserved record is not submitted on one way. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("filter")
int record_forgotten(struct xdp_md *ctx)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record)
		return 0;
	*record = bpf_ktime_get_ns();
#ifdef MENDED
	if (*record & 1)
		bpf_ringbuf_discard(record, 0);
	else
		bpf_ringbuf_submit(record, 0);
#endif
	return 1;
} /* fault: record-leak */

char LICENSE[] SEC("license") = "Dual BSD/GPL";
