/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_HOST_H
#define IOASID_KEEPER_HOST_H

/*
 * The host as the keeper sees it: nine calls to the kernel, and readers of small files on top
 * of them.  Nothing else in the keeper touches sysfs, procfs or a device node, so what it may
 * do to a host is this list; tests put another host behind it.
 *
 * Paths are absolute.  All functions may block and are called without the vault's mutex.
 * Errors are -errno, and what cannot be read is never taken for "nothing there": only ENOENT
 * is.
 */

#include "protocol.h"

#include <sys/types.h>

struct host_ops {
	int (*open)(void *data, const char *path, int flags);
	ssize_t (*read_link)(void *data, const char *path, char *ret_target, size_t size);
	/* The whole text by one write(2). */
	int (*write)(void *data, const char *path, const char *text);
	/* VFIO_DEVICE_BIND_IOMMUFD. */
	int (*bind)(void *data, int cdev, int iommu);
	/* 1: the interface has an address that is not IPv6 link-local; 0: none. */
	int (*has_address)(void *data, const char *interface);
	/* Whose a process is (PIDFD_GET_INFO): its real uid.  -ESRCH: it has ended. */
	int (*process)(void *data, int pidfd, pid_t *ret_pid, uid_t *ret_uid);
	/* RLIMIT_MEMLOCK, both, of another process. */
	int (*limit_memlock)(void *data, pid_t pid, uint64_t bytes);
	/* IOMMU_OPTION_RLIMIT_MODE 1; 0 also where it is so already. */
	int (*count_by_process)(void *data, int iommu);
	/* SIGKILL. */
	int (*end)(void *data, int pidfd);
};

extern const struct host_ops host_linux;

struct host {
	const struct host_ops *ops;
	void *data;
	/* Devices that the operator gives away although the host uses them. */
	char (*allowed)[KEEPER_PCI_MAX];
	size_t n_allowed;
	/* Uids whose processes may be given contexts, and ended. */
	const uid_t *holders;
	size_t n_holders;
};

#define HOST_PATH_MAX 512
/* Room for /sys/.../NAME with the longest name a file can have. */
typedef char host_path[HOST_PATH_MAX];

int host_open(const struct host *host, const char *path, int flags);
int host_write(const struct host *host, const char *path, const char *text);
int host_bind(const struct host *host, int cdev, int iommu);

/* 1, 0 or -errno. */
int host_exists(const struct host *host, const char *path);
/* Up to size bytes from the start; their number. */
ssize_t host_read(const struct host *host, const char *path, void *ret_bytes, size_t size);
/* First line without its end.  -ENOENT; -EFBIG: it does not fit. */
int host_read_line(const struct host *host, const char *path, char *ret_line, size_t size);
/* Where a link leads, "" where there is no such link. */
int host_link(const struct host *host, const char *path, char *ret_target, size_t size);
/* The last component of that. */
int host_link_name(const struct host *host, const char *path, char *ret_name, size_t size);

/*
 * Calls visit for each entry of a folder until it returns something else than 0, and returns
 * that.  A missing folder is empty.
 */
int host_each(const struct host *host, const char *path,
	      int (*visit)(const struct host *host, const char *name, void *arg), void *arg);
/*
 * The same for each line of a file, without its end; a line may be written into.  -ENOENT: it
 * is missing.
 */
int host_each_line(const struct host *host, const char *path, int (*visit)(char *line, void *arg),
		   void *arg);

#endif
