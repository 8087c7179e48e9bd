/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_INTEGRATIONS_JSON_TEXT_H
#define IOASID_INTEGRATIONS_JSON_TEXT_H

/*
 * A JSON text, read strictly into json-c's objects.
 *
 * json-c's own reader keeps the last of two equal keys without a word, makes the largest
 * number of one that is too large, takes half a surrogate pair, and a text of a few MiB can
 * make it ask for gigabytes.  What is configured by such a text must not be settled by order
 * or by rounding.  This one takes RFC 8259 and no more, and less in these points: a key is
 * there once in its object, however it is spelt; no U+0000 in keys and values; every \u
 * escape is a character; a whole number fits into 64 bits, with or without a sign, and
 * another one into a double.
 *
 * Nothing here opens a file, and nothing knows what the values are for.  No state, any thread.
 */

#include <stddef.h>

struct json_object;

#define JSON_TEXT_PROBLEM_SIZE 256
#define JSON_TEXT_DEPTH_MAX    64

enum json_text_error {
	/* No text that is taken; the problem says where and why. */
	JSON_TEXT_E_INVALID = 1,
};

struct json_text_limits {
	size_t bytes_max;
	/* Objects and arrays within each other; at most JSON_TEXT_DEPTH_MAX. */
	unsigned depth_max;
	/* Members and elements, at any depth: an empty object of 2 bytes is some 700 in memory. */
	size_t values_max;
};

/*
 * *ret_object is the caller's; the value null is NULL.  ret_problem, one line of printable
 * text ("line 3, column 7: key "x" is there twice"), is written with JSON_TEXT_E_INVALID.
 * Negative: -ENOMEM.
 */
int json_text_parse(const char *text, size_t length, const struct json_text_limits *limits,
		    struct json_object **ret_object, char ret_problem[JSON_TEXT_PROBLEM_SIZE]);

#endif
