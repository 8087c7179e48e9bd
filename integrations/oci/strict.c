/* SPDX-License-Identifier: Apache-2.0 */
/* See strict.h. */
#include "integrations/oci/strict.h"

#include "integrations/json/json_text.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* A config.json of runc has 7 levels, and some thousand values with the longest seccomp filter. */
#define DEPTH_MAX  32
#define VALUES_MAX 200000

static int read_all(int fd, size_t max, const char *what, char **ret_text, size_t *ret_n)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0, room = 0;

	for (;;) {
		ssize_t got;

		if (n == room) {
			char *more;

			room = room ? room * 2 : 4096;
			more = realloc(text, room);
			if (!more)
				return hook_fail(-ENOMEM, "%s: out of memory", what);
			text = more;
		}
		got = read(fd, text + n, room - n);
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
	*ret_text = text;
	*ret_n = n;
	text = NULL;
	return 0;
}

int strict_read(int fd, size_t max, const char *what, struct json_object **ret_object)
{
	const struct json_text_limits limits = {
		.bytes_max = max,
		.depth_max = DEPTH_MAX,
		.values_max = VALUES_MAX,
	};
	char problem[JSON_TEXT_PROBLEM_SIZE];
	_cleanup_json_ struct json_object *object = NULL;
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	int r = read_all(fd, max, what, &text, &n);

	if (r < 0)
		return r;
	if (!n)
		return hook_fail(-EINVAL, "%s: empty", what);
	r = json_text_parse(text, n, &limits, &object, problem);
	if (r < 0)
		return hook_fail(r, "%s: out of memory", what);
	if (r)
		return hook_fail(-EINVAL, "%s: %s", what, problem);
	if (!json_object_is_type(object, json_type_object))
		return hook_fail(-EINVAL, "%s: expected a JSON object", what);
	*ret_object = object;
	object = NULL;
	return 0;
}

int strict_open(int dirfd, const char *path, const char *what)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	return fd < 0 ? hook_fail(-errno, "%s: %s", what, strerror(errno)) : fd;
}

int strict_read_file(int dirfd, const char *path, size_t max, const char *what,
		     struct json_object **ret_object)
{
	_cleanup_fd_ int fd = strict_open(dirfd, path, what);

	return fd < 0 ? fd : strict_read(fd, max, what, ret_object);
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
	if (found)
		text = json_object_get_string(found);
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
