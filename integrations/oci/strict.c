/* SPDX-License-Identifier: Apache-2.0 */
/* See strict.h.  json-c reads it; what json-c lets pass is looked for here. */
#include "integrations/oci/strict.h"

#include "integrations/oci/fail.h"
#include "integrations/oci/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define DEPTH_MAX 32

/* *ret_text has a NUL behind its *ret_n bytes. */
static int read_all(int fd, size_t max, const char *what, char **ret_text, size_t *ret_n)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0, room = 0;

	for (;;) {
		ssize_t got;

		if (n + 1 >= room) {
			char *more;

			room = room ? room * 2 : 4096;
			more = realloc(text, room);
			if (!more)
				return hook_fail(-ENOMEM, "%s: out of memory", what);
			text = more;
		}
		got = read(fd, text + n, room - n - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return hook_fail(-errno, "%s: cannot read it: %s", what, strerror(errno));
		if (!got)
			break;
		n += (size_t)got;
		if (n > max)
			return hook_fail(-EFBIG, "%s: longer than %zu bytes", what, max);
	}
	text[n] = '\0';
	*ret_text = text;
	*ret_n = n;
	text = NULL;
	return 0;
}

static void tokener_freep(struct json_tokener **tokener)
{
	if (*tokener)
		json_tokener_free(*tokener);
}

int strict_read(int fd, size_t max, const char *what, struct json_object **ret_object)
{
	__attribute__((cleanup(tokener_freep))) struct json_tokener *tokener = NULL;
	_cleanup_json_ struct json_object *object = NULL;
	_cleanup_free_ char *text = NULL;
	size_t n = 0, end;
	int r = read_all(fd, max, what, &text, &n);

	if (r < 0)
		return r;
	if (memchr(text, '\0', n))
		return hook_fail(-EINVAL, "%s: a NUL byte in it", what);
	tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener)
		return hook_fail(-ENOMEM, "%s: out of memory", what);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 |
						JSON_TOKENER_ALLOW_TRAILING_CHARS);
	/* With the NUL, without which a number at the end would be unfinished. */
	object = json_tokener_parse_ex(tokener, text, (int)n + 1);
	end = json_tokener_get_parse_end(tokener);
	if (!object)
		return hook_fail(-EINVAL, "%s: no JSON, at byte %zu of %zu: %s", what, end, n,
				 n ? json_tokener_error_desc(json_tokener_get_error(tokener))
				   : "it is empty");
	if (end < n && text[end + strspn(text + end, " \t\r\n")])
		return hook_fail(-EINVAL, "%s: more text after the JSON value, at byte %zu", what,
				 end);
	if (!json_object_is_type(object, json_type_object))
		return hook_fail(-EINVAL, "%s: expected a JSON object", what);
	*ret_object = object;
	object = NULL;
	return 0;
}

int strict_read_file(int dirfd, const char *path, size_t max, const char *what,
		     struct json_object **ret_object)
{
	_cleanup_fd_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return hook_fail(-errno, "%s: %s", what, strerror(errno));
	return strict_read(fd, max, what, ret_object);
}

static int member(struct json_object *object, const char *what, const char *name, bool required,
		  enum json_type type, const char *expected, struct json_object **ret_member)
{
	struct json_object *found = NULL;

	if (!json_object_object_get_ex(object, name, &found)) {
		if (required)
			return hook_fail(-EINVAL, "%s: %s: missing", what, name);
	} else if (!json_object_is_type(found, type)) {
		return hook_fail(-EINVAL, "%s: %s: expected %s", what, name, expected);
	}
	*ret_member = found;
	return 0;
}

int strict_text(struct json_object *object, const char *what, const char *name, bool required,
		const char **ret_text)
{
	struct json_object *found = NULL;
	const char *text = NULL;
	int r = member(object, what, name, required, json_type_string, "a string", &found);

	if (r < 0)
		return r;
	if (found) {
		text = json_object_get_string(found);
		if (strlen(text) != (size_t)json_object_get_string_len(found))
			return hook_fail(-EINVAL, "%s: %s: a NUL in it", what, name);
	}
	*ret_text = text;
	return 0;
}

int strict_number(struct json_object *object, const char *what, const char *name, bool required,
		  int64_t min, int64_t max, int64_t *ret_number)
{
	struct json_object *found = NULL;
	int64_t number;
	int r = member(object, what, name, required, json_type_int, "a whole number", &found);

	if (r < 0 || !found)
		return r;
	number = json_object_get_int64(found);
	if (number < min || number > max)
		return hook_fail(-EINVAL, "%s: %s: expected %lld to %lld", what, name,
				 (long long)min, (long long)max);
	*ret_number = number;
	return 0;
}

int strict_object(struct json_object *object, const char *what, const char *name, bool required,
		  struct json_object **ret_object)
{
	return member(object, what, name, required, json_type_object, "an object", ret_object);
}

int strict_array(struct json_object *object, const char *what, const char *name, bool required,
		 struct json_object **ret_array)
{
	return member(object, what, name, required, json_type_array, "an array", ret_array);
}

int strict_only(struct json_object *object, const char *what, const char *const *names)
{
	json_object_object_foreach(object, key, value)
	{
		size_t i = 0;

		(void)value;
		while (names[i] && strcmp(names[i], key))
			i++;
		if (!names[i])
			return hook_fail(-EINVAL, "%s: %s: no such key", what, key);
	}
	return 0;
}
