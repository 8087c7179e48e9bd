/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_GUARD_H
#define IOASID_SOFT_GUARD_H

/*
 * Copies that survive memory that is not there.  A tenant's memfd can lose pages after it
 * was registered, or fail to give one (hugetlb, a full tmpfs): touching it then raises
 * SIGBUS.  A guarded copy turns that into an answer.
 *
 * Process-wide: one handler for SIGBUS and SIGSEGV, installed once and never removed; a
 * fault that is not a guarded copy's goes to the handler that was there before.  Any
 * thread; a guarded copy takes no lock and makes no system call.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Installs the handlers; idempotent, thread-safe.  -errno. */
int soft_guard_init(void);

/* False: memory was missing; some of the bytes may have been copied. */
bool soft_guard_copy(void *to, const void *from, size_t length);

/* The same for one aligned word, which is read, or exchanged, whole. */
bool soft_guard_load(const uint64_t *from, uint64_t *ret_value);
/* *ret_swapped: it was *expected, and is wanted now; else *expected is what it is. */
bool soft_guard_swap(uint64_t *at, uint64_t *expected, uint64_t wanted, bool *ret_swapped);

#endif
