/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan of json_scan.h: a recursive descent over RFC 8259, at most depth_max deep.
 *
 * Owns: the array of nodes while it grows.  Never: decodes a value.
 * Invariants: pos <= length; every node that was begun is in nodes; open[] holds those that
 * have not ended, so that a fault knows its path at any time.
 */

#include "json_scan.h"
#include "problem.h"
#include "utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scanner {
	const char *text;
	size_t length;
	size_t pos;
	unsigned line;
	size_t line_start;
	unsigned depth_max;
	size_t nodes_max;
	struct json_node *nodes;
	size_t n_nodes;
	size_t n_allocated;
	/* Values being scanned: every container around, and the one at hand. */
	uint32_t open[JSON_SCAN_DEPTH_MAX + 1];
	unsigned n_open;
	struct json_scan_fault fault;
};

static int scan_value(struct scanner *s, size_t key_offset);

static void fault_path(struct scanner *s)
{
	char path[sizeof(s->fault.path)] = "";

	for (unsigned i = 1; i < s->n_open; i++) {
		const struct json_node *node = &s->nodes[s->open[i]];

		if (node->key_offset != JSON_SCAN_NO_KEY) {
			size_t raw, decoded;

			json_scan_string(s->text, node->key_offset, &raw, &decoded);
			problem_path_add_key(path, sizeof(path), s->text + node->key_offset + 1,
					     raw - 2);
		} else {
			problem_path_add_index(path, sizeof(path),
					       s->nodes[s->open[i - 1]].n_children - 1);
		}
	}
	problem_copy(s->fault.path, sizeof(s->fault.path), path);
}

__attribute__((format(printf, 3, 4))) static int fail_at(struct scanner *s, size_t offset,
							 const char *fmt, ...)
{
	va_list ap;

	s->fault.offset = offset;
	va_start(ap, fmt);
	vsnprintf(s->fault.message, sizeof(s->fault.message), fmt, ap);
	va_end(ap);
	fault_path(s);
	return JSON_SCAN_E_INVALID;
}

/* "expected ..., found ..." at the present position. */
static int fail_expected(struct scanner *s, const char *expected)
{
	unsigned char c;

	if (s->pos == s->length)
		return fail_at(s, s->pos, "expected %s, found the end of the text", expected);
	c = s->text[s->pos];
	if (c == '\0')
		return fail_at(s, s->pos, "expected %s, found a NUL byte", expected);
	if (c == '/' || c == '#')
		return fail_at(s, s->pos, "expected %s, found '%c'; comments are not part of JSON",
			       expected, c);
	if (c == 0xef && s->length - s->pos >= 3 && !memcmp(s->text + s->pos, "\xef\xbb\xbf", 3))
		return fail_at(s, s->pos, "expected %s, found a byte order mark", expected);
	if (c < 0x20 || c >= 0x7f)
		return fail_at(s, s->pos, "expected %s, found byte 0x%02x", expected, c);
	return fail_at(s, s->pos, "expected %s, found '%c'", expected, c);
}

static void skip_space(struct scanner *s)
{
	for (; s->pos < s->length; s->pos++) {
		switch (s->text[s->pos]) {
		case '\n':
			s->line++;
			s->line_start = s->pos + 1;
			break;
		case ' ':
		case '\t':
		case '\r':
			break;
		default:
			return;
		}
	}
}

static bool at(const struct scanner *s, char c)
{
	return s->pos < s->length && s->text[s->pos] == c;
}

static bool at_digit(const struct scanner *s)
{
	return s->pos < s->length && s->text[s->pos] >= '0' && s->text[s->pos] <= '9';
}

/* Four hexadecimal digits at p, or -1. */
static int hex4(const char *p, size_t n)
{
	int value = 0;

	if (n < 4)
		return -1;
	for (unsigned i = 0; i < 4; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			value = value << 4 | (c - '0');
		else if (c >= 'a' && c <= 'f')
			value = value << 4 | (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			value = value << 4 | (c - 'A' + 10);
		else
			return -1;
	}
	return value;
}

/* At the backslash. */
static int scan_escape(struct scanner *s)
{
	const char *p = s->text + s->pos;
	size_t left = s->length - s->pos;
	int unit;

	if (left < 2 || !p[1] || !strchr("\"\\/bfnrtu", p[1]))
		return fail_at(s, s->pos, "a backslash begins no known escape here");
	if (p[1] != 'u') {
		s->pos += 2;
		return 0;
	}
	unit = hex4(p + 2, left - 2);
	if (unit < 0)
		return fail_at(s, s->pos, "\\u takes four hexadecimal digits");
	if (unit == 0)
		return fail_at(s, s->pos, "\\u0000 (NUL) is not allowed in a string");
	if (unit >= 0xd800 && unit <= 0xdfff)
		return fail_at(s, s->pos, "\\u escape of a surrogate; write the character itself");
	s->pos += 6;
	return 0;
}

/* At the opening quote; leaves pos after the closing one. */
static int scan_string(struct scanner *s)
{
	size_t start = s->pos++;

	while (s->pos < s->length) {
		unsigned char c = s->text[s->pos];
		size_t n;
		int r;

		if (c == '"') {
			s->pos++;
			return 0;
		}
		if (c == '\\') {
			r = scan_escape(s);
			if (r)
				return r;
			continue;
		}
		if (c < 0x20)
			return fail_at(s, s->pos, "control character 0x%02x in a string", c);
		n = utf8_length(s->text + s->pos, s->length - s->pos);
		if (!n)
			return fail_at(s, s->pos, "byte 0x%02x is no valid UTF-8 here", c);
		s->pos += n;
	}
	return fail_at(s, start, "the string that begins here does not end");
}

/* number = [ "-" ] ( "0" / 1-9 *DIGIT ) [ "." 1*DIGIT ] [ e [ "+" / "-" ] 1*DIGIT ] */
static int scan_number(struct scanner *s)
{
	if (at(s, '-'))
		s->pos++;
	if (at(s, '0')) {
		s->pos++;
		if (at_digit(s))
			return fail_at(s, s->pos - 1, "a number does not begin with a zero");
	} else {
		if (!at_digit(s))
			return fail_expected(s, "a digit");
		while (at_digit(s))
			s->pos++;
	}
	if (at(s, '.')) {
		s->pos++;
		if (!at_digit(s))
			return fail_expected(s, "a digit");
		while (at_digit(s))
			s->pos++;
	}
	if (at(s, 'e') || at(s, 'E')) {
		s->pos++;
		if (at(s, '+') || at(s, '-'))
			s->pos++;
		if (!at_digit(s))
			return fail_expected(s, "a digit");
		while (at_digit(s))
			s->pos++;
	}
	return 0;
}

static int scan_word(struct scanner *s, const char *word)
{
	size_t n = strlen(word);

	if (s->length - s->pos < n || memcmp(s->text + s->pos, word, n))
		return fail_expected(s, "a value");
	s->pos += n;
	return 0;
}

/* At the opening bracket. */
static int scan_array(struct scanner *s, uint32_t node)
{
	int r;

	s->pos++;
	skip_space(s);
	if (at(s, ']')) {
		s->pos++;
		return 0;
	}
	for (;;) {
		s->nodes[node].n_children++;
		r = scan_value(s, JSON_SCAN_NO_KEY);
		if (r)
			return r;
		skip_space(s);
		if (at(s, ']')) {
			s->pos++;
			return 0;
		}
		if (!at(s, ','))
			return fail_expected(s, "',' or ']'");
		s->pos++;
		skip_space(s);
	}
}

/* At the opening brace. */
static int scan_object(struct scanner *s, uint32_t node)
{
	size_t key;
	int r;

	s->pos++;
	skip_space(s);
	if (at(s, '}')) {
		s->pos++;
		return 0;
	}
	for (;;) {
		if (!at(s, '"'))
			return fail_expected(s, s->nodes[node].n_children
							? "a key in quotes"
							: "a key in quotes or '}'");
		key = s->pos;
		r = scan_string(s);
		if (r)
			return r;
		s->nodes[node].n_children++;
		r = scan_value(s, key);
		if (r)
			return r;
		skip_space(s);
		if (at(s, '}')) {
			s->pos++;
			return 0;
		}
		if (!at(s, ','))
			return fail_expected(s, "',' or '}'");
		s->pos++;
		skip_space(s);
	}
}

/* Room for one more node. */
static int node_reserve(struct scanner *s)
{
	if (s->n_nodes == s->nodes_max)
		return fail_at(s, s->pos, "more than %zu values", s->nodes_max);
	if (s->n_nodes == s->n_allocated) {
		size_t n = s->n_allocated ? 2 * s->n_allocated : 64;
		struct json_node *nodes = realloc(s->nodes, n * sizeof(*nodes));

		if (!nodes)
			return -ENOMEM;
		s->nodes = nodes;
		s->n_allocated = n;
	}
	return 0;
}

/*
 * A value; of a member everything after the key.  One frame each level, and the levels are
 * bounded by depth_max.
 */
static int scan_value(struct scanner *s, size_t key_offset)
{
	unsigned depth = s->n_open;
	uint32_t index;
	int r;

	r = node_reserve(s);
	if (r)
		return r;
	index = s->n_nodes++;
	s->nodes[index] = (struct json_node){
		.key_offset = key_offset,
		.line = s->line,
		.column =
			(key_offset == JSON_SCAN_NO_KEY ? s->pos : key_offset) - s->line_start + 1,
	};
	s->open[s->n_open++] = index;
	if (key_offset != JSON_SCAN_NO_KEY) {
		skip_space(s);
		if (!at(s, ':'))
			return fail_expected(s, "':'");
		s->pos++;
		skip_space(s);
	}
	s->nodes[index].offset = s->pos;
	switch (s->pos < s->length ? s->text[s->pos] : '\0') {
	case '{':
	case '[':
		if (depth == s->depth_max)
			return fail_at(s, s->pos, "nested deeper than %u levels", s->depth_max);
		r = s->text[s->pos] == '{' ? scan_object(s, index) : scan_array(s, index);
		break;
	case '"':
		r = scan_string(s);
		break;
	case '-':
	case '0' ... '9':
		r = scan_number(s);
		break;
	case 't':
		r = scan_word(s, "true");
		break;
	case 'f':
		r = scan_word(s, "false");
		break;
	case 'n':
		r = scan_word(s, "null");
		break;
	default:
		r = fail_expected(s, "a value");
	}
	if (r)
		return r;
	s->nodes[index].end = s->pos;
	s->nodes[index].next = s->n_nodes;
	s->n_open = depth;
	return 0;
}

int json_scan_init(struct json_scan *scan, const char *text, size_t length, unsigned depth_max,
		   size_t nodes_max, struct json_scan_fault *ret_fault)
{
	struct scanner s = {
		.text = text,
		.length = length,
		.line = 1,
		.depth_max = depth_max < JSON_SCAN_DEPTH_MAX ? depth_max : JSON_SCAN_DEPTH_MAX,
		.nodes_max = nodes_max,
	};
	int r;

	if (length >= JSON_SCAN_NO_KEY) {
		r = fail_at(&s, 0, "more than 4 GiB");
	} else {
		skip_space(&s);
		r = scan_value(&s, JSON_SCAN_NO_KEY);
	}
	if (!r) {
		skip_space(&s);
		if (s.pos < s.length)
			r = fail_expected(&s, "the end of the text");
	}
	if (r) {
		free(s.nodes);
		if (r == JSON_SCAN_E_INVALID)
			*ret_fault = s.fault;
		return r;
	}
	*scan = (struct json_scan){.nodes = s.nodes, .n_nodes = s.n_nodes};
	return 0;
}

void json_scan_deinit(struct json_scan *scan)
{
	free(scan->nodes);
	*scan = (struct json_scan){0};
}

void json_scan_position(const char *text, size_t offset, unsigned *ret_line, unsigned *ret_column)
{
	unsigned line = 1;
	size_t start = 0;

	for (size_t i = 0; i < offset; i++) {
		if (text[i] == '\n') {
			line++;
			start = i + 1;
		}
	}
	*ret_line = line;
	*ret_column = offset - start + 1;
}

void json_scan_string(const char *text, size_t offset, size_t *ret_raw, size_t *ret_decoded)
{
	size_t i = offset + 1, decoded = 0;

	while (text[i] != '"') {
		int unit;

		if (text[i] != '\\') {
			i++;
			decoded++;
			continue;
		}
		if (text[i + 1] != 'u') {
			i += 2;
			decoded++;
			continue;
		}
		unit = hex4(text + i + 2, 4);
		i += 6;
		decoded += unit < 0x80 ? 1 : unit < 0x800 ? 2 : 3;
	}
	*ret_raw = i + 1 - offset;
	*ret_decoded = decoded;
}
