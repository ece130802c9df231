/* SPDX-License-Identifier: (BSD-3-Clause OR GPL-2.0-only) */
/* A process that packets visit: what comes in at one of two interfaces goes out at the other if `filter` matches.
 *
 *	PROGRAM INTERFACE INTERFACE SOCKETS SOCKETS
 *
 * SOCKETS are file descriptors of XSKMAPs: where the frames that come in at either interface go. Entries of maps are
 * read from standard input, a line "MAP KEY VALUE" for each, in hexadecimal; an empty line ends them, and the answer is
 * "ready".
 *
 * Both interfaces have one socket (queue 0) and share the memory of the frames, so that none is copied here. Indices of
 * rings are read and written once for a batch: each time a cache line moves from the processor that sends to this one,
 * or back. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "process.h"

#define SIDES 2
#define FRAME 2048 /* bytes */
#define RING 2048  /* frames: a power of two, for all four rings of a side */
#define FRAMES (RING * SIDES)
#define BATCH 32 /* frames: as many as the kernel sends at a time */
#define LONGEST_LINE 4096

/* A ring that is shared with the kernel. */
struct ring {
	_Atomic uint32_t *producer;
	_Atomic uint32_t *consumer;
	_Atomic uint32_t *flags;
	void *elements;
};

struct side {
	int socket;
	struct ring received, sent, empty, completed;
};

uint64_t batch_time;

static struct side sides[SIDES];
static char *memory;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void require(int result, const char *what)
{
	if (result < 0)
		fail(what);
}

static struct ring map_ring(int fd, const struct xdp_ring_offset *offsets, size_t element, off_t which)
{
	char *start =
	    mmap(NULL, offsets->desc + RING * element, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, which);

	if (start == MAP_FAILED)
		fail("mapping a ring");
	return (struct ring){
	    .producer = (void *)(start + offsets->producer),
	    .consumer = (void *)(start + offsets->consumer),
	    .flags = (void *)(start + offsets->flags),
	    .elements = start + offsets->desc,
	};
}

static uint32_t waiting(const struct ring *ring)
{
	return atomic_load_explicit(ring->producer, memory_order_acquire) -
	       atomic_load_explicit(ring->consumer, memory_order_acquire);
}

/* An index that only this process writes. */
static uint32_t own(const _Atomic uint32_t *index)
{
	return atomic_load_explicit(index, memory_order_relaxed);
}

static void advance(_Atomic uint32_t *index, uint32_t count)
{
	atomic_store_explicit(index, own(index) + count, memory_order_release);
}

static void option(int fd, int name, const void *value, socklen_t size)
{
	require(setsockopt(fd, SOL_XDP, name, value, size), "setting up an AF_XDP socket");
}

/* The first side's socket owns the memory, the second one's shares it. */
static void open_side(uint32_t number, int interface)
{
	struct side *side = &sides[number];
	struct sockaddr_xdp address = {.sxdp_family = AF_XDP, .sxdp_ifindex = interface};
	struct xdp_umem_reg umem = {.addr = (uintptr_t)memory, .len = (uint64_t)FRAMES * FRAME, .chunk_size = FRAME};
	struct xdp_mmap_offsets offsets;
	socklen_t size = sizeof(offsets);
	const int length = RING;

	side->socket = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	require(side->socket, "opening an AF_XDP socket");
	if (number == 0)
		option(side->socket, XDP_UMEM_REG, &umem, sizeof(umem));
	option(side->socket, XDP_UMEM_FILL_RING, &length, sizeof(length));
	option(side->socket, XDP_UMEM_COMPLETION_RING, &length, sizeof(length));
	option(side->socket, XDP_RX_RING, &length, sizeof(length));
	option(side->socket, XDP_TX_RING, &length, sizeof(length));
	require(getsockopt(side->socket, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &size), "asking for ring offsets");
	side->received = map_ring(side->socket, &offsets.rx, sizeof(struct xdp_desc), XDP_PGOFF_RX_RING);
	side->sent = map_ring(side->socket, &offsets.tx, sizeof(struct xdp_desc), XDP_PGOFF_TX_RING);
	side->empty = map_ring(side->socket, &offsets.fr, sizeof(uint64_t), XDP_UMEM_PGOFF_FILL_RING);
	side->completed = map_ring(side->socket, &offsets.cr, sizeof(uint64_t), XDP_UMEM_PGOFF_COMPLETION_RING);
	for (uint64_t frame = 0; frame < RING; frame++)
		((uint64_t *)side->empty.elements)[frame] = (number * RING + frame) * FRAME;
	advance(side->empty.producer, RING);
	if (number == 0) {
		address.sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP;
	} else {
		address.sxdp_flags = XDP_SHARED_UMEM;
		address.sxdp_shared_umem_fd = sides[0].socket;
	}
	require(bind(side->socket, (struct sockaddr *)&address, sizeof(address)), "binding an AF_XDP socket");
}

static void put_socket(int map, int socket)
{
	uint32_t queue = 0, value = socket;
	union bpf_attr attributes = {
	    .map_fd = map,
	    .key = (uintptr_t)&queue,
	    .value = (uintptr_t)&value,
	};

	require(syscall(SYS_bpf, BPF_MAP_UPDATE_ELEM, &attributes, sizeof(attributes)), "entering a socket");
}

static size_t read_bytes(const char *text, unsigned char *bytes)
{
	size_t size = 0;

	for (; text[0] && text[1]; text += 2)
		if (sscanf(text, "%2hhx", &bytes[size++]) != 1)
			fail(text);
	return size;
}

static void read_entry(char *line)
{
	unsigned char key[LONGEST_LINE], value[LONGEST_LINE];
	const char *name = strtok(line, " \n"), *key_text = strtok(NULL, " \n"), *value_text = strtok(NULL, " \n");

	if (!key_text || !value_text)
		fail("a line of standard input");
	read_bytes(key_text, key);
	if (set_entry(name, key, value, read_bytes(value_text, value)))
		fail(name);
}

static void *data_of(const struct xdp_desc *frame)
{
	return memory + frame->addr;
}

static int passes(const struct xdp_desc *frame, uint32_t number)
{
	uintptr_t data = (uintptr_t)data_of(frame);
	struct xdp_md ctx = {.data = data, .data_end = data + frame->len};

	return filter(&ctx, 1 + number);
}

static uint64_t read_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* Ask the filter about so many frames that came in at a side. Those that pass are sent from the other one; there is
 * room, because no more frames are about than a ring takes. */
static void let_through(uint32_t number, uint32_t count)
{
	struct side *from = &sides[number], *to = &sides[!number];
	const struct xdp_desc *received = from->received.elements;
	struct xdp_desc *sent = to->sent.elements;
	uint64_t *empty = from->empty.elements;
	uint32_t next = own(from->received.consumer), last_sent = own(to->sent.producer),
		 last_empty = own(from->empty.producer), passed = 0;

	batch_time = read_clock();
	for (uint32_t done = 0; done < count; done++)
		__builtin_prefetch(data_of(&received[(next + done) % RING]));
	for (uint32_t done = 0; done < count; done++) {
		struct xdp_desc frame = received[(next + done) % RING];

		frame.options = 0;
		if (passes(&frame, number))
			sent[(last_sent + passed++) % RING] = frame;
		else
			empty[last_empty++ % RING] = frame.addr;
	}
	advance(from->received.consumer, count);
	advance(to->sent.producer, passed);
	advance(from->empty.producer, count - passed);
}

/* What was sent from `to` is empty again: frames go back to the side that they came in at. */
static void take_back(struct side *from, struct side *to)
{
	const uint64_t *completed = to->completed.elements;
	uint64_t *empty = from->empty.elements;
	uint32_t count = waiting(&to->completed);

	for (uint32_t done = 0; done < count; done++)
		empty[(own(from->empty.producer) + done) % RING] =
		    completed[(own(to->completed.consumer) + done) % RING];
	advance(to->completed.consumer, count);
	advance(from->empty.producer, count);
}

static void wake(const struct side *side)
{
	if (atomic_load_explicit(side->sent.flags, memory_order_relaxed) & XDP_RING_NEED_WAKEUP)
		if (sendto(side->socket, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno != EAGAIN && errno != EBUSY &&
		    errno != ENOBUFS)
			fail("sending");
}

/* Let a batch through, from one side to the other; how many came, and how many were to go. */
static uint32_t visit(uint32_t number)
{
	struct side *from = &sides[number], *to = &sides[!number];
	uint32_t count = waiting(&from->received), unsent;

	if (count > BATCH)
		count = BATCH;
	if (count)
		let_through(number, count);
	unsent = waiting(&to->sent);
	if (unsent)
		wake(to);
	take_back(from, to);
	return count + unsent;
}

int main(int argc, char **argv)
{
	struct pollfd polled[SIDES];
	char line[2 * LONGEST_LINE];

	if (argc != 1 + 2 * SIDES) {
		fprintf(stderr, "usage: %s INTERFACE INTERFACE SOCKETS SOCKETS\n", argv[0]);
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (fgets(line, sizeof(line), stdin) && line[0] != '\n')
		read_entry(line);
	/* Below 4 GiB, because a filter program knows a packet by 32 bits. */
	memory = mmap(NULL, (size_t)FRAMES * FRAME, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		fail("memory for frames");
	for (uint32_t number = 0; number < SIDES; number++) {
		open_side(number, atoi(argv[1 + number]));
		put_socket(atoi(argv[1 + SIDES + number]), sides[number].socket);
		polled[number] = (struct pollfd){.fd = sides[number].socket, .events = POLLIN};
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		if (!(visit(0) + visit(1)) && poll(polled, SIDES, 1000) < 0 && errno != EINTR)
			fail("waiting for frames");
}
