/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SOFT_JSON_H
#define IOASID_SOFT_JSON_H

/*
 * A strict reader of JSON text that remembers where each value stands, so that whoever
 * refuses one can say the line and column.  RFC 8259 without latitude: UTF-8 only, no
 * comments, no trailing commas, no member twice in an object, no NUL in strings.  Numbers
 * are integers from 0 to 2^64 - 1, or negative down to -2^63.
 *
 * Pure; nesting and size are bounded.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOFT_JSON_DEPTH_MAX 16
#define SOFT_JSON_BYTES_MAX (64u << 20)

struct soft_problem;

enum soft_json_type {
	SOFT_JSON_NULL,
	SOFT_JSON_BOOL,
	SOFT_JSON_NUMBER,
	SOFT_JSON_STRING,
	SOFT_JSON_ARRAY,
	SOFT_JSON_OBJECT,
};

struct soft_json {
	enum soft_json_type type;
	uint32_t line, column;
	bool truth;	 /* BOOL */
	bool negative;	 /* NUMBER: the value is -number */
	uint64_t number; /* NUMBER */
	char *string;	 /* STRING: terminated */
	size_t length;	 /* STRING: bytes; ARRAY, OBJECT: members */
	char *key;	 /* in an object: terminated */
	uint32_t key_line, key_column;
	struct soft_json *first, *next; /* members */
};

/* SOFT_E_TOPOLOGY with line, column, path and message; -ENOMEM. */
int soft_json_parse(const char *text, size_t length, struct soft_json **ret_value,
		    struct soft_problem *ret_problem);
void soft_json_free(struct soft_json *value);

const char *soft_json_type_name(enum soft_json_type type);

#endif
