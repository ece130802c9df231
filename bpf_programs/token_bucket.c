/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A token bucket for each source of IPv4 and IPv6 packets, also behind VLAN tags.
 *
 * A packet matches if it is within the rate of its source: then it has taken its tokens. Nothing else matches: not a
 * packet beyond the rate, which takes no token; not one that is no IP packet or whose IP header is malformed (write a
 * rule for ARP).
 *
 * Token number k of a limit of R tokens per second arrives k / R seconds after time 0, in every bucket that has not
 * got its burst already. That makes a bucket one number, which changes in one compare-and-swap: the arrivals that
 * were taken or found the bucket full. What the bucket holds is the number of arrivals until now, less that.
 *
 * A new source takes a token of the bucket for newcomers. It keeps a flood of forged sources from passing one packet
 * each, and from pushing those sources out of the table whose buckets are not full yet: one that comes back after
 * that would find a full one. A prefix with a numbered bucket is out of that reach: the array forgets nothing. */
#include <oko.h>

#define SECOND 1000000000ULL
#define RETRIES 8
#define NEWCOMERS 0 /* the number of their bucket */

enum token_unit {
	PACKETS,
	BYTES,	   /* of the frame, from the Ethernet header on, without FCS */
	UNLIMITED, /* every packet matches */
};

struct limit {
	__u32 rate;  /* tokens per second; 0: the burst is never filled up again */
	__u32 burst; /* tokens that a bucket holds; a packet that costs more never matches */
	enum token_unit unit;
	__u32 bucket;	     /* all sources share this one; 0: each has its own */
	__u32 source_length; /* bits of the address that make a source, of 32 or 128; 0: the length in the settings */
};

struct token_bucket_settings {
	struct limit otherwise; /* of sources that no prefix in `limits` covers */
	struct limit newcomers; /* a source that is new costs one token; only rate, burst and UNLIMITED count */
	__u32 ipv4_source_length;
	__u32 ipv6_source_length;
};

OKO_CONFIG struct token_bucket_settings config = {
    .otherwise = {.rate = 1000, .burst = 1000, .unit = PACKETS},
    .newcomers = {.rate = 10000, .burst = 10000, .unit = PACKETS},
    .ipv4_source_length = 32,
    .ipv6_source_length = 64,
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct oko_prefix);
	__type(value, struct limit);
} limits SEC(".maps") OKO_KEY(prefix) OKO_VALUE(configuration);

/* 0 is a full bucket, whatever its limit. */
struct bucket {
	__u64 spent; /* arrivals that were taken, or came when it was full */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct oko_prefix);
	__type(value, struct bucket);
} sources SEC(".maps") OKO_KEY(prefix) OKO_VALUE(flow_state);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct bucket);
} buckets SEC(".maps") OKO_KEY(index) OKO_VALUE(shared_state);

/* Packets that did not match, although they have a source. */
struct refusals {
	__u64 excess;	 /* beyond the rate */
	__u64 newcomers; /* of new sources, beyond the rate of the newcomers */
	__u64 contended; /* other CPUs changed the bucket at each of RETRIES attempts */
	__u64 misplaced; /* the limit names a bucket that does not exist, or the table took no new source */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct refusals);
} refused SEC(".maps") OKO_KEY(index) OKO_VALUE(report);

enum outcome {
	TAKEN,
	EXCESS,
	CONTENDED,
	NEWCOMER,
	MISPLACED,
};

/* Tokens that have arrived until `now` (ns). There is one burst more than that, so that a bucket can be full at time 0.
 * Below 2^64 until the clock shows 2^32 s. */
static __always_inline __u64 arrivals(__u32 rate, __u64 now)
{
	return (1ULL << 32) + now / SECOND * rate + now % SECOND * rate / SECOND;
}

/* Take `cost` tokens if the bucket has them. A function of its own, so that its attempts are one piece of code. */
static __noinline int take(struct bucket *bucket, const struct limit *limit, __u64 now, __u32 cost)
{
	__u64 arrived = arrivals(limit->rate, now);
	__u64 kept = arrived - limit->burst; /* what came before does not fit into the bucket */
	__u64 future = arrived + limit->rate;
	__u64 spent = *(volatile __u64 *)&bucket->spent;

#pragma clang loop unroll(full)
	for (int attempt = 0; attempt < RETRIES; attempt++) {
		__u64 from = spent, seen;

		/* Another CPU may have read the clock later and come here earlier, but not by a second: such a number
		 * is left from a limit with a higher rate, and the bucket starts full with the new one. */
		if (from < kept || from > future)
			from = kept;
		if (from + cost > arrived)
			return EXCESS;
		seen = __sync_val_compare_and_swap(&bucket->spent, spent, from + cost);
		if (seen == spent)
			return TAKEN;
		spent = seen;
	}
	return CONTENDED;
}

/* Charge the bucket of this number. */
static __always_inline int charge_numbered(__u32 number, const struct limit *limit, __u64 now, __u32 cost)
{
	struct bucket *bucket = bpf_map_lookup_elem(&buckets, &number);

	return bucket ? take(bucket, limit, now, cost) : MISPLACED;
}

static __always_inline int admit_newcomer(__u64 now)
{
	struct limit limit = config.newcomers;

	return limit.unit == UNLIMITED ? TAKEN : charge_numbered(NEWCOMERS, &limit, now, 1);
}

/* Charge the bucket of `source`, a new one if need be. */
static __always_inline int charge_source(const struct oko_prefix *source, const struct limit *limit, __u64 now,
					 __u32 cost)
{
	struct bucket *bucket = bpf_map_lookup_elem(&sources, source);

	if (!bucket) {
		struct bucket full = {};

		if (cost > limit->burst)
			return EXCESS;
		if (admit_newcomer(now) != TAKEN)
			return NEWCOMER;
		/* If another CPU was faster, its bucket is the one. */
		bpf_map_update_elem(&sources, source, &full, BPF_NOEXIST);
		bucket = bpf_map_lookup_elem(&sources, source);
		if (!bucket)
			return MISPLACED;
	}
	return take(bucket, limit, now, cost);
}

/* The bits of a word of an address, in network order, if it has `length` bits from this word on. */
static __always_inline __be32 word_mask(__s32 length)
{
	if (length >= 32)
		return 0xffffffff;
	return length <= 0 ? 0 : bpf_htonl(~(0xffffffffU >> length));
}

/* The source of a packet from `addr`, of which the first `length` bits count. */
static __always_inline struct oko_prefix source_of(const oko_ip *addr, __u64 length)
{
	__s32 bits = length < 128 ? length : 128;

	return (struct oko_prefix){
	    .length = bits,
	    .addr.word = {addr->word[0] & word_mask(bits), addr->word[1] & word_mask(bits - 32),
			  addr->word[2] & word_mask(bits - 64), addr->word[3] & word_mask(bits - 96)},
	};
}

static __always_inline int refuse(int outcome)
{
	__u32 index = 0;
	struct refusals *refusals = bpf_map_lookup_elem(&refused, &index);

	if (!refusals)
		return OKO_NO_MATCH;
	if (outcome == EXCESS)
		refusals->excess++;
	else if (outcome == NEWCOMER)
		refusals->newcomers++;
	else if (outcome == CONTENDED)
		refusals->contended++;
	else
		refusals->misplaced++;
	return OKO_NO_MATCH;
}

/* Return whether the packet has a source. `version_bits` are those that an oko_ip has before the address. */
static __always_inline int parse(struct xdp_md *ctx, oko_ip *addr, __u32 *version_bits)
{
	struct oko_cursor cursor = oko_cursor(ctx);
	struct ipv6hdr *ipv6;
	struct iphdr *ipv4;
	__be16 eth_type;

	if (!oko_parse_ethernet(&cursor, &eth_type))
		return 0;
	if (eth_type == bpf_htons(ETH_P_IP)) {
		ipv4 = oko_parse_ipv4(&cursor);
		if (!ipv4)
			return 0;
		*addr = oko_ip_of_ipv4(ipv4->saddr);
		*version_bits = 96;
		return 1;
	}
	if (eth_type != bpf_htons(ETH_P_IPV6))
		return 0;
	ipv6 = oko_parse_ipv6(&cursor);
	if (!ipv6)
		return 0;
	*addr = oko_ip_of_ipv6(&ipv6->saddr);
	*version_bits = 0;
	return 1;
}

SEC("filter")
int token_bucket(struct xdp_md *ctx)
{
	struct oko_prefix source = {.length = 128};
	__u32 version_bits, length, cost = 1;
	struct limit *listed, limit;
	__u64 now;
	int outcome;

	if (!parse(ctx, &source.addr, &version_bits))
		return OKO_NO_MATCH;
	listed = bpf_map_lookup_elem(&limits, &source);
	limit = listed ? *listed : config.otherwise;
	if (limit.unit == UNLIMITED)
		return OKO_MATCH;
	if (limit.unit == BYTES)
		cost = ctx->data_end - ctx->data;
	now = oko_now();
	if (limit.bucket) {
		outcome = charge_numbered(limit.bucket, &limit, now, cost);
	} else {
		length = limit.source_length;
		if (!length)
			length = version_bits ? config.ipv4_source_length : config.ipv6_source_length;
		source = source_of(&source.addr, (__u64)version_bits + length);
		outcome = charge_source(&source, &limit, now, cost);
	}
	return outcome == TAKEN ? OKO_MATCH : refuse(outcome);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
