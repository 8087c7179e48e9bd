/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_FAIL_H
#define IOASID_OCI_FAIL_H

/*
 * The one message of a run.  A runtime shows an operator what a hook wrote to stderr and
 * nothing else, so a run says one thing: the first failure, with what it was about.
 *
 * hook_fail() stores the message unless there is one, and returns its argument: functions
 * return what it returned.  Only main() prints.
 *
 * Threads: one at a time (the thread of mount.c runs while main waits for it).
 */

#include "lib/ioasid.h"

int hook_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "WHAT: what the broker said"; frees the error and returns its number. */
int hook_fail_broker(struct ioasid_error *error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* NULL: nothing failed. */
const char *hook_message(void);
/* A later attempt may do better: forgets what failed. */
void hook_forgive(void);

#endif
