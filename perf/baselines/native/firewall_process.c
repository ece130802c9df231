/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The firewall in a process. */
#include "../../../bpf_programs/firewall.c"

#include "process.h"

static __u32 current_port;

__u32 oko_in_port(struct xdp_md *ctx)
{
	(void)ctx;
	return current_port;
}

int filter(struct xdp_md *ctx, __u32 in_port)
{
	current_port = in_port;
	return firewall(ctx);
}

int set_entry(const char *name, const void *key, const void *value, size_t size)
{
	(void)key;
	return strcmp(name, ".data.config") ? -ENOENT : variable_set(&config, sizeof(config), value, size);
}
