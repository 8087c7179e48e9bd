/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every key of every object, looked for among the keys before it in the same object.  The
 * files are small: quadratic in the keys of one object.
 */
#include "json_keys.h"

#include <string.h>

/* The string that begins at the quote text[at]; returns the index of its last quote. */
static size_t string_end(const char *text, size_t length, size_t at)
{
	for (at++; at < length && text[at] != '"'; at++)
		if (text[at] == '\\')
			at++;
	return at;
}

static size_t skip_blanks(const char *text, size_t length, size_t at)
{
	while (at < length && memchr(" \t\r\n", text[at], 4))
		at++;
	return at;
}

/* Does the object that began before `from` have the key again further on? */
static bool repeats_below(const char *text, size_t length, size_t from, const char *key,
			  size_t n_key)
{
	int depth = 0;

	for (size_t i = from; i < length && depth >= 0; i++) {
		size_t end;

		if (text[i] == '{' || text[i] == '[')
			depth++;
		if (text[i] == '}' || text[i] == ']')
			depth--;
		if (text[i] != '"')
			continue;
		end = string_end(text, length, i);
		if (!depth && end - i - 1 == n_key && !memcmp(text + i + 1, key, n_key)) {
			size_t next = skip_blanks(text, length, end + 1);

			if (next < length && text[next] == ':')
				return true;
		}
		i = end;
	}
	return false;
}

bool json_keys_repeat(const char *text, size_t length, const char **ret_key, size_t *ret_length)
{
	for (size_t i = 0; i < length; i++) {
		size_t end, next;

		if (text[i] != '"')
			continue;
		end = string_end(text, length, i);
		next = skip_blanks(text, length, end + 1);
		if (next < length && text[next] == ':' &&
		    (memchr(text + i, '\\', end - i) ||
		     repeats_below(text, length, next, text + i + 1, end - i - 1))) {
			*ret_key = text + i + 1;
			*ret_length = end - i - 1;
			return true;
		}
		i = end;
	}
	return false;
}
