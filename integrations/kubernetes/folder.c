/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids are names of folders by their alphabet (inventory.h), and are checked again here: they
 * come over a socket, and "..", were it accepted, would be a path.
 */
#include "folder.h"

#include "auto.h"
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define SOCKET "ioasid.sock"
#define LEASE  "lease.json"
#define FRESH  ".ioasid.sock.new"

struct folders {
	char *ids;
	int state_fd;
	int ids_fd;
};

static int make_dir(int parent, const char *name, mode_t mode, int *ret_fd)
{
	int fd;

	if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int folders_new(const char *state_dir, struct folders **ret_folders)
{
	struct folders *folders = calloc(1, sizeof(*folders));
	int r;

	if (!folders)
		return -ENOMEM;
	folders->state_fd = folders->ids_fd = -1;
	/* Only root passes: the secrets of leases are below. */
	r = make_dir(AT_FDCWD, state_dir, 0700, &folders->state_fd);
	if (!r && fchmod(folders->state_fd, 0700) < 0)
		r = -errno;
	if (!r)
		r = make_dir(folders->state_fd, "ids", 0700, &folders->ids_fd);
	if (!r && asprintf(&folders->ids, "%s/ids", state_dir) < 0) {
		folders->ids = NULL;
		r = -ENOMEM;
	}
	if (r) {
		folders_free(folders);
		return r;
	}
	*ret_folders = folders;
	return 0;
}

void folders_free(struct folders *folders)
{
	if (!folders)
		return;
	if (folders->state_fd >= 0)
		close(folders->state_fd);
	if (folders->ids_fd >= 0)
		close(folders->ids_fd);
	free(folders->ids);
	free(folders);
}

int folders_state_fd(const struct folders *folders)
{
	return folders->state_fd;
}

static bool is_id(const char *id)
{
	return id[0] && id[0] != '.' &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       strlen(id) &&
	       strlen(id) <= NAME_MAX;
}

static int folder_path(const struct folders *folders, const char *id, const char *file,
		       char path[PATH_MAX])
{
	if (snprintf(path, PATH_MAX, "%s/%s/%s", folders->ids, id, file) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

static void drop_socket(const struct folders *folders, const char *id, int fd, const char *name)
{
	char path[PATH_MAX];

	/* EBUSY: a bind mount lies on it. */
	if (unlinkat(fd, name, 0) == 0 || errno != EBUSY)
		return;
	if (!folder_path(folders, id, name, path))
		(void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	(void)unlinkat(fd, name, 0);
}

int folder_remove(struct folders *folders, const char *id)
{
	AUTO_CLOSE int fd = -1;

	if (!is_id(id))
		return -EINVAL;
	fd = openat(folders->ids_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	(void)unlinkat(fd, LEASE, 0);
	(void)unlinkat(fd, "." LEASE ".new", 0);
	drop_socket(folders, id, fd, SOCKET);
	drop_socket(folders, id, fd, FRESH);
	return unlinkat(folders->ids_fd, id, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int folder_reset(struct folders *folders, const char *id)
{
	AUTO_CLOSE int fd = -1;
	int r = folder_remove(folders, id);

	if (!r && mkdirat(folders->ids_fd, id, 0755) < 0)
		r = -errno;
	if (!r)
		r = make_dir(folders->ids_fd, id, 0755, &fd);
	/* Whatever the umask: the container's user need not be root. */
	if (!r && fchmod(fd, 0755) < 0)
		r = -errno;
	return r;
}

static int mount_socket(const struct folders *folders, const char *id, int fd, const char *socket)
{
	AUTO_CLOSE int file = -1;
	char path[PATH_MAX];
	int r;

	drop_socket(folders, id, fd, SOCKET);
	file = openat(fd, SOCKET, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file < 0)
		return -errno;
	r = folder_path(folders, id, SOCKET, path);
	if (!r && mount(socket, path, NULL, MS_BIND, NULL) < 0)
		r = -errno;
	if (r)
		(void)unlinkat(fd, SOCKET, 0);
	return r;
}

static int place_socket(const struct folders *folders, const char *id, int fd, const char *socket)
{
	struct stat st;

	if (lstat(socket, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	drop_socket(folders, id, fd, FRESH);
	if (linkat(AT_FDCWD, socket, fd, FRESH, 0) < 0)
		return errno == EXDEV ? mount_socket(folders, id, fd, socket) : -errno;
	if (renameat(fd, FRESH, fd, SOCKET) == 0)
		return 0;
	if (errno == EBUSY) {
		drop_socket(folders, id, fd, SOCKET);
		if (renameat(fd, FRESH, fd, SOCKET) == 0)
			return 0;
	}
	return -errno;
}

int folder_fill(struct folders *folders, const char *id, const char *socket, const char *lease,
		size_t length)
{
	AUTO_CLOSE int fd = -1;
	int r;

	if (!is_id(id))
		return -EINVAL;
	fd = openat(folders->ids_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	r = place_socket(folders, id, fd, socket);
	/* Only who is given the folder sees it, whatever its user. */
	if (!r)
		r = file_replace(fd, LEASE, 0444, lease, length);
	return r;
}

int folder_follow(struct folders *folders, const char *id, const char *socket)
{
	AUTO_CLOSE int fd = -1;
	struct stat here, there;

	if (!is_id(id))
		return -EINVAL;
	fd = openat(folders->ids_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || lstat(socket, &there) < 0)
		return -errno;
	/* A closed folder stays closed. */
	if (faccessat(fd, LEASE, F_OK, 0) < 0)
		return 0;
	if (!S_ISSOCK(there.st_mode) ||
	    (!fstatat(fd, SOCKET, &here, AT_SYMLINK_NOFOLLOW) && here.st_dev == there.st_dev &&
	     here.st_ino == there.st_ino))
		return 0;
	return place_socket(folders, id, fd, socket);
}

void folders_sweep(struct folders *folders, bool (*keep)(void *userdata, const char *id),
		   void *userdata)
{
	DIR *dir = opendir(folders->ids);
	struct dirent *entry;

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (is_id(entry->d_name) && !keep(userdata, entry->d_name))
			(void)folder_remove(folders, entry->d_name);
	closedir(dir);
}
