/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See mount.h.  Both trees are cloned in the host's namespace and moved in the container's.
 * A thread of its own enters that, with a root and a working folder of its own
 * (CLONE_FS), and ends: whoever shares these may not change namespaces, and the threads of
 * gRPC would.
 */
#include "integrations/oci/mount.h"

#include "integrations/oci/fail.h"
#include "integrations/oci/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ATTEMPTS 64

struct work {
	int mount_ns;
	const char *rootfs;
	int folder, broker;		  /* detached trees */
	struct stat is_folder, is_broker; /* what stands there afterwards */
	int result;
};

/* Private, because what is mounted on a copy of a shared mount appears on the host's, too. */
static int clone_tree(int dirfd, const char *path, int *ret_fd)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			    MOUNT_ATTR_NOEXEC,
		.propagation = MS_PRIVATE,
	};
	int fd = open_tree(dirfd, path,
			   OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (*path ? 0 : AT_EMPTY_PATH));

	if (fd < 0)
		return -errno;
	if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	*ret_fd = fd;
	return 0;
}

/* In the root, whatever links say.  The kernel gives up when a folder is moved meanwhile. */
static int open_in(int root, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	for (int i = 0; i < ATTEMPTS; i++) {
		int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -EAGAIN;
}

/* The folder PARENT/NAME of the root, made if it is not there. */
static int open_or_make(int root, const char *parent, const char *name, const char *path)
{
	_cleanup_fd_ int above = -1;
	int fd = open_in(root, path);

	if (fd != -ENOENT)
		return fd;
	above = open_in(root, parent);
	if (above < 0)
		return above;
	if (mkdirat(above, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	return open_in(root, path);
}

static int move_tree(int tree, int target)
{
	return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) <
			       0
		       ? -errno
		       : 0;
}

static bool is_at(int fd, const struct stat *what)
{
	struct stat there;

	return !fstat(fd, &there) && there.st_dev == what->st_dev && there.st_ino == what->st_ino;
}

static int mount_trees(struct work *work)
{
	_cleanup_fd_ int root = -1, run = -1, target = -1, broker = -1;
	int r;

	root = open(work->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return hook_fail(-errno, "root.path %s: %s", work->rootfs, strerror(errno));
	run = open_or_make(root, ".", "run", "run");
	if (run < 0)
		return hook_fail(run, "/run of the container: %s", strerror(-run));
	target = open_or_make(root, "run", "ioasid", "run/ioasid");
	if (target < 0)
		return hook_fail(target, "/run/ioasid of the container: %s", strerror(-target));
	r = is_at(target, &work->is_folder) ? 0 : move_tree(work->folder, target);
	if (r < 0)
		return hook_fail(r, "cannot mount on /run/ioasid of the container: %s",
				 strerror(-r));
	/* Below what was opened lies now what was mounted. */
	close(target);
	target = open_in(root, "run/ioasid");
	if (target < 0 || !is_at(target, &work->is_folder))
		return hook_fail(-EAGAIN, "/run/ioasid of the container: moved away meanwhile");
	broker = openat(target, MOUNT_BROKER, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = broker < 0			      ? -errno
	    : is_at(broker, &work->is_broker) ? 0
					      : move_tree(work->broker, broker);
	if (r < 0)
		return hook_fail(
			r, "cannot mount on /run/ioasid/" MOUNT_BROKER " of the container: %s",
			strerror(-r));
	return 0;
}

static void *in_container(void *arg)
{
	struct work *work = arg;

	if (unshare(CLONE_FS) < 0 || setns(work->mount_ns, CLONE_NEWNS) < 0)
		work->result = hook_fail(-errno, "cannot enter the container's mount namespace: %s",
					 strerror(errno));
	else
		work->result = mount_trees(work);
	return NULL;
}

int mount_into(int mount_ns, const char *rootfs, int folder, const char *socket_folder)
{
	_cleanup_fd_ int own = -1, broker = -1;
	struct work work = {.mount_ns = mount_ns, .rootfs = rootfs};
	pthread_t thread;
	int r;

	r = clone_tree(folder, "", &own);
	if (r < 0)
		return hook_fail(r, "cannot clone the mount of the state folder: %s", strerror(-r));
	r = clone_tree(AT_FDCWD, socket_folder, &broker);
	if (r < 0)
		return hook_fail(r, "cannot clone the mount of the tenant's socket, %s: %s",
				 socket_folder, strerror(-r));
	if (fstat(own, &work.is_folder) < 0 || fstat(broker, &work.is_broker) < 0)
		return hook_fail(-errno, "cannot look at what is mounted: %s", strerror(errno));
	if (!(work.is_broker.st_mode & S_IXOTH))
		return hook_fail(
			-EACCES,
			"%s, the folder of the tenant's socket, has the mode %04o: programs "
			"of the container could not pass; close the folder above it instead",
			socket_folder, work.is_broker.st_mode & 07777);
	work.folder = own;
	work.broker = broker;
	r = pthread_create(&thread, NULL, in_container, &work);
	if (r)
		return hook_fail(-r, "cannot start a thread: %s", strerror(r));
	pthread_join(thread, NULL);
	return work.result;
}
