/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See sysfs.h.  Names that come from the host are read whole or refused, never cut: a name
 * that was cut might be another one's.
 */

#include "iommufd/sysfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int path_make(char path[static SYSFS_PATH_MAX], const char *root, const char *format,
		     va_list args)
{
	int at = snprintf(path, SYSFS_PATH_MAX, "%s/", root), n;

	if (at < 0 || at >= SYSFS_PATH_MAX)
		return -ENAMETOOLONG;
	n = vsnprintf(path + at, (size_t)(SYSFS_PATH_MAX - at), format, args);
	return n < 0 || n >= SYSFS_PATH_MAX - at ? -ENAMETOOLONG : 0;
}

static int read_path(const char *path, char *ret_text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;
	size_t done = 0;
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (n && done < size) {
		n = read(fd, ret_text + done, size - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = -errno;
			break;
		}
		done += (size_t)n;
	}
	close(fd);
	if (r)
		return r;
	if (done == size)
		return -EFBIG;
	ret_text[done] = '\0';
	return 0;
}

int sysfs_read(const char *root, char *ret_text, size_t size, const char *format, ...)
{
	char path[SYSFS_PATH_MAX];
	va_list args;
	int r;

	va_start(args, format);
	r = path_make(path, root, format, args);
	va_end(args);
	return r ?: read_path(path, ret_text, size);
}

int sysfs_read_number(const char *root, unsigned base, int64_t *ret_number, const char *format, ...)
{
	char path[SYSFS_PATH_MAX], text[64], *end;
	va_list args;
	int64_t value;
	int r;

	va_start(args, format);
	r = path_make(path, root, format, args);
	va_end(args);
	if (!r)
		r = read_path(path, text, sizeof(text));
	if (r)
		return r;
	errno = 0;
	value = base == 16 ? (int64_t)strtoull(text, &end, 16) : strtoll(text, &end, 10);
	if (errno || end == text || (*end && strcmp(end, "\n")))
		return -EINVAL;
	*ret_number = value;
	return 0;
}

int sysfs_read_link(const char *root, char *ret_name, size_t size, const char *format, ...)
{
	char path[SYSFS_PATH_MAX], target[SYSFS_PATH_MAX];
	const char *name;
	va_list args;
	ssize_t n;
	int r;

	va_start(args, format);
	r = path_make(path, root, format, args);
	va_end(args);
	if (r)
		return r;
	n = readlink(path, target, sizeof(target));
	if (n < 0)
		return -errno;
	if ((size_t)n == sizeof(target))
		return -ENAMETOOLONG;
	target[n] = '\0';
	name = strrchr(target, '/');
	name = name ? name + 1 : target;
	if (!name[0] || strlen(name) >= size)
		return -ENAMETOOLONG;
	memcpy(ret_name, name, strlen(name) + 1);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_read(DIR *dir, char ***names, size_t *n)
{
	size_t room = 0;
	struct dirent *entry;

	while ((errno = 0, entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (*n == room) {
			size_t more = room ? room * 2 : 64;
			char **grown = realloc(*names, more * sizeof(*grown));

			if (!grown)
				return -ENOMEM;
			*names = grown;
			room = more;
		}
		(*names)[*n] = strdup(entry->d_name);
		if (!(*names)[*n])
			return -ENOMEM;
		(*n)++;
	}
	return -errno;
}

int sysfs_list(const char *root, const char *path, char ***ret_names, size_t *ret_n)
{
	char whole[SYSFS_PATH_MAX], **names = NULL;
	size_t n = 0;
	DIR *dir;
	int r;

	if (snprintf(whole, sizeof(whole), "%s/%s", root, path) >= (int)sizeof(whole))
		return -ENAMETOOLONG;
	dir = opendir(whole);
	if (!dir)
		return -errno;
	r = list_read(dir, &names, &n);
	closedir(dir);
	if (r) {
		sysfs_list_free(names, n);
		return r;
	}
	if (n)
		qsort(names, n, sizeof(*names), compare);
	*ret_names = names;
	*ret_n = n;
	return 0;
}

void sysfs_list_free(char **names, size_t n)
{
	while (n)
		free(names[--n]);
	free(names);
}
