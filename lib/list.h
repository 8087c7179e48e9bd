/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_LIST_H
#define LIBIOASID_LIST_H

/*
 * Arrays of answers turned into arrays of public structs, and lists that come in pages.
 *
 * protobuf-c lays every list answer out as {base, n, items, next_page_token}, and every
 * public list is {n, items}; LIST_LAYOUT checks both when the library is compiled.
 */

#include "call.h"

#include <assert.h>

/* Fills one zeroed public struct from one message. */
typedef void (*list_item_t)(struct result *result, const void *message, void *ret_item);

/* NULL for n 0 and without memory. */
const void *list_convert(struct result *result, size_t n, void *const *messages, size_t item_size,
			 list_item_t item);
/* Strings of an answer as a public array: the answer's own. */
static inline const char *const *list_strings(char **strings)
{
	return (const char *const *)strings;
}

struct list_page {
	ProtobufCMessage base;
	size_t n;
	void **items;
	char *next_page_token;
};
struct list_root {
	size_t n;
	const void *items;
};

#define LIST_LAYOUT(message, field, root)                                                          \
	static_assert(offsetof(message, n_##field) == offsetof(struct list_page, n) &&             \
			      offsetof(message, field) == offsetof(struct list_page, items) &&     \
			      offsetof(message, next_page_token) ==                                \
				      offsetof(struct list_page, next_page_token) &&               \
			      offsetof(root, n) == offsetof(struct list_root, n) &&                \
			      offsetof(root, items) == offsetof(struct list_root, items) &&        \
			      sizeof(root) == sizeof(struct list_root),                            \
		      "layout of a list")

/*
 * Asks for page after page, sets page_token (the request's own member) between them, and
 * fills the call's root, a list.
 */
int list_call(struct call *call, const struct method *method, const ProtobufCMessage *request,
	      char **page_token, size_t item_size, list_item_t item);

#endif
