/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_POLICY_ARENA_H
#define IOASID_POLICY_ARENA_H

/*
 * Memory of one policy: handed out in order, never moved, given back all at once.  What is
 * in it lives as long as the policy, so that verdicts can return strings without owners.
 */

#include <stddef.h>

struct arena_chunk;
struct arena {
	struct arena_chunk *chunks;
	size_t left; /* free bytes at the end of the first chunk */
};

/* Zeroed, aligned for any object; NULL: no memory.  A size of 0 gives a valid pointer. */
void *arena_alloc(struct arena *arena, size_t size);
/* n objects of a size, with the product checked. */
void *arena_alloc_array(struct arena *arena, size_t n, size_t size);
char *arena_strndup(struct arena *arena, const char *s, size_t n);
__attribute__((format(printf, 2, 3))) char *arena_printf(struct arena *arena, const char *fmt, ...);
void arena_deinit(struct arena *arena);

#endif
