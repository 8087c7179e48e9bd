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
	ACT_IRQ_OPEN,	 /* of device e */
	ACT_IRQ,	 /* device e raises it; a: ms; 1: it arrived, 0: not */
	/* Tables that the tenant writes, behind an SMMUv3 (actor_tables.h). */
	ACT_WORD,	  /* a: page, b: which of its words, c: value */
	ACT_PEEK,	  /* a: page, b: which of its words; its value */
	ACT_AMONG,	  /* a: page; b, c, d: seeds; -EILSEQ: four bytes are of none of them */
	ACT_FLIP,	  /* a, b as before; a thread writes values c and d in turns ... */
	ACT_FLIP_STOP,	  /* until now; c is what it leaves; how often it wrote */
	ACT_MAP_ALL,	  /* a: IOASID, b: IOVA, d, e as ACT_MAP: all pages, one mapping */
	ACT_UNMAP_ALL,	  /* a: IOASID */
	ACT_RESERVED,	  /* text: device; a: the range for "broker", else for "msi"; its start */
	ACT_ALLOC_USER,	  /* text: device; a: parent, b: table_bits, c: root or 0; the id */
	ACT_BOUND,	  /* a: IOASID; the root of what is bound, 0: nothing */
	ACT_WIDTH,	  /* a: IOASID; its input width, bits */
	ACT_BIND_TABLE,	  /* a: IOASID, b: root */
	ACT_UNBIND_TABLE, /* a: IOASID */
	ACT_BIND_CDS,	  /* a: IOASID, b: root, c: pasid_bits */
	ACT_UNBIND_CDS,	  /* a: IOASID */
	ACT_INVALIDATE,	  /* a: IOASID, b: enum ioasid_granularity, c: IOVA, d: length, e: leaf */
	ACT_NATIVE,	  /* a: IOASID, text: words, hexadecimal, blanks between */
	ACT_WATCH,	  /* faults of its lease, from now */
	/*
	 * The next of them: a: IOASID, b: IOVA on its page (0: any), c: ms to wait, text:
	 * device; the cause.  -EAGAIN: none; -EXDEV: of another IOASID or device; -ERANGE: of
	 * another page; -EBADMSG: no unrecoverable one without PASID.
	 */
	ACT_FAULT,
	ACT_DROP_FAULTS, /* a: ms to wait for one more; how many there were */
};

/* Invalidations return how many were done; refused after n of them: -ACTOR_REFUSED - n. */
#define ACTOR_REFUSED 1000

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
