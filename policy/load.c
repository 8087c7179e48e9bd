/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies from the file system: one file, or the *.json of a folder in order of name.  The
 * only file of policy/ that touches anything outside its arguments.
 *
 * Never: follows a name that is no regular file (a FIFO would block the broker), reads more
 * than the cap, or leaves half a policy behind.  Names that begin with a dot are left out:
 * editors and package managers keep what is not finished under such names.
 */

#include "policy_internal.h"
#include "problem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static void free_text(char **text)
{
	free(*text);
}

static void free_policy(struct policy **policy)
{
	policy_free(*policy);
}

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static struct policy *steal_policy(struct policy **policy)
{
	struct policy *stolen = *policy;

	*policy = NULL;
	return stolen;
}

__attribute__((format(printf, 3, 4))) static void problem_of_file(struct policy_problem *problem,
								  const char *name, const char *fmt,
								  ...)
{
	va_list ap;

	va_start(ap, fmt);
	problem_set(problem, name, 0, 0, "", fmt, ap);
	va_end(ap);
}

/* Tells in the problem what errno means for the file, and hands -errno on. */
static int fail_errno(struct policy_problem *problem, const char *name, int error)
{
	problem_of_file(problem, name, "cannot be read: %s", strerror(error));
	return -error;
}

/* Up to the cap and one byte more, by which the parser sees that it is too large. */
static int file_read(int dir_fd, const char *entry, const char *name, char **ret_text,
		     size_t *ret_length, struct policy_problem *problem)
{
	__attribute__((cleanup(close_fd))) int fd =
		openat(dir_fd, entry, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	__attribute__((cleanup(free_text))) char *text = NULL;
	size_t room, length = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_errno(problem, name, errno);
	if (!S_ISREG(st.st_mode)) {
		problem_of_file(problem, name, "expected a regular file");
		return POLICY_E_INVALID;
	}
	room = st.st_size < 0 || (size_t)st.st_size > POLICY_FILE_SIZE_MAX
		       ? POLICY_FILE_SIZE_MAX + 1
		       : (size_t)st.st_size + 1;
	for (;;) {
		char *larger = realloc(text, room);
		ssize_t n;

		if (!larger)
			return -ENOMEM;
		text = larger;
		do {
			n = read(fd, text + length, room - length);
			if (n < 0 && errno != EINTR)
				return fail_errno(problem, name, errno);
			if (n > 0)
				length += n;
		} while (n && length < room);
		if (length < room || room > POLICY_FILE_SIZE_MAX)
			break;
		/* It grew since fstat(). */
		room = 2 * room > POLICY_FILE_SIZE_MAX ? POLICY_FILE_SIZE_MAX + 1 : 2 * room;
	}
	*ret_text = text;
	text = NULL;
	*ret_length = length;
	return 0;
}

static int file_load(struct policy *policy, int dir_fd, const char *entry, const char *name,
		     const struct policy_vocabulary *vocabulary, struct policy_problem *problem)
{
	__attribute__((cleanup(free_text))) char *text = NULL;
	size_t length = 0;
	int r = file_read(dir_fd, entry, name, &text, &length, problem);

	return r ? r : policy_parse_file(policy, name, text, length, vocabulary, problem);
}

/* ---- folders ---- */

struct names {
	char **names;
	size_t n;
};

static void names_deinit(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->names[i]);
	free(names->names);
}

static int names_add(struct names *names, const char *name)
{
	char **larger = reallocarray(names->names, names->n + 1, sizeof(*larger));

	if (!larger)
		return -ENOMEM;
	names->names = larger;
	larger[names->n] = strdup(name);
	if (!larger[names->n])
		return -ENOMEM;
	names->n++;
	return 0;
}

static int name_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_drop_in(const char *name)
{
	size_t n = strlen(name), suffix = strlen(".json");

	return name[0] != '.' && n > suffix && !strcmp(name + n - suffix, ".json");
}

static int folder_list(DIR *dir, const char *path, struct names *names,
		       struct policy_problem *problem)
{
	struct dirent *entry;
	int r;

	for (errno = 0; (entry = readdir(dir)); errno = 0) {
		if (!is_drop_in(entry->d_name))
			continue;
		if (names->n == POLICY_FILES_MAX) {
			problem_of_file(problem, path, "more than %u files", POLICY_FILES_MAX);
			return POLICY_E_INVALID;
		}
		r = names_add(names, entry->d_name);
		if (r)
			return r;
	}
	if (errno)
		return fail_errno(problem, path, errno);
	if (!names->n) {
		problem_of_file(problem, path, "no *.json file is in this folder");
		return POLICY_E_INVALID;
	}
	qsort(names->names, names->n, sizeof(*names->names), name_order);
	return 0;
}

static int folder_load(struct policy *policy, DIR *dir, const char *path,
		       const struct policy_vocabulary *vocabulary, struct policy_problem *problem)
{
	__attribute__((cleanup(names_deinit))) struct names names = {0};
	size_t length = strlen(path);
	int r = folder_list(dir, path, &names, problem);

	while (length > 1 && path[length - 1] == '/')
		length--;
	for (size_t i = 0; !r && i < names.n; i++) {
		__attribute__((cleanup(free_text))) char *name = NULL;

		if (asprintf(&name, "%.*s/%s", (int)length, path, names.names[i]) < 0) {
			name = NULL;
			return -ENOMEM;
		}
		r = file_load(policy, dirfd(dir), names.names[i], name, vocabulary, problem);
	}
	return r;
}

int policy_load(const char *path, const struct policy_vocabulary *vocabulary,
		struct policy **ret_policy, struct policy_problem *ret_problem)
{
	__attribute__((cleanup(free_policy))) struct policy *policy = NULL;
	__attribute__((cleanup(close_dir))) DIR *dir = NULL;
	int r = policy_new(vocabulary, &policy);

	if (r)
		return r;
	dir = opendir(path);
	if (dir)
		r = folder_load(policy, dir, path, vocabulary, ret_problem);
	else if (errno == ENOTDIR)
		r = file_load(policy, AT_FDCWD, path, path, vocabulary, ret_problem);
	else
		r = fail_errno(ret_problem, path, errno);
	if (!r)
		r = policy_check(policy, ret_problem);
	if (r)
		return r;
	*ret_policy = steal_policy(&policy);
	return 0;
}

int policy_parse(const char *name, const char *text, size_t length,
		 const struct policy_vocabulary *vocabulary, struct policy **ret_policy,
		 struct policy_problem *ret_problem)
{
	__attribute__((cleanup(free_policy))) struct policy *policy = NULL;
	int r = policy_new(vocabulary, &policy);

	if (!r)
		r = policy_parse_file(policy, name, text, length, vocabulary, ret_problem);
	if (!r)
		r = policy_check(policy, ret_problem);
	if (r)
		return r;
	*ret_policy = steal_policy(&policy);
	return 0;
}
