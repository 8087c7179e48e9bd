/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builders and readers of documents; see doc.h for the conventions of schema 1.  Builders
 * take ownership of what they are given and end the program when memory is out, so that
 * code which builds a document reads as the document.
 */
#include "doc.h"
#include "cli.h"

#include <inttypes.h>
#include <string.h>

static struct json_object *need(struct json_object *o)
{
	if (!o)
		cli_oom();
	return o;
}

struct json_object *doc_object(void)
{
	return need(json_object_new_object());
}

struct json_object *doc_array(void)
{
	return need(json_object_new_array());
}

struct json_object *doc_new(const char *type)
{
	struct json_object *o = doc_object();

	doc_put_u64(o, "schema_version", DOC_SCHEMA_VERSION);
	doc_put_text(o, "type", type);
	return o;
}

struct json_object *doc_of(const char *type, struct json_object *members)
{
	struct json_object_iterator i = json_object_iter_begin(members);
	const struct json_object_iterator end = json_object_iter_end(members);
	struct json_object *o = doc_new(type);

	for (; !json_object_iter_equal(&i, &end); json_object_iter_next(&i))
		doc_put(o, json_object_iter_peek_name(&i),
			json_object_get(json_object_iter_peek_value(&i)));
	json_object_put(members);
	return o;
}

void doc_put(struct json_object *to, const char *key, struct json_object *value)
{
	int r = key ? json_object_object_add(to, key, value) : json_object_array_add(to, value);

	if (r < 0)
		cli_oom();
}

void doc_put_text(struct json_object *to, const char *key, const char *text)
{
	doc_put(to, key, text ? need(json_object_new_string(text)) : NULL);
}

void doc_put_text_if(struct json_object *to, const char *key, const char *text)
{
	if (text && *text)
		doc_put_text(to, key, text);
}

void doc_put_u64(struct json_object *to, const char *key, uint64_t value)
{
	doc_put(to, key, need(json_object_new_uint64(value)));
}

void doc_put_i64(struct json_object *to, const char *key, int64_t value)
{
	doc_put(to, key, need(json_object_new_int64(value)));
}

void doc_put_bool(struct json_object *to, const char *key, bool value)
{
	doc_put(to, key, need(json_object_new_boolean(value)));
}

void doc_put_hex(struct json_object *to, const char *key, uint64_t address)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, address);
	doc_put_text(to, key, text);
}

void doc_put_limit(struct json_object *to, const char *key, uint64_t limit)
{
	doc_put(to, key, limit == UINT64_MAX ? NULL : need(json_object_new_uint64(limit)));
}

void doc_put_bytes(struct json_object *to, const char *key, const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";
	_cleanup_free_ char *text = cli_alloc(2 * n + 1);
	const uint8_t *b = bytes;

	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digits[b[i] >> 4];
		text[2 * i + 1] = digits[b[i] & 15];
	}
	doc_put_text(to, key, text);
}

/* The element of a list whose member "resource" is the given text. */
static struct json_object *element(struct json_object *list, const char *resource)
{
	struct json_object *o, *name;

	for (size_t i = 0;
	     json_object_is_type(list, json_type_array) && i < json_object_array_length(list);
	     i++) {
		o = json_object_array_get_idx(list, i);
		if (json_object_object_get_ex(o, "resource", &name) &&
		    !strcmp(json_object_get_string(name), resource))
			return o;
	}
	return NULL;
}

struct json_object *doc_get(struct json_object *from, const char *path)
{
	char part[64], *resource;

	while (from && *path) {
		size_t n = strcspn(path, ".");

		if (n >= sizeof(part) || !json_object_is_type(from, json_type_object))
			return NULL;
		memcpy(part, path, n);
		part[n] = 0;
		resource = strchr(part, ':');
		if (resource)
			*resource++ = 0;
		if (!json_object_object_get_ex(from, part, &from))
			return NULL;
		if (resource)
			from = element(from, resource);
		path += n + (path[n] == '.');
	}
	return from;
}

const char *doc_get_text(struct json_object *from, const char *path)
{
	struct json_object *o = doc_get(from, path);

	return json_object_is_type(o, json_type_string) ? json_object_get_string(o) : NULL;
}

uint64_t doc_get_u64(struct json_object *from, const char *path)
{
	struct json_object *o = doc_get(from, path);

	return json_object_is_type(o, json_type_int) ? json_object_get_uint64(o) : 0;
}

bool doc_get_bool(struct json_object *from, const char *path)
{
	struct json_object *o = doc_get(from, path);

	return json_object_is_type(o, json_type_boolean) && json_object_get_boolean(o);
}
