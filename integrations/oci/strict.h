/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_STRICT_H
#define IOASID_OCI_STRICT_H

/*
 * A file read strictly as JSON (integrations/json), and its members taken by name with their
 * type.  Every failure names the document and the place or the member.  What is returned by
 * reference is owned by the document.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void json_putp(struct json_object **object)
{
	json_object_put(*object);
}
#define _cleanup_json_ __attribute__((cleanup(json_putp)))

/* All of the fd, at most max bytes, as one JSON object.  what: "state on stdin", a path. */
int strict_read(int fd, size_t max, const char *what, struct json_object **ret_object);
/* A file to be read, which no fifo or terminal keeps waiting. */
int strict_open(int dirfd, const char *path, const char *what);
int strict_read_file(int dirfd, const char *path, size_t max, const char *what,
		     struct json_object **ret_object);

/* *ret_text: NULL if absent, which is a failure if it is required. */
int strict_text(struct json_object *object, const char *what, const char *name, bool required,
		const char **ret_text);
/* Between min and max; absent: *ret_number is left as it is. */
int strict_number(struct json_object *object, const char *what, const char *name, bool required,
		  int64_t min, int64_t max, int64_t *ret_number);
/* NULL if absent. */
int strict_object(struct json_object *object, const char *what, const char *name, bool required,
		  struct json_object **ret_object);
int strict_array(struct json_object *object, const char *what, const char *name, bool required,
		 struct json_object **ret_array);
/* Refuses a member that is not in names (NULL-terminated). */
int strict_only(struct json_object *object, const char *what, const char *const *names);

#endif
