/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See json_text.h.  One pass by recursive descent, as deep as the limits say; an object's keys
 * are looked up in the object itself, whose hash has a random seed.
 */
#include "integrations/json/json_text.h"

#include "integrations/json/utf8.h"

#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX    64
#define KEY_SHOWN_MAX 64

struct reader {
	const char *text;
	size_t length, at;
	unsigned depth_left;
	size_t values_left;
	char *problem;
};

static int read_value(struct reader *in, struct json_object **ret_value);

/* At a place of the text. */
__attribute__((format(printf, 3, 4))) static int refuse(struct reader *in, size_t at,
							const char *format, ...)
{
	size_t line = 1, begin = 0, n;
	va_list args;

	for (size_t i = 0; i < at; i++)
		if (in->text[i] == '\n') {
			line++;
			begin = i + 1;
		}
	snprintf(in->problem, JSON_TEXT_PROBLEM_SIZE, "line %zu, column %zu: ", line,
		 at - begin + 1);
	n = strlen(in->problem);
	va_start(args, format);
	vsnprintf(in->problem + n, JSON_TEXT_PROBLEM_SIZE - n, format, args);
	va_end(args);
	return JSON_TEXT_E_INVALID;
}

/* NUL, which no JSON has outside of itself: the end. */
static char peek(const struct reader *in)
{
	return in->at < in->length ? in->text[in->at] : '\0';
}

static void skip_blanks(struct reader *in)
{
	while (in->at < in->length && memchr(" \t\r\n", in->text[in->at], 4))
		in->at++;
}

/* What stands there instead of what was expected. */
static int refuse_here(struct reader *in, const char *expected)
{
	unsigned char c = (unsigned char)peek(in);

	if (in->at >= in->length)
		return refuse(in, in->at, "the text ends where %s is expected", expected);
	if (c > ' ' && c < 0x7f)
		return refuse(in, in->at, "'%c' where %s is expected", c, expected);
	return refuse(in, in->at, "byte 0x%02x where %s is expected", c, expected);
}

/* ---- strings ---- */

static size_t utf8_put(uint32_t c, char *ret_bytes)
{
	unsigned char *out = (unsigned char *)ret_bytes;

	if (c < 0x80) {
		out[0] = (unsigned char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (unsigned char)(0xc0 | c >> 6);
		out[1] = (unsigned char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (unsigned char)(0xe0 | c >> 12);
		out[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (unsigned char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (unsigned char)(0xf0 | c >> 18);
	out[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (unsigned char)(0x80 | (c & 0x3f));
	return 4;
}

/* The four digits behind "\u"; false: there are none. */
static bool read_hex(struct reader *in, uint32_t *ret_unit)
{
	uint32_t unit = 0;

	for (int i = 0; i < 4; i++) {
		char c = peek(in);
		int digit = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
			    : c >= 'A' && c <= 'F' ? c - 'A' + 10
						   : -1;

		if (digit < 0)
			return false;
		unit = unit << 4 | (uint32_t)digit;
		in->at++;
	}
	*ret_unit = unit;
	return true;
}

/* At the 'u'. */
static int read_unicode(struct reader *in, uint32_t *ret_char)
{
	size_t begin = in->at - 1;
	uint32_t unit, low;

	in->at++;
	if (!read_hex(in, &unit))
		return refuse(in, begin, "\\u without four hexadecimal digits");
	if (!unit)
		return refuse(in, begin, "a NUL in a string");
	if (unit >= 0xd800 && unit <= 0xdfff) {
		if (unit >= 0xdc00 || in->length - in->at < 6 || in->text[in->at] != '\\' ||
		    in->text[in->at + 1] != 'u')
			return refuse(in, begin, "half of a surrogate pair");
		in->at += 2;
		if (!read_hex(in, &low) || low < 0xdc00 || low > 0xdfff)
			return refuse(in, begin, "half of a surrogate pair");
		unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
	}
	*ret_char = unit;
	return 0;
}

/* At the character behind a backslash. */
static int read_escape(struct reader *in, char *out, size_t *n)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	const char *found = peek(in) ? strchr(names, peek(in)) : NULL;
	uint32_t c = 0;
	int r;

	if (found) {
		out[(*n)++] = values[found - names];
		in->at++;
		return 0;
	}
	if (peek(in) != 'u')
		return refuse(in, in->at - 1, "an escape that JSON does not have");
	r = read_unicode(in, &c);
	if (!r)
		*n += utf8_put(c, out + *n);
	return r;
}

static int read_characters(struct reader *in, char *out, size_t *ret_n)
{
	size_t n = 0;

	while (in->at < in->length && in->text[in->at] != '"') {
		const unsigned char *next = (const unsigned char *)in->text + in->at;
		size_t length = utf8_length(in->text + in->at, in->length - in->at, NULL);

		if (*next == '\\') {
			int r;

			in->at++;
			r = read_escape(in, out, &n);
			if (r)
				return r;
			continue;
		}
		if (*next < ' ')
			return refuse(in, in->at, "byte 0x%02x in a string, where an escape is due",
				      *next);
		if (!length)
			return refuse(in, in->at, "a string that is not UTF-8");
		memcpy(out + n, next, length);
		n += length;
		in->at += length;
	}
	if (in->at >= in->length)
		return refuse(in, in->at, "the text ends in a string");
	out[n] = '\0';
	*ret_n = n;
	return 0;
}

/* At its quote.  An escape is never shorter than what it stands for. */
static int read_string(struct reader *in, char **ret_text, size_t *ret_n)
{
	size_t raw = 1;
	char *text;
	int r;

	while (in->at + raw < in->length && in->text[in->at + raw] != '"')
		raw += in->text[in->at + raw] == '\\' ? 2 : 1;
	text = malloc(raw + 1);
	if (!text)
		return -ENOMEM;
	in->at++;
	r = read_characters(in, text, ret_n);
	if (r) {
		free(text);
		return r;
	}
	in->at++;
	*ret_text = text;
	return 0;
}

static int read_string_value(struct reader *in, struct json_object **ret_value)
{
	struct json_object *value;
	char *text = NULL;
	size_t n = 0;
	int r = read_string(in, &text, &n);

	if (r)
		return r;
	value = json_object_new_string_len(text, (int)n);
	free(text);
	if (!value)
		return -ENOMEM;
	*ret_value = value;
	return 0;
}

/* ---- numbers and words ---- */

static size_t skip_digits(struct reader *in)
{
	size_t begin = in->at;

	while (peek(in) >= '0' && peek(in) <= '9')
		in->at++;
	return in->at - begin;
}

/* RFC 8259, number; *ret_whole: without fraction and exponent. */
static int skip_number(struct reader *in, bool *ret_whole)
{
	bool whole = true;

	if (peek(in) == '-')
		in->at++;
	if (peek(in) == '0')
		in->at++;
	else if (!skip_digits(in))
		return refuse_here(in, "a digit");
	if (peek(in) == '.') {
		whole = false;
		in->at++;
		if (!skip_digits(in))
			return refuse_here(in, "a digit");
	}
	if (peek(in) == 'e' || peek(in) == 'E') {
		whole = false;
		in->at++;
		if (peek(in) == '+' || peek(in) == '-')
			in->at++;
		if (!skip_digits(in))
			return refuse_here(in, "a digit");
	}
	*ret_whole = whole;
	return 0;
}

static struct json_object *number_of(const char *text, bool whole)
{
	double number;

	errno = 0;
	if (whole && text[0] == '-') {
		int64_t integer = strtoll(text, NULL, 10);

		return errno ? NULL : json_object_new_int64(integer);
	}
	if (whole) {
		uint64_t integer = strtoull(text, NULL, 10);

		if (errno)
			return NULL;
		return integer > INT64_MAX ? json_object_new_uint64(integer)
					   : json_object_new_int64((int64_t)integer);
	}
	number = strtod(text, NULL);
	if (!isfinite(number)) {
		errno = ERANGE;
		return NULL;
	}
	errno = 0;
	return json_object_new_double_s(number, text);
}

static int read_number(struct reader *in, struct json_object **ret_value)
{
	struct json_object *value;
	char text[NUMBER_MAX + 1];
	size_t begin = in->at, n;
	bool whole = false;
	int r = skip_number(in, &whole);

	if (r)
		return r;
	n = in->at - begin;
	if (n > NUMBER_MAX)
		return refuse(in, begin, "a number of more than %d characters", NUMBER_MAX);
	memcpy(text, in->text + begin, n);
	text[n] = '\0';
	value = number_of(text, whole);
	if (!value)
		return errno == ERANGE ? refuse(in, begin, "number %s is too large", text)
				       : -ENOMEM;
	*ret_value = value;
	return 0;
}

static bool skip_word(struct reader *in, const char *word)
{
	size_t n = strlen(word);

	if (in->length - in->at < n || memcmp(in->text + in->at, word, n))
		return false;
	in->at += n;
	return true;
}

static int read_word(struct reader *in, struct json_object **ret_value)
{
	struct json_object *value = NULL;
	bool yes = skip_word(in, "true");

	if (yes || skip_word(in, "false")) {
		value = json_object_new_boolean(yes);
		if (!value)
			return -ENOMEM;
	} else if (!skip_word(in, "null")) {
		return refuse_here(in, "a value");
	}
	*ret_value = value;
	return 0;
}

/* ---- objects and arrays ---- */

/* The beginning of it, for people. */
static void show_key(const char *key, char ret_shown[KEY_SHOWN_MAX + 1])
{
	size_t n = 0;

	while (key[n]) {
		size_t length = utf8_length(key + n, strlen(key + n), NULL);

		if (n + length > KEY_SHOWN_MAX)
			break;
		memcpy(ret_shown + n, key + n, length);
		n += length;
	}
	ret_shown[n] = '\0';
	utf8_make_plain(ret_shown);
}

static int read_key(struct reader *in, struct json_object *object, char **ret_key)
{
	size_t begin = in->at, n = 0;
	char *key = NULL, shown[KEY_SHOWN_MAX + 1];
	int r;

	if (peek(in) != '"')
		return refuse_here(in, "a key");
	r = read_string(in, &key, &n);
	if (!r && json_object_object_get_ex(object, key, NULL)) {
		show_key(key, shown);
		r = refuse(in, begin, "key \"%s\" is there twice", shown);
	}
	if (!r) {
		skip_blanks(in);
		if (peek(in) == ':')
			in->at++;
		else
			r = refuse_here(in, "':'");
	}
	if (r) {
		free(key);
		return r;
	}
	*ret_key = key;
	return 0;
}

static int read_member(struct reader *in, struct json_object *object)
{
	struct json_object *value = NULL;
	char *key = NULL;
	int r = read_key(in, object, &key);

	if (!r)
		r = read_value(in, &value);
	if (!r && json_object_object_add_ex(object, key, value, JSON_C_OBJECT_ADD_KEY_IS_NEW) < 0) {
		json_object_put(value);
		r = -ENOMEM;
	}
	free(key);
	return r;
}

static int read_element(struct reader *in, struct json_object *array)
{
	struct json_object *value = NULL;
	int r = read_value(in, &value);

	if (!r && json_object_array_add(array, value) < 0) {
		json_object_put(value);
		r = -ENOMEM;
	}
	return r;
}

/* At its bracket. */
static int read_items(struct reader *in, struct json_object *all, char close,
		      int (*read_item)(struct reader *in, struct json_object *all))
{
	in->at++;
	skip_blanks(in);
	if (peek(in) == close) {
		in->at++;
		return 0;
	}
	for (;;) {
		int r;

		skip_blanks(in);
		r = read_item(in, all);
		if (r)
			return r;
		skip_blanks(in);
		if (peek(in) == close) {
			in->at++;
			return 0;
		}
		if (peek(in) != ',')
			return refuse_here(in, close == '}' ? "',' or '}'" : "',' or ']'");
		in->at++;
	}
}

static int read_compound(struct reader *in, struct json_object **ret_value)
{
	bool is_object = peek(in) == '{';
	struct json_object *value;
	int r;

	if (!in->depth_left)
		return refuse(in, in->at, "objects and arrays too deep in each other");
	value = is_object ? json_object_new_object() : json_object_new_array();
	if (!value)
		return -ENOMEM;
	in->depth_left--;
	r = is_object ? read_items(in, value, '}', read_member)
		      : read_items(in, value, ']', read_element);
	in->depth_left++;
	if (r) {
		json_object_put(value);
		return r;
	}
	*ret_value = value;
	return 0;
}

static int read_value(struct reader *in, struct json_object **ret_value)
{
	skip_blanks(in);
	if (!in->values_left)
		return refuse(in, in->at, "too many values");
	in->values_left--;
	switch (peek(in)) {
	case '{':
	case '[':
		return read_compound(in, ret_value);
	case '"':
		return read_string_value(in, ret_value);
	case '-':
	case '0' ... '9':
		return read_number(in, ret_value);
	default:
		return read_word(in, ret_value);
	}
}

int json_text_parse(const char *text, size_t length, const struct json_text_limits *limits,
		    struct json_object **ret_object, char ret_problem[JSON_TEXT_PROBLEM_SIZE])
{
	struct json_object *object = NULL;
	struct reader in = {
		.text = text,
		.length = length,
		.depth_left = limits->depth_max < JSON_TEXT_DEPTH_MAX ? limits->depth_max
								      : JSON_TEXT_DEPTH_MAX,
		.values_left = limits->values_max,
		.problem = ret_problem,
	};
	int r;

	if (length > limits->bytes_max) {
		snprintf(ret_problem, JSON_TEXT_PROBLEM_SIZE, "longer than %zu bytes",
			 limits->bytes_max);
		return JSON_TEXT_E_INVALID;
	}
	r = read_value(&in, &object);
	if (r)
		return r;
	skip_blanks(&in);
	if (in.at < in.length) {
		json_object_put(object);
		return refuse(&in, in.at, "more text after the JSON value");
	}
	*ret_object = object;
	return 0;
}
