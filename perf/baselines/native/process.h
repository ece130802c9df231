/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* What process.c asks of the program in it. */
#ifndef NATIVE_PROCESS_H
#define NATIVE_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <linux/bpf.h>
#include <linux/types.h>

/* CLOCK_MONOTONIC in ns, when this batch of packets was taken in hand. */
extern uint64_t batch_time;

/* Whether the packet passes, which came in at this port, by OpenFlow's number. */
int filter(struct xdp_md *ctx, __u32 in_port);

/* Write an element of the map `name`, its value of so many bytes. Negative if there is no such map, or no room. */
int set_entry(const char *name, const void *key, const void *value, size_t size);

#endif
