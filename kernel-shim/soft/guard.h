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

/* Installs the handlers; idempotent, thread-safe.  -errno. */
int soft_guard_init(void);

/* False: memory was missing; some of the bytes may have been copied. */
bool soft_guard_copy(void *to, const void *from, size_t length);

#endif
