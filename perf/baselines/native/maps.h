/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* Maps of filter programs in a process: arrays, hashes that chain, and tries, which are searched length by length. */
#ifndef NATIVE_MAPS_H
#define NATIVE_MAPS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/bpf.h>

#define TABLES 16
#define NO_ELEMENT 0xffffffffU

struct table {
	const void *map; /* what it is the content of */
	uint32_t type;
	uint32_t size; /* elements at most */
	uint32_t key_size;
	uint32_t value_size;
	uint32_t stride; /* bytes from element to element */
	uint32_t mask;	 /* buckets, less one */
	uint32_t used;	 /* elements that ever were */
	uint32_t free;	 /* the first that was deleted */
	uint32_t oldest; /* of an LRU hash: the next to make room */
	uint32_t *buckets;
	uint32_t *next;	     /* by element: in its bucket, or among the deleted ones */
	char *elements;	     /* value, then key */
	uint64_t lengths[3]; /* of prefixes that a trie has, one bit each */
};

static struct table tables[TABLES];

static inline void *allocate(size_t size)
{
	void *memory = calloc(1, size);

	if (!memory) {
		perror("maps");
		exit(1);
	}
	return memory;
}

static inline int is_array(const struct table *table)
{
	return table->type == BPF_MAP_TYPE_ARRAY || table->type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static struct table *new_table(struct table *table, const void *map, uint32_t type, uint32_t size, uint32_t key_size,
			       uint32_t value_size)
{
	uint32_t buckets = 1;

	*table = (struct table){.map = map, .type = type, .size = size, .key_size = key_size, .value_size = value_size};
	table->stride = (value_size + 7) / 8 * 8;
	if (!is_array(table)) {
		while (buckets < size)
			buckets *= 2;
		table->stride += (key_size + 7) / 8 * 8;
		table->mask = buckets - 1;
		table->free = NO_ELEMENT;
		table->buckets = allocate(sizeof(*table->buckets) * buckets);
		memset(table->buckets, 0xff, sizeof(*table->buckets) * buckets);
		table->next = allocate(sizeof(*table->next) * size);
	}
	table->elements = allocate((size_t)table->stride * size);
	return table;
}

/* The table of a map; all arguments but the first are constants. */
static inline struct table *table_of(const void *map, uint32_t type, uint32_t size, uint32_t key_size,
				     uint32_t value_size)
{
	for (struct table *table = tables; table < tables + TABLES; table++) {
		if (table->map == map)
			return table;
		if (!table->map)
			return new_table(table, map, type, size, key_size, value_size);
	}
	fprintf(stderr, "more than %d maps\n", TABLES);
	exit(1);
}

static inline char *element_at(const struct table *table, uint32_t index)
{
	return table->elements + (size_t)table->stride * index;
}

static inline char *key_at(const struct table *table, uint32_t index)
{
	return element_at(table, index) + (table->value_size + 7) / 8 * 8;
}

static inline uint32_t *bucket_of(const struct table *table, const void *key)
{
	const unsigned char *bytes = key;
	uint64_t hash = 0;
	uint32_t place = 0, word;

	for (; place + 4 <= table->key_size; place += 4) {
		memcpy(&word, bytes + place, 4);
		hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
		hash ^= hash >> 29;
	}
	for (; place < table->key_size; place++)
		hash = (hash ^ bytes[place]) * 0x9e3779b97f4a7c15ULL;
	return &table->buckets[(hash >> 32) & table->mask];
}

/* The link that leads to the element with this key, or the last one of its bucket. */
static inline uint32_t *link_to(const struct table *table, const void *key)
{
	uint32_t *link = bucket_of(table, key);

	while (*link != NO_ELEMENT && memcmp(key_at(table, *link), key, table->key_size))
		link = &table->next[*link];
	return link;
}

static inline void *hash_lookup(const struct table *table, const void *key)
{
	uint32_t index = *link_to(table, key);

	return index == NO_ELEMENT ? NULL : element_at(table, index);
}

/* The longest prefix first; a key begins with its length, in 32 bits. */
static inline void *trie_lookup(const struct table *table, const void *key)
{
	unsigned char prefix[32];
	uint32_t length, most;
	void *found;

	memcpy(prefix, key, table->key_size);
	memcpy(&most, key, sizeof(most));
	for (length = most + 1; length-- > 0;) {
		for (uint32_t bit = length; bit < most; bit++)
			prefix[4 + bit / 8] &= ~(0x80 >> bit % 8);
		most = length;
		if (!(table->lengths[length / 64] >> length % 64 & 1))
			continue;
		memcpy(prefix, &length, sizeof(length));
		found = hash_lookup(table, prefix);
		if (found)
			return found;
	}
	return NULL;
}

static inline void *table_lookup(const struct table *table, const void *key)
{
	uint32_t index;

	if (table->type == BPF_MAP_TYPE_LPM_TRIE)
		return table->used ? trie_lookup(table, key) : NULL;
	if (!is_array(table))
		return hash_lookup(table, key);
	memcpy(&index, key, sizeof(index));
	return index < table->size ? element_at(table, index) : NULL;
}

static inline long table_delete(struct table *table, const void *key)
{
	uint32_t *link = link_to(table, key), index = *link;

	if (index == NO_ELEMENT)
		return -ENOENT;
	*link = table->next[index];
	table->next[index] = table->free;
	table->free = index;
	return 0;
}

/* An element that is free, NO_ELEMENT if there is none. An LRU hash that is full gives its elements away in turn. */
static inline uint32_t new_element(struct table *table)
{
	uint32_t index = table->free;

	if (index == NO_ELEMENT && table->used < table->size)
		return table->used++;
	if (index == NO_ELEMENT && table->type == BPF_MAP_TYPE_LRU_HASH) {
		table_delete(table, key_at(table, table->oldest));
		table->oldest = (table->oldest + 1) % table->size;
		index = table->free;
	}
	if (index != NO_ELEMENT)
		table->free = table->next[index];
	return index;
}

static inline long table_update(struct table *table, const void *key, const void *value, uint64_t flags)
{
	void *element = table_lookup(table, key);
	uint32_t index, length, *bucket;

	if (table->type == BPF_MAP_TYPE_LPM_TRIE)
		element = hash_lookup(table, key);
	if (element && flags == BPF_NOEXIST)
		return -EEXIST;
	if (!element) {
		if (is_array(table))
			return -E2BIG;
		index = new_element(table);
		if (index == NO_ELEMENT)
			return -E2BIG;
		bucket = bucket_of(table, key);
		table->next[index] = *bucket;
		*bucket = index;
		memcpy(key_at(table, index), key, table->key_size);
		element = element_at(table, index);
		if (table->type == BPF_MAP_TYPE_LPM_TRIE) {
			memcpy(&length, key, sizeof(length));
			table->lengths[length / 64] |= 1ULL << length % 64;
		}
	}
	memcpy(element, value, table->value_size);
	return 0;
}

/* What set_entry() answers for this table. */
static inline int table_set(struct table *table, const void *key, const void *value, size_t size)
{
	if (size != table->value_size)
		return -EINVAL;
	if (!is_array(table))
		return table_update(table, key, value, BPF_ANY);
	memcpy(table_lookup(table, key), value, size);
	return 0;
}

/* The same for a variable. */
static inline int variable_set(void *variable, size_t variable_size, const void *value, size_t size)
{
	if (size != variable_size)
		return -EINVAL;
	memcpy(variable, value, size);
	return 0;
}

#endif
