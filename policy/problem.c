/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See problem.h.  Pure; writes only into the buffers it is given, always terminated.
 */

#include "problem.h"
#include "utf8.h"

#include <stdio.h>
#include <string.h>

/* In place: every byte that is no part of a printable character becomes '?'. */
static void text_clean(char *s)
{
	size_t left = strlen(s), n;

	for (; left; s += n, left -= n) {
		n = utf8_length(s, left);
		if (!n || (unsigned char)*s < 0x20 || *s == 0x7f) {
			*s = '?';
			n = 1;
		}
	}
}

static void text_append(char *path, size_t size, const char *s, size_t n)
{
	size_t used = strlen(path);

	if (n > size - 1 - used)
		n = size - 1 - used;
	memcpy(path + used, s, n);
	path[used + n] = '\0';
}

static bool key_is_plain(const char *key, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char c = key[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    !memchr("_-/:", c, 4))
			return false;
	}
	return length > 0;
}

void problem_path_add_key(char *path, size_t size, const char *key, size_t length)
{
	bool plain = key_is_plain(key, length);

	if (!plain)
		text_append(path, size, "[\"", 2);
	else if (*path)
		text_append(path, size, ".", 1);
	text_append(path, size, key, length);
	if (!plain)
		text_append(path, size, "\"]", 2);
}

void problem_path_add_index(char *path, size_t size, size_t index)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "[%zu]", index);

	text_append(path, size, text, (size_t)n);
}

void problem_copy(char *to, size_t size, const char *from)
{
	to[0] = '\0';
	text_append(to, size, from, strlen(from));
	text_clean(to);
}

void problem_set(struct policy_problem *problem, const char *file, unsigned line, unsigned column,
		 const char *path, const char *fmt, va_list ap)
{
	/* Of a long path its end tells more than its beginning. */
	size_t length = strlen(file), size = sizeof(problem->file);

	if (length < size) {
		problem_copy(problem->file, size, file);
	} else {
		memcpy(problem->file, "...", 3);
		problem_copy(problem->file + 3, size - 3, file + length - (size - 4));
	}
	problem->line = line;
	problem->column = column;
	problem_copy(problem->path, sizeof(problem->path), path);
	vsnprintf(problem->message, sizeof(problem->message), fmt, ap);
	text_clean(problem->message);
}
