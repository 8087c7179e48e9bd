/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tenants for guest tests: each actor is a process of its own, with a uid of its own and no
 * privileges, that is a client of ioasidd by libioasid and drives an edu device by the fd that
 * GetDeviceFd gave it.  The test itself, the director, gives orders one after the other and
 * sees each one's result before the next, so a test reads as one sequence.
 *
 * An actor has PAGES pages of memory.  A page is filled with a pattern of a seed and compared
 * with one: so every byte says where it came from.  Whether a DMA got through only memory
 * tells (see edu.h).
 *
 * An actor drives up to two devices; orders about a device that it has opened take its number,
 * 0 or 1, in e.
 */
#ifndef TESTS_GUEST_ACTOR_H
#define TESTS_GUEST_ACTOR_H

#include "edu.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ACTOR_PAGES   16
#define ACTOR_PAGE    4096u
#define ACTOR_DEVICES 2u

enum actor_op {
	ACT_CONNECT, /* text: socket; a: whether to connect again when the broker ends */
	ACT_LEASE,   /* text: name; a: seconds of linger */
	ACT_DISCONNECT,
	ACT_CLAIM,	 /* text: devices, blanks between */
	ACT_RELEASE,	 /* text: devices */
	ACT_DEVICE_FD,	 /* text: device; opens the edu as well, as number e */
	ACT_CLOSE_FD,	 /* e; unmaps the BAR, too */
	ACT_MEMORY,	 /* a: enum actor_memory; the result is its id */
	ACT_ALLOC,	 /* text: device; the result is the IOASID's id */
	ACT_FREE,	 /* a: IOASID */
	ACT_MAP,	 /* a: IOASID, b: IOVA, c: page, d: IOASID_READ | IOASID_WRITE, e: memory */
	ACT_UNMAP,	 /* a: IOASID, b: IOVA */
	ACT_ATTACH,	 /* a: IOASID, text: device */
	ACT_REPLACE,	 /* a: IOASID, text: device */
	ACT_DETACH,	 /* text: device */
	ACT_TO_DEVICE,	 /* a: IOVA: device e reads BYTES bytes there into its buffer */
	ACT_FROM_DEVICE, /* a: IOVA: and writes them there; b: another number of them */
	ACT_FILL,	 /* a: page, b: seed */
	ACT_COMPARE,	 /* a: page, b: seed; -EILSEQ: other bytes */
	ACT_TRUNCATE,	 /* ftruncate(0) of its memory */
	ACT_PUNCH,	 /* a: page */
	ACT_SELF_ATTACH, /* a, b: attaches fd e by itself to each object id a..b; how many did */
	ACT_TRANSLATE,	 /* a: IOASID, b: IOVA; the offset in the memory */
	ACT_SEND_FDS,	 /* the director gets duplicates of memory and device 0 */
};

enum actor_memory {
	ACTOR_MEMORY,		   /* read and write; the one that FILL and the like are about */
	ACTOR_MEMORY_RDONLY,	   /* the same pages, fd opened O_RDONLY, registered for reading */
	ACTOR_MEMORY_RDONLY_WRITE, /* registered for writing as well: must be refused */
	ACTOR_MEMORY_SEALED_WRITE, /* other pages, F_SEAL_WRITE, for writing: must be refused */
	ACTOR_MEMORY_SEALED,	   /* the same for reading */
};

/* Bytes of a move: few, as each one that is refused costs a fault for four of them. */
#define ACTOR_BYTES EDU_FAULT_MAX

struct actor {
	pid_t pid;
	int orders;
};

/* Starts one as that uid; exits on failure, as a test without its actors means nothing. */
void actor_start(struct actor *actor, unsigned uid);
/* Result of an order: 0, a number, or -errno; errors of the broker come as their errno. */
int64_t actor_do(struct actor *actor, enum actor_op op, const char *text, uint64_t a, uint64_t b,
		 uint64_t c, uint64_t d, uint64_t e);
/* Fds that ACT_SEND_FDS sends; -1: none. */
void actor_take_fds(struct actor *actor, int *ret_memory, int *ret_device);
/* Ends it in order, or with SIGKILL; returns when it is gone. */
void actor_end(struct actor *actor, bool kill_it);

/* The bytes of a page that was filled with seed. */
void actor_pattern(uint8_t *bytes, size_t length, uint64_t seed);

#endif
