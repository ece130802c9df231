/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* The token bucket in a process. */
#include "../../../bpf_programs/token_bucket.c"

#include "process.h"

int filter(struct xdp_md *ctx, __u32 in_port)
{
	(void)in_port;
	return token_bucket(ctx);
}

int set_entry(const char *name, const void *key, const void *value, size_t size)
{
	if (!strcmp(name, "limits"))
		return table_set(TABLE(&limits), key, value, size);
	return strcmp(name, ".data.config") ? -ENOENT : variable_set(&config, sizeof(config), value, size);
}
