/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_WINDOW_H
#define IOASID_SOFT_WINDOW_H

/*
 * The host-physical address space that is simulated: one reserved window of this process's
 * address space.  A physical address is an offset in it, so it becomes a pointer by an
 * addition.  The lower part is for page tables (tables.h), the upper part holds registered
 * memory, each piece a shared mapping of its memfd, physically contiguous.
 *
 * What is in nobody's hands is PROT_NONE.  The window locks its own list; any thread.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of registered memory; embedded in the memory's own object. */
struct soft_piece {
	struct soft_piece *prev, *next; /* by address; a ring through the window's anchor */
	struct soft_piece *next_stuck;
	uint64_t start;
	uint64_t length;
};

struct soft_window {
	uint8_t *base;
	uint64_t bytes;
	uint64_t tables_bytes; /* [0, tables_bytes) is for tables */
	uint64_t tables_ready; /* [0, tables_ready) can be read; grows only; atomic */
	pthread_mutex_t lock;
	struct soft_piece anchor;  /* stands at the end of the table part */
	struct soft_piece *cursor; /* where the next search begins */
	void *index;		   /* of pieces by address, a search tree */
	/* Pieces that could not be taken away yet, out of everybody's reach. */
	struct soft_piece *stuck;
	void (*drop)(struct soft_piece *piece); /* frees what a piece is part of */
};

/*
 * Reserves the space: exactly bytes, or as much as can be had up to that if flexible.
 * drop() frees the object of a piece that is gone.
 */
int soft_window_init(struct soft_window *window, uint64_t bytes, bool flexible,
		     void (*drop)(struct soft_piece *piece));
/* No pieces are left. */
void soft_window_deinit(struct soft_window *window);

/*
 * Maps [offset, offset + length) of fd, read-only unless writable, as a new piece.
 * -ENOMEM: no room; -errno of mmap.  The piece's address is aligned to its length's power
 * of two, up to 1 GiB, so that large pages can be used.
 */
int soft_window_map(struct soft_window *window, int fd, uint64_t offset, uint64_t length,
		    bool writable, struct soft_piece *piece);
/*
 * Takes the piece away and drops it.  Where the process has no mapping left to do that
 * with, the window keeps the piece and tries again whenever another one goes; with the
 * window they go at the latest.
 */
void soft_window_unmap(struct soft_window *window, struct soft_piece *piece);

/* The piece that holds the address, NULL if none. */
struct soft_piece *soft_window_find(struct soft_window *window, uint64_t address);

static inline void *soft_window_pointer(const struct soft_window *window, uint64_t address)
{
	return window->base + address;
}

/* For struct soft_stage: reads an entry of a table in the table part. */
int soft_window_load(const void *window, uint64_t address, uint64_t *ret_entry);
int soft_window_update(const void *window, uint64_t address, uint64_t *expected, uint64_t wanted);

/* Whether all of it lies where registered memory does; whether there is any says guard.h. */
static inline bool soft_window_is_memory(const struct soft_window *window, uint64_t address,
					 uint64_t length)
{
	return address >= window->tables_bytes && address < window->bytes &&
	       length <= window->bytes - address;
}

#endif
