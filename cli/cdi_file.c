/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See cdi_file.h.  The lock is one of fcntl(2), as that tells who has it.  Its file goes with
 * whoever made it, so a lock counts only on the file that has the name now: another process may
 * have removed the one that was opened.
 */
#include "cdi_file.h"

#include "cdi.h"
#include "doc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SPEC_BYTES    (64u << 20)
#define LOCK_TRIES    20
#define LOCK_PAUSE_MS 50

static void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_close_ __attribute__((cleanup(closep)))

static bool has_the_name(const char *path, int fd)
{
	struct stat opened, named;

	return !fstat(fd, &opened) && !lstat(path, &named) && opened.st_dev == named.st_dev &&
	       opened.st_ino == named.st_ino;
}

int cdi_file_init(struct cli *cli, const char *dir, const char *name, struct cdi_file *ret_file)
{
	if (strlen(name) + strlen("..lock") > NAME_MAX)
		return cli_usage(cli, "--tenant: %s: too long for the name of a file", name);
	*ret_file = (struct cdi_file){
		.dir = cli_strdup(dir),
		.path = cli_printf("%s/%s", dir, name),
		.beside = cli_printf("%s/.%s.new", dir, name),
		.lock_path = cli_printf("%s/.%s.lock", dir, name),
		.lock = -1,
	};
	return CLI_OK;
}

void cdi_file_deinit(struct cdi_file *file)
{
	if (file->lock >= 0) {
		if (has_the_name(file->lock_path, file->lock))
			unlink(file->lock_path);
		close(file->lock);
	}
	free(file->dir);
	free(file->path);
	free(file->beside);
	free(file->lock_path);
	*file = CDI_FILE_NONE;
}

/* ---- the lock ---- */

/* 0: *ret_fd has it.  1: another process has, *ret_pid if that can be told.  -errno. */
static int lock_once(const char *path, int *ret_fd, pid_t *ret_pid)
{
	_cleanup_close_ int fd =
		open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EEXIST;
	if (fcntl(fd, F_SETLK, &lock) < 0) {
		if (errno != EACCES && errno != EAGAIN)
			return -errno;
		*ret_pid = 0;
		if (!fcntl(fd, F_GETLK, &lock) && lock.l_type != F_UNLCK && lock.l_pid > 0)
			*ret_pid = lock.l_pid;
		return 1;
	}
	/* Another process removed it between the open and the lock. */
	if (!has_the_name(path, fd))
		return 1;
	*ret_fd = fd;
	fd = -1;
	return 0;
}

int cdi_file_lock(struct cli *cli, struct cdi_file *file)
{
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
	pid_t pid = 0;
	int r;

	if (file->lock >= 0 && has_the_name(file->lock_path, file->lock))
		return CLI_OK;
	if (file->lock >= 0)
		close(file->lock);
	file->lock = -1;
	if (mkdir(file->dir, 0755) < 0 && errno != EEXIST)
		return cli_errno(cli, errno, "%s", file->dir);
	for (int i = 0; (r = lock_once(file->lock_path, &file->lock, &pid)) > 0; i++) {
		if (i >= LOCK_TRIES)
			return cli_fail(cli, CLI_FAILED, "FAILED_PRECONDITION", "LOCAL",
					"%s: process %d writes it (cdi generate --watch); end that "
					"first",
					file->path, (int)pid);
		nanosleep(&pause, NULL);
	}
	return r < 0 ? cli_errno(cli, -r, "%s", file->lock_path) : CLI_OK;
}

/* ---- what is in it ---- */

/* Of a plain file.  free(); NULL: none, or what nobody needs. */
static char *read_text(const char *path, size_t *ret_n)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	size_t n = 0;
	ssize_t got;
	char *text;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > SPEC_BYTES)
		return NULL;
	text = cli_alloc((size_t)st.st_size + 1);
	while (n < (size_t)st.st_size && (got = read(fd, text + n, (size_t)st.st_size - n)) > 0)
		n += (size_t)got;
	*ret_n = n;
	return text;
}

struct json_object *cdi_file_read(const char *path)
{
	_cleanup_free_ char *text = NULL;
	struct json_object *spec;
	const char *kind;
	size_t n;

	text = read_text(path, &n);
	spec = text ? json_tokener_parse(text) : NULL;
	kind = json_object_is_type(spec, json_type_object) ? doc_get_text(spec, "kind") : NULL;
	if (kind && !strcmp(kind, CDI_KIND) &&
	    json_object_is_type(doc_get(spec, "devices"), json_type_array))
		return spec;
	json_object_put(spec);
	return NULL;
}

static bool is_there(const char *path, const char *text, size_t n)
{
	_cleanup_free_ char *now = NULL;
	size_t n_now;

	now = read_text(path, &n_now);
	return now && n_now == n && !memcmp(now, text, n);
}

/* 0 or an errno; the file is there whole or not at all. */
static int write_text(const char *path, const char *text, size_t n)
{
	_cleanup_close_ int fd = -1;
	int error = 0;

	/* Of a process that was killed. */
	if (unlink(path) < 0 && errno != ENOENT)
		return errno;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno;
	for (size_t done = 0; !error && done < n;) {
		ssize_t r = write(fd, text + done, n - done);

		if (r > 0)
			done += (size_t)r;
		else if (r == 0 || errno != EINTR)
			error = r ? errno : ENOSPC;
	}
	/* Whatever the caller's umask: engines may run as others. */
	if (!error && (fchmod(fd, 0644) < 0 || fsync(fd) < 0))
		error = errno;
	if (error)
		unlink(path);
	return error;
}

int cdi_file_write(struct cli *cli, struct cdi_file *file, struct json_object *spec,
		   bool *ret_changed)
{
	const char *json = json_object_to_json_string_ext(
		spec,
		JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);
	_cleanup_free_ char *text = json ? cli_printf("%s\n", json) : NULL;
	int r = cdi_file_lock(cli, file), error;

	if (!text)
		cli_oom();
	if (r)
		return r;
	*ret_changed = !is_there(file->path, text, strlen(text));
	if (!*ret_changed)
		return CLI_OK;
	error = write_text(file->beside, text, strlen(text));
	if (!error && rename(file->beside, file->path) < 0) {
		error = errno;
		unlink(file->beside);
	}
	return error ? cli_errno(cli, error, "%s", file->path) : CLI_OK;
}

int cdi_file_remove(struct cli *cli, struct cdi_file *file, bool *ret_changed)
{
	int r = cdi_file_lock(cli, file);

	if (r)
		return r;
	*ret_changed = !unlink(file->path);
	return *ret_changed || errno == ENOENT ? CLI_OK : cli_errno(cli, errno, "%s", file->path);
}
