/* SPDX-License-Identifier: Apache-2.0 */
/* See host.h. */
#include "host.h"

#include "holder_uapi.h"
#include "vfio_cdev.h"
#include "wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int linux_open(void *data, const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? -errno : fd;
}

static ssize_t linux_read_link(void *data, const char *path, char *ret_target, size_t size)
{
	ssize_t n = readlink(path, ret_target, size);

	return n < 0 ? -errno : n;
}

static int linux_write(void *data, const char *path, const char *text)
{
	__attribute__((cleanup(close_fd))) int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t length = strlen(text);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text, length);
	if (n < 0)
		return -errno;
	return (size_t)n == length ? 0 : -EIO;
}

static int linux_bind(void *data, int cdev, int iommu)
{
	struct vfio_cdev_bind bind = {.argsz = sizeof(bind), .iommufd = iommu};

	return ioctl(cdev, VFIO_CDEV_BIND, &bind) < 0 ? -errno : 0;
}

static int linux_has_address(void *data, const char *interface)
{
	struct ifaddrs *list;
	int found = 0;

	if (getifaddrs(&list) < 0)
		return -errno;
	for (const struct ifaddrs *a = list; a; a = a->ifa_next) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a->ifa_addr;

		if (!a->ifa_addr || strcmp(a->ifa_name, interface) != 0)
			continue;
		/* Every interface that is up has a link-local one. */
		if (a->ifa_addr->sa_family == AF_INET ||
		    (a->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr)))
			found = 1;
	}
	freeifaddrs(list);
	return found;
}

static int linux_process(void *data, int pidfd, pid_t *ret_pid, uid_t *ret_uid)
{
	struct pidfd_process process = {.mask = PIDFD_PROCESS_IDS | PIDFD_PROCESS_CREDS};

	if (ioctl(pidfd, PIDFD_PROCESS, &process) < 0)
		return -errno;
	if (!(process.mask & PIDFD_PROCESS_CREDS) || !process.pid)
		return -ESRCH;
	*ret_pid = (pid_t)process.pid;
	*ret_uid = process.ruid;
	return 0;
}

static int linux_limit_memlock(void *data, pid_t pid, uint64_t bytes)
{
	struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};

	return prlimit(pid, RLIMIT_MEMLOCK, &limit, NULL) < 0 ? -errno : 0;
}

static int linux_count_by_process(void *data, int iommu)
{
	struct iommufd_option option = {
		.size = sizeof(option),
		.option = IOMMUFD_OPTION_RLIMIT_MODE,
		.op = IOMMUFD_OPTION_OP_GET,
	};

	if (ioctl(iommu, IOMMUFD_OPTION, &option) < 0)
		return -errno;
	if (option.value == IOMMUFD_OPTION_BY_PROCESS)
		return 0;
	option.op = IOMMUFD_OPTION_OP_SET;
	option.value = IOMMUFD_OPTION_BY_PROCESS;
	return ioctl(iommu, IOMMUFD_OPTION, &option) < 0 ? -errno : 0;
}

static int linux_end(void *data, int pidfd)
{
	return syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
}

const struct host_ops host_linux = {
	.open = linux_open,
	.read_link = linux_read_link,
	.write = linux_write,
	.bind = linux_bind,
	.has_address = linux_has_address,
	.process = linux_process,
	.limit_memlock = linux_limit_memlock,
	.count_by_process = linux_count_by_process,
	.end = linux_end,
};

int host_open(const struct host *host, const char *path, int flags)
{
	return host->ops->open(host->data, path, flags);
}

int host_write(const struct host *host, const char *path, const char *text)
{
	return host->ops->write(host->data, path, text);
}

int host_bind(const struct host *host, int cdev, int iommu)
{
	return host->ops->bind(host->data, cdev, iommu);
}

int host_exists(const struct host *host, const char *path)
{
	__attribute__((cleanup(close_fd))) int fd = host_open(host, path, O_PATH);

	if (fd == -ENOENT)
		return 0;
	return fd < 0 ? fd : 1;
}

ssize_t host_read(const struct host *host, const char *path, void *ret_bytes, size_t size)
{
	__attribute__((cleanup(close_fd))) int fd = host_open(host, path, O_RDONLY);
	size_t done = 0;

	if (fd < 0)
		return fd;
	while (done < size) {
		ssize_t n = read(fd, (char *)ret_bytes + done, size - done);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += n;
	}
	return done;
}

int host_read_line(const struct host *host, const char *path, char *ret_line, size_t size)
{
	char text[256];
	ssize_t n = host_read(host, path, text, sizeof(text) - 1);

	if (n < 0)
		return n;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (strlen(text) >= size)
		return -EFBIG;
	memcpy(ret_line, text, strlen(text) + 1);
	return 0;
}

int host_link(const struct host *host, const char *path, char *ret_target, size_t size)
{
	char target[4096];
	ssize_t n = host->ops->read_link(host->data, path, target, sizeof(target));

	if (n == -ENOENT)
		n = 0;
	if (n < 0)
		return n;
	if ((size_t)n >= size || (size_t)n >= sizeof(target))
		return -EFBIG;
	memcpy(ret_target, target, n);
	ret_target[n] = '\0';
	return 0;
}

int host_link_name(const struct host *host, const char *path, char *ret_name, size_t size)
{
	char target[4096];
	const char *slash;
	int r = host_link(host, path, target, sizeof(target));

	if (r < 0)
		return r;
	slash = strrchr(target, '/');
	slash = slash ? slash + 1 : target;
	if (strlen(slash) >= size)
		return -EFBIG;
	memcpy(ret_name, slash, strlen(slash) + 1);
	return 0;
}

int host_each(const struct host *host, const char *path,
	      int (*visit)(const struct host *host, const char *name, void *arg), void *arg)
{
	int fd = host_open(host, path, O_RDONLY | O_DIRECTORY), r = 0;
	DIR *dir;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while (!r) {
		struct dirent *entry;

		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			r = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = visit(host, entry->d_name, arg);
	}
	closedir(dir);
	return r;
}

int host_each_line(const struct host *host, const char *path, int (*visit)(char *line, void *arg),
		   void *arg)
{
	int fd = host_open(host, path, O_RDONLY), r = 0;
	char *line = NULL;
	size_t size = 0;
	FILE *file;

	if (fd < 0)
		return fd;
	file = fdopen(fd, "r");
	if (!file) {
		r = -errno;
		close(fd);
		return r;
	}
	while (!r) {
		errno = 0;
		if (getline(&line, &size, file) < 0) {
			/* The end of the file, or no memory. */
			r = ferror(file) || errno ? -(errno ? errno : EIO) : 0;
			break;
		}
		line[strcspn(line, "\n")] = '\0';
		r = visit(line, arg);
	}
	free(line);
	fclose(file);
	return r;
}
