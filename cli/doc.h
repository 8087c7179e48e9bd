/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_DOC_H
#define IOASID_CLI_DOC_H

/*
 * Building documents.  A document is a json-c object {"schema_version": 1, "type": ...};
 * JSON output prints it as it is, table output renders it through a view.
 *
 * Conventions of schema 1: counts, lengths and ids are numbers; addresses and raw table
 * entries are strings "0x..."; a limit that is not set is null; bytes of memory are a
 * string of hexadecimal digits; enumerations are the names of proto/vocab.h.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOC_SCHEMA_VERSION 1

struct json_object *doc_new(const char *type);
/* A document with the members of an object, which it takes over. */
struct json_object *doc_of(const char *type, struct json_object *members);
struct json_object *doc_object(void);
struct json_object *doc_array(void);

/* Adds a member (key, a literal) or an element (array: key NULL); takes ownership. */
void doc_put(struct json_object *to, const char *key, struct json_object *value);
/* NULL text becomes null. */
void doc_put_text(struct json_object *to, const char *key, const char *text);
/* Empty text is left out. */
void doc_put_text_if(struct json_object *to, const char *key, const char *text);
void doc_put_u64(struct json_object *to, const char *key, uint64_t value);
void doc_put_i64(struct json_object *to, const char *key, int64_t value);
void doc_put_bool(struct json_object *to, const char *key, bool value);
void doc_put_hex(struct json_object *to, const char *key, uint64_t address);
/* UINT64_MAX becomes null. */
void doc_put_limit(struct json_object *to, const char *key, uint64_t limit);
void doc_put_bytes(struct json_object *to, const char *key, const void *bytes, size_t n);

/*
 * Member by dotted path "choice.format"; "resources:devices.used" picks the element of a
 * list whose member "resource" has that text.  NULL if absent or null.
 */
struct json_object *doc_get(struct json_object *from, const char *path);
const char *doc_get_text(struct json_object *from, const char *path);
uint64_t doc_get_u64(struct json_object *from, const char *path);
bool doc_get_bool(struct json_object *from, const char *path);

#endif
