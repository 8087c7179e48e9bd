/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets by name, bound or adopted; the rules are in listener.h. */
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

/* How long another server that is just starting may hold the folder. */
#define LOCK_WAIT_MS 5000

static bool name_is_valid(const char *name, size_t length)
{
	if (!length || length > LISTENER_NAME_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.",
			    name[i]))
			return false;
	return true;
}

static int parse_mode(const char *text, mode_t *ret_mode)
{
	char *end;
	unsigned long mode;

	if (!*text || strlen(text) > 4 || strspn(text, "01234567") != strlen(text))
		return -EINVAL;
	mode = strtoul(text, &end, 8);
	if (mode > 0777)
		return -EINVAL;
	*ret_mode = mode;
	return 0;
}

static int parse_group(const char *text, gid_t *ret_group)
{
	struct group *group = getgrnam(text);
	char *end;
	unsigned long gid;

	if (group) {
		*ret_group = group->gr_gid;
		return 0;
	}
	if (!*text || strspn(text, "0123456789") != strlen(text))
		return -EINVAL;
	errno = 0;
	gid = strtoul(text, &end, 10);
	if (errno || gid >= (gid_t)-1)
		return -EINVAL;
	*ret_group = gid;
	return 0;
}

int listener_spec_parse(const char *text, struct listener_spec *ret_spec, const char **ret_problem)
{
	const char *equals = strchr(text, '=');
	struct listener_spec spec = {.mode = 0666, .group = (gid_t)-1};
	char *copy, *mode, *group = NULL;

	if (!equals || !name_is_valid(text, equals - text)) {
		*ret_problem = "expected NAME=PATH[:MODE[:GROUP]] with a NAME of letters, digits, "
			       "'_', '-', '.'";
		return LISTENER_E_REFUSED;
	}
	copy = strdup(equals + 1);
	if (!copy)
		return -ENOMEM;
	mode = strchr(copy, ':');
	if (mode) {
		*mode++ = '\0';
		group = strchr(mode, ':');
	}
	if (group)
		*group++ = '\0';

	*ret_problem = NULL;
	if (!copy[0])
		*ret_problem = "PATH is empty";
	else if (strlen(copy) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		*ret_problem = "PATH is longer than a socket address holds (107 bytes)";
	else if (mode && parse_mode(mode, &spec.mode) < 0)
		*ret_problem = "MODE must be octal, 0 to 0777";
	else if (group && parse_group(group, &spec.group) < 0)
		*ret_problem = "GROUP is neither a group's name nor a gid";
	if (*ret_problem) {
		free(copy);
		return LISTENER_E_REFUSED;
	}
	spec.path = copy;
	spec.name = strndup(text, equals - text);
	if (!spec.name) {
		free(copy);
		return -ENOMEM;
	}
	*ret_spec = spec;
	return 0;
}

void listener_spec_deinit(struct listener_spec *spec)
{
	free(spec->name);
	free(spec->path);
	spec->name = NULL;
	spec->path = NULL;
}

static int refuse(char *ret_problem, size_t problem_size, const char *path, const char *what)
{
	snprintf(ret_problem, problem_size, "%s: %s", path, what);
	return LISTENER_E_REFUSED;
}

/* The folder's lock; released by close(2). */
static int folder_lock(const char *path)
{
	char *copy = strdup(path);
	int waited = 0, fd, r;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : 0;
	free(copy);
	if (r < 0)
		return r;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		struct timespec pause = {.tv_nsec = 10 * 1000000};

		if (errno != EWOULDBLOCK || waited >= LOCK_WAIT_MS) {
			r = -errno;
			close(fd);
			return r;
		}
		nanosleep(&pause, NULL);
		waited += 10;
	}
	return fd;
}

/* 0: the path is free now. */
static int path_clear(const char *path, const struct sockaddr_un *address, char *ret_problem,
		      size_t problem_size)
{
	struct stat st;
	int fd, r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0
				       : refuse(ret_problem, problem_size, path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return refuse(ret_problem, problem_size, path, "exists and is not a socket");
	if (st.st_uid != geteuid())
		return refuse(ret_problem, problem_size, path, "is a socket of another user");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	r = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? errno : 0;
	close(fd);
	/* Anything but a refused connection means that somebody may still listen. */
	if (r != ECONNREFUSED)
		return refuse(ret_problem, problem_size, path, "a server is listening on it");
	if (unlink(path) < 0)
		return refuse(ret_problem, problem_size, path, strerror(errno));
	return 0;
}

static int socket_bind(int fd, const struct listener_spec *spec, const struct sockaddr_un *address)
{
	/* Connecting asks for write permission: nobody has it before mode and group are set. */
	mode_t mask = umask(0777);
	int r = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;

	umask(mask);
	if (r < 0)
		return r;
	if ((spec->group != (gid_t)-1 && lchown(spec->path, (uid_t)-1, spec->group) < 0) ||
	    listen(fd, SOMAXCONN) < 0 || chmod(spec->path, spec->mode) < 0) {
		r = -errno;
		unlink(spec->path);
	}
	return r;
}

static int listeners_add(struct listeners *listeners, const char *name, int fd, const char *path)
{
	struct listener *listener = &listeners->list[listeners->n];
	struct stat st;

	memset(listener, 0, sizeof(*listener));
	listener->name = strdup(name);
	listener->path = path ? strdup(path) : NULL;
	if (!listener->name || (path && !listener->path)) {
		free(listener->name);
		free(listener->path);
		return -ENOMEM;
	}
	if (path && lstat(path, &st) == 0) {
		listener->device = st.st_dev;
		listener->inode = st.st_ino;
	}
	listener->fd = fd;
	listeners->n++;
	return 0;
}

const struct listener *listeners_find(const struct listeners *listeners, const char *name)
{
	for (size_t i = 0; i < listeners->n; i++)
		if (!strcmp(listeners->list[i].name, name))
			return &listeners->list[i];
	return NULL;
}

int listeners_bind(struct listeners *listeners, const struct listener_spec *spec, char *ret_problem,
		   size_t problem_size)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = -1, lock = -1, r;

	if (listeners->n == LISTENERS_MAX || listeners_find(listeners, spec->name))
		return refuse(ret_problem, problem_size, spec->name,
			      listeners->n == LISTENERS_MAX ? "too many listening sockets"
							    : "two sockets of this name");
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", spec->path);
	lock = folder_lock(spec->path);
	if (lock < 0)
		return refuse(ret_problem, problem_size, spec->path, strerror(-lock));
	r = path_clear(spec->path, &address, ret_problem, problem_size);
	if (r)
		goto out;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : socket_bind(fd, spec, &address);
	if (r < 0) {
		r = refuse(ret_problem, problem_size, spec->path, strerror(-r));
		goto out;
	}
	r = listeners_add(listeners, spec->name, fd, spec->path);
	if (r < 0)
		unlink(spec->path);
	else
		fd = -1;
out:
	if (fd >= 0)
		close(fd);
	close(lock);
	return r;
}

/* One fd of systemd's: a listening stream socket of the unix family. */
static int adopt_one(struct listeners *listeners, int fd, const char *name, char *ret_problem,
		     size_t problem_size)
{
	int flags;

	if (!name_is_valid(name, strlen(name)))
		return refuse(ret_problem, problem_size, name,
			      "not a name for a socket (FileDescriptorName=)");
	if (listeners->n == LISTENERS_MAX || listeners_find(listeners, name))
		return refuse(ret_problem, problem_size, name,
			      "two sockets of this name, or too many, from systemd");
	if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0)
		return refuse(ret_problem, problem_size, name,
			      "systemd passed something else than a listening unix stream socket");
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return listeners_add(listeners, name, fd, NULL);
}

int listeners_adopt(struct listeners *listeners, char *ret_problem, size_t problem_size)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);
	int r = n < 0 ? n : 0;

	for (int i = 0; i < n; i++) {
		int fd = SD_LISTEN_FDS_START + i;

		if (!r)
			r = adopt_one(listeners, fd, names ? names[i] : "", ret_problem,
				      problem_size);
		if (names)
			free(names[i]);
	}
	free(names);
	return r;
}

void listeners_unlink(struct listeners *listeners)
{
	for (size_t i = 0; i < listeners->n; i++) {
		struct listener *listener = &listeners->list[i];
		struct stat st;

		if (listener->path && lstat(listener->path, &st) == 0 &&
		    st.st_dev == listener->device && st.st_ino == listener->inode)
			unlink(listener->path);
		free(listener->path);
		listener->path = NULL;
	}
}

void listeners_deinit(struct listeners *listeners)
{
	listeners_unlink(listeners);
	for (size_t i = 0; i < listeners->n; i++) {
		if (listeners->list[i].fd >= 0)
			close(listeners->list[i].fd);
		free(listeners->list[i].name);
	}
	listeners->n = 0;
}
