/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_RESULT_H
#define LIBIOASID_RESULT_H

/*
 * One object returned to the program, the root, and everything that hangs on it.  The
 * broker's answer is unpacked into the same memory, so that text and byte strings of the
 * root may point into the answer.  Freed as a whole, from the root's address alone.
 *
 * Allocation failures are sticky: a failed allocation returns NULL, everything goes on,
 * and result_failed() tells before the root is handed out.  A result belongs to one
 * thread at a time.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

struct result;

/* The root is zeroed and aligned for any type.  NULL: no memory. */
struct result *result_new(size_t root_size);
void result_free(struct result *result);
void *result_root(struct result *result);
/* What all of the public _free functions are.  NULL-safe. */
void result_free_root(const void *root);

/* n * size zeroed bytes, aligned for any type.  n 0: NULL, and no failure. */
void *result_alloc(struct result *result, size_t n, size_t size);
/* A table of n pointers to n zeroed items of that size. */
void *result_table(struct result *result, size_t n, size_t size);
char *result_strdup(struct result *result, const char *text);
bool result_failed(const struct result *result);

/* For unpacking: frees nothing. */
ProtobufCAllocator *result_allocator(struct result *result);

static inline void result_freep(struct result **result)
{
	result_free(*result);
}

#endif
