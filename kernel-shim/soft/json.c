/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See json.h.  Recursive descent, SOFT_JSON_DEPTH_MAX deep at most.  Members of an object
 * are checked for doubles against those before them, so an object may hold KEYS_MAX.
 */

#include "soft/json.h"
#include "soft/soft.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_MAX 256

struct reader {
	const char *text;
	size_t length, at;
	uint32_t line;
	size_t line_start;
	unsigned int depth;
	struct soft_problem *problem;
	char path[sizeof(((struct soft_problem *)0)->path)];
};

static uint32_t column_at(const struct reader *r)
{
	return (uint32_t)(r->at - r->line_start + 1);
}

__attribute__((format(printf, 4, 5))) static int refuse(struct reader *r, uint32_t line,
							uint32_t column, const char *format, ...)
{
	struct soft_problem *p = r->problem;
	va_list args;

	p->line = line;
	p->column = column;
	snprintf(p->path, sizeof(p->path), "%s", r->path);
	va_start(args, format);
	vsnprintf(p->message, sizeof(p->message), format, args);
	va_end(args);
	return SOFT_E_TOPOLOGY;
}

static int refuse_here(struct reader *r, const char *what)
{
	return refuse(r, r->line, column_at(r), "%s", what);
}

const char *soft_json_type_name(enum soft_json_type type)
{
	static const char *const names[] = {
		[SOFT_JSON_NULL] = "null",     [SOFT_JSON_BOOL] = "true or false",
		[SOFT_JSON_NUMBER] = "number", [SOFT_JSON_STRING] = "string",
		[SOFT_JSON_ARRAY] = "array",   [SOFT_JSON_OBJECT] = "object",
	};

	return names[type];
}

void soft_json_free(struct soft_json *value)
{
	while (value) {
		struct soft_json *next = value->next;

		soft_json_free(value->first);
		free(value->string);
		free(value->key);
		free(value);
		value = next;
	}
}

static int peek(struct reader *r)
{
	while (r->at < r->length) {
		char c = r->text[r->at];

		if (c == '\n') {
			r->line++;
			r->line_start = r->at + 1;
		} else if (c != ' ' && c != '\t' && c != '\r') {
			return (unsigned char)c;
		}
		r->at++;
	}
	return -1;
}

static bool take(struct reader *r, const char *word)
{
	size_t n = strlen(word);

	if (r->length - r->at < n || memcmp(r->text + r->at, word, n))
		return false;
	r->at += n;
	return true;
}

/* Bytes of the well-formed UTF-8 character at p (RFC 3629), 0: none. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
	size_t more;
	uint32_t value, least;

	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf) {
		more = 1;
		value = p[0] & 0x1f;
		least = 0x80;
	} else if ((p[0] & 0xf0) == 0xe0) {
		more = 2;
		value = p[0] & 0x0f;
		least = 0x800;
	} else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
		more = 3;
		value = p[0] & 0x07;
		least = 0x10000;
	} else {
		return 0;
	}
	if (n <= more)
		return 0;
	for (size_t i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (p[i] & 0x3f);
	}
	if (value < least || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	return more + 1;
}

static bool take_hex4(struct reader *r, uint32_t *ret)
{
	uint32_t value = 0;

	if (r->length - r->at < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		char c = r->text[r->at + (size_t)i];

		value <<= 4;
		if (c >= '0' && c <= '9')
			value |= (uint32_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value |= (uint32_t)((c | 0x20) - 'a' + 10);
		else
			return false;
	}
	r->at += 4;
	*ret = value;
	return true;
}

static size_t utf8_put(char *out, uint32_t value)
{
	if (value < 0x80) {
		out[0] = (char)value;
		return 1;
	}
	if (value < 0x800) {
		out[0] = (char)(0xc0 | value >> 6);
		out[1] = (char)(0x80 | (value & 0x3f));
		return 2;
	}
	if (value < 0x10000) {
		out[0] = (char)(0xe0 | value >> 12);
		out[1] = (char)(0x80 | (value >> 6 & 0x3f));
		out[2] = (char)(0x80 | (value & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | value >> 18);
	out[1] = (char)(0x80 | (value >> 12 & 0x3f));
	out[2] = (char)(0x80 | (value >> 6 & 0x3f));
	out[3] = (char)(0x80 | (value & 0x3f));
	return 4;
}

/* Behind the backslash. */
static int read_escape(struct reader *r, char *out, size_t *ret_n)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	uint32_t value, low;
	const char *found;

	if (r->at >= r->length)
		return refuse_here(r, "the text ends within a string");
	found = r->text[r->at] ? strchr(from, r->text[r->at]) : NULL;
	if (found) {
		out[0] = to[found - from];
		*ret_n = 1;
		r->at++;
		return 0;
	}
	if (r->text[r->at] != 'u')
		return refuse_here(r, "no such escape in a string");
	r->at++;
	if (!take_hex4(r, &value))
		return refuse_here(r, "\\u needs four hexadecimal digits");
	if (value >= 0xd800 && value <= 0xdbff) {
		if (!take(r, "\\u") || !take_hex4(r, &low) || low < 0xdc00 || low > 0xdfff)
			return refuse_here(r, "half of a surrogate pair");
		value = 0x10000 + ((value - 0xd800) << 10) + (low - 0xdc00);
	} else if (value >= 0xdc00 && value <= 0xdfff) {
		return refuse_here(r, "half of a surrogate pair");
	}
	if (!value)
		return refuse_here(r, "NUL in a string");
	*ret_n = utf8_put(out, value);
	return 0;
}

static int read_string(struct reader *r, char **ret_string, size_t *ret_length)
{
	size_t room = 32, n = 0;
	char *string = malloc(room);
	int error = 0;

	if (!string)
		return -ENOMEM;
	r->at++; /* the quote */
	for (;;) {
		const unsigned char *p = (const unsigned char *)r->text + r->at;
		size_t step = 0;

		if (room - n < 8) {
			char *more = realloc(string, room * 2);

			if (!more) {
				error = -ENOMEM;
				break;
			}
			string = more;
			room *= 2;
		}
		if (r->at >= r->length) {
			error = refuse_here(r, "the text ends within a string");
			break;
		}
		if (*p == '"') {
			r->at++;
			string[n] = '\0';
			*ret_string = string;
			*ret_length = n;
			return 0;
		}
		if (*p == '\\') {
			r->at++;
			error = read_escape(r, string + n, &step);
			if (error)
				break;
			n += step;
			continue;
		}
		if (*p < 0x20) {
			error = refuse_here(r, "a control character in a string");
			break;
		}
		step = utf8_length(p, r->length - r->at);
		if (!step) {
			error = refuse_here(r, "not UTF-8");
			break;
		}
		memcpy(string + n, p, step);
		n += step;
		r->at += step;
	}
	free(string);
	return error;
}

static int read_number(struct reader *r, struct soft_json *value)
{
	size_t start;

	value->negative = take(r, "-");
	start = r->at;
	while (r->at < r->length && r->text[r->at] >= '0' && r->text[r->at] <= '9') {
		uint64_t digit = (uint64_t)(r->text[r->at] - '0');

		if (__builtin_mul_overflow(value->number, 10, &value->number) ||
		    __builtin_add_overflow(value->number, digit, &value->number) ||
		    (value->negative && value->number > 1ull << 63))
			return refuse(r, value->line, value->column, "the number is too large");
		r->at++;
	}
	if (r->at == start)
		return refuse_here(r, "a digit is missing");
	if (r->text[start] == '0' && r->at - start > 1)
		return refuse(r, value->line, value->column, "a number with a leading zero");
	if (r->at < r->length && (r->text[r->at] == '.' || (r->text[r->at] | 0x20) == 'e'))
		return refuse(r, value->line, value->column, "only whole numbers are used here");
	return 0;
}

static int read_value(struct reader *r, struct soft_json *value);

static int read_key(struct reader *r, struct soft_json *object, struct soft_json *member)
{
	size_t length;
	int error;

	if (peek(r) != '"')
		return refuse_here(r, "expected a member's name in quotes");
	member->key_line = r->line;
	member->key_column = column_at(r);
	error = read_string(r, &member->key, &length);
	if (error)
		return error;
	for (struct soft_json *other = object->first; other != member; other = other->next)
		if (!strcmp(other->key, member->key))
			return refuse(r, member->key_line, member->key_column,
				      "\"%.64s\" stands here twice, first in line %u", member->key,
				      other->key_line);
	if (peek(r) != ':')
		return refuse_here(r, "expected ':'");
	r->at++;
	return 0;
}

static int read_members(struct reader *r, struct soft_json *value, char close)
{
	struct soft_json **tail = &value->first;
	size_t path_length = strlen(r->path);
	bool object = close == '}';
	int error, c;

	if (r->depth == SOFT_JSON_DEPTH_MAX)
		return refuse_here(r, "nested too deeply");
	r->depth++;
	r->at++;
	if (peek(r) == close)
		goto done;
	for (;;) {
		struct soft_json *member = calloc(1, sizeof(*member));

		if (!member)
			return -ENOMEM;
		*tail = member;
		tail = &member->next;
		if (object) {
			if (value->length == KEYS_MAX)
				return refuse_here(r, "too many members in an object");
			error = read_key(r, value, member);
			if (error)
				return error;
			snprintf(r->path + path_length, sizeof(r->path) - path_length, "%s%s",
				 path_length ? "." : "", member->key);
		} else {
			snprintf(r->path + path_length, sizeof(r->path) - path_length, "[%zu]",
				 value->length);
		}
		error = read_value(r, member);
		if (error)
			return error;
		r->path[path_length] = '\0';
		value->length++;
		c = peek(r);
		if (c == close)
			break;
		if (c != ',')
			return refuse_here(r,
					   object ? "expected ',' or '}'" : "expected ',' or ']'");
		r->at++;
	}
done:
	r->at++;
	r->depth--;
	return 0;
}

static int read_value(struct reader *r, struct soft_json *value)
{
	int c = peek(r);

	value->line = r->line;
	value->column = column_at(r);
	if (c == '{' || c == '[') {
		value->type = c == '{' ? SOFT_JSON_OBJECT : SOFT_JSON_ARRAY;
		return read_members(r, value, c == '{' ? '}' : ']');
	}
	if (c == '"') {
		value->type = SOFT_JSON_STRING;
		return read_string(r, &value->string, &value->length);
	}
	if (c == '-' || (c >= '0' && c <= '9')) {
		value->type = SOFT_JSON_NUMBER;
		return read_number(r, value);
	}
	value->type = SOFT_JSON_BOOL;
	if (take(r, "true")) {
		value->truth = true;
		return 0;
	}
	if (take(r, "false"))
		return 0;
	value->type = SOFT_JSON_NULL;
	if (take(r, "null"))
		return 0;
	return refuse_here(r,
			   c < 0 ? "the text ends where a value is expected" : "expected a value");
}

int soft_json_parse(const char *text, size_t length, struct soft_json **ret_value,
		    struct soft_problem *ret_problem)
{
	struct reader r = {
		.text = text,
		.length = length,
		.line = 1,
		.problem = ret_problem,
	};
	struct soft_json *value;
	int error;

	if (length > SOFT_JSON_BYTES_MAX)
		return refuse(&r, 0, 0, "longer than %u bytes", SOFT_JSON_BYTES_MAX);
	value = calloc(1, sizeof(*value));
	if (!value)
		return -ENOMEM;
	error = read_value(&r, value);
	if (!error && peek(&r) >= 0)
		error = refuse_here(&r, "more text behind the end of the document");
	if (error) {
		soft_json_free(value);
		return error;
	}
	*ret_value = value;
	return 0;
}
