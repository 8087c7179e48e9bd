/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and atomic writing.  No fsync: what is written here is about a running kernel and
 * lies on tmpfs.
 */
#include "file.h"
#include "auto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int file_read(int dir_fd, const char *name, size_t max, char **ret_text, size_t *ret_length)
{
	AUTO_CLOSE int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	AUTO_FREE char *text = NULL;
	size_t n = 0;

	if (fd < 0)
		return -errno;
	text = malloc(max + 2);
	if (!text)
		return -ENOMEM;
	for (;;) {
		ssize_t got = read(fd, text + n, max + 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += got;
		if (n > max)
			return -EFBIG;
	}
	text[n] = '\0';
	*ret_text = text;
	*ret_length = n;
	text = NULL;
	return 0;
}

static int write_all(int fd, const char *text, size_t length)
{
	while (length) {
		ssize_t n = write(fd, text, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		length -= n;
	}
	return 0;
}

int file_replace(int dir_fd, const char *name, mode_t mode, const char *text, size_t length)
{
	AUTO_CLOSE int fd = -1;
	char fresh[128];
	int r;

	if (snprintf(fresh, sizeof(fresh), ".%s.new", name) >= (int)sizeof(fresh))
		return -ENAMETOOLONG;
	(void)unlinkat(dir_fd, fresh, 0);
	fd = openat(dir_fd, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, length);
	if (!r && fchmod(fd, mode) < 0)
		r = -errno;
	if (!r && renameat(dir_fd, fresh, dir_fd, name) < 0)
		r = -errno;
	if (r)
		(void)unlinkat(dir_fd, fresh, 0);
	return r;
}
