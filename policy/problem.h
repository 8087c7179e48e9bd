/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_POLICY_PROBLEM_H
#define IOASID_POLICY_PROBLEM_H

/*
 * Filling a struct policy_problem.  Whatever the text was, path, file and message come out
 * as one line of valid UTF-8 without control characters: they go to terminals and logs.
 */

#include "policy.h"

#include <stdarg.h>

/* Appends ".key", or ["key"] where key has bytes that would make the path ambiguous. */
void problem_path_add_key(char *path, size_t size, const char *key, size_t length);
void problem_path_add_index(char *path, size_t size, size_t index);
/* Cuts at size and replaces what is not printable text by '?'. */
void problem_copy(char *to, size_t size, const char *from);
void problem_set(struct policy_problem *problem, const char *file, unsigned line, unsigned column,
		 const char *path, const char *fmt, va_list ap);

#endif
