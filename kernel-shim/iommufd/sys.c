/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The real system behind sys.h.  The only file of the shim that makes system calls on
 * descriptors or talks to the keeper; it decides nothing.
 */

#include "iommufd/sys.h"

#include "iommufd/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int linux_ioctl(void *user, int fd, unsigned long request, void *arg)
{
	/* A signal may end the wait for a lock early: the call was not begun. */
	while (ioctl(fd, request, arg) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int linux_dup(void *user, int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

static void linux_close(void *user, int fd)
{
	close(fd);
}

static int linux_memory_new(void *user, size_t size, int *ret_fd, void **ret_bytes)
{
	int fd = memfd_create("ioasid-shim", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;
	void *bytes;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		goto fail;
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		goto fail;
	*ret_fd = fd;
	*ret_bytes = bytes;
	return 0;
fail:
	r = -errno;
	close(fd);
	return r;
}

static void linux_memory_free(void *user, int fd, void *bytes, size_t size)
{
	munmap(bytes, size);
	close(fd);
}

static int linux_poll_new(void *user)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int linux_poll_add(void *user, int poll, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};

	return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static ssize_t linux_read(void *user, int fd, void *bytes, size_t n)
{
	ssize_t got;

	do
		got = read(fd, bytes, n);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == EAGAIN ? 0 : -errno;
	return got;
}

static int linux_write(void *user, int fd, const void *bytes, size_t n)
{
	ssize_t done;

	do
		done = write(fd, bytes, n);
	while (done < 0 && errno == EINTR);
	if (done < 0)
		return -errno;
	return (size_t)done == n ? 0 : -EIO;
}

/* A keeper that has ended in order has taken its socket with it: one that does not answer, too. */
static int no_socket(int r)
{
	return r == -ENOENT ? -ECONNREFUSED : r;
}

static int linux_context_open(void *user, const char *owner, char *ret_reason,
			      struct keeper_context_id *ret_context, int *ret_fd)
{
	return no_socket(keeper_context_open(user, owner, ret_reason, ret_context, ret_fd));
}

static int linux_context_close(void *user, struct keeper_context_id context)
{
	return keeper_context_close(user, context);
}

static int linux_context_next(void *user, struct keeper_context_id after,
			      struct keeper_context_id *ret_context)
{
	return keeper_context_next(user, after, ret_context);
}

static int linux_context_take(void *user, struct keeper_context_id context, int *ret_fd)
{
	return keeper_context_take(user, context, ret_fd);
}

static int linux_context_delegate(void *user, struct keeper_context_id context, int pidfd,
				  uid_t opener, uint64_t bytes, char *ret_reason)
{
	return keeper_context_delegate(user, context, pidfd, opener, bytes, ret_reason);
}

static int linux_holder_end(void *user, const char *owner, int pidfd, char *ret_reason)
{
	return no_socket(keeper_holder_end(user, owner, pidfd, ret_reason));
}

static int linux_claim(void *user, struct keeper_context_id context, const char *const *addresses,
		       size_t n, char *ret_reason, int *ret_fds)
{
	return no_socket(keeper_devices_claim(user, context, addresses, n, ret_reason, ret_fds));
}

static int linux_release(void *user, struct keeper_context_id context, const char *const *addresses,
			 size_t n)
{
	return keeper_devices_release(user, context, addresses, n);
}

static int linux_devices_take(void *user, struct keeper_context_id context,
			      const char *const *addresses, size_t n, int *ret_fds)
{
	return keeper_devices_take(user, context, addresses, n, ret_fds);
}

static int linux_claim_next(void *user, struct keeper_context_id context, const char *after,
			    char *ret_address)
{
	return keeper_claim_next(user, context, after, ret_address);
}

static int linux_is_free(void *user, const char *address)
{
	return keeper_device_is_free(user, address);
}

static int linux_examine(void *user, const char *address, struct keeper_device *ret_device)
{
	return keeper_device_examine(user, address, ret_device);
}

static void linux_end(void *user)
{
	keeper_free(user);
}

int iommufd_sys_linux(const char *keeper_socket, struct iommufd_sys *ret_sys)
{
	struct keeper *keeper;
	int r = keeper_connect(keeper_socket, &keeper);

	if (r)
		return r;
	*ret_sys = (struct iommufd_sys){
		.user = keeper,
		.ioctl = linux_ioctl,
		.dup = linux_dup,
		.close = linux_close,
		.memory_new = linux_memory_new,
		.memory_free = linux_memory_free,
		.poll_new = linux_poll_new,
		.poll_add = linux_poll_add,
		.read = linux_read,
		.write = linux_write,
		.context_open = linux_context_open,
		.context_close = linux_context_close,
		.context_next = linux_context_next,
		.context_take = linux_context_take,
		.context_delegate = linux_context_delegate,
		.holder_end = linux_holder_end,
		.claim = linux_claim,
		.release = linux_release,
		.devices_take = linux_devices_take,
		.claim_next = linux_claim_next,
		.is_free = linux_is_free,
		.examine = linux_examine,
		.end = linux_end,
	};
	return 0;
}

int iommufd_open_sys(const struct iommufd_options *options, struct iommufd_sys *ret_sys,
		     struct iommufd_problem *ret_problem)
{
	int r = iommufd_sys_linux(options->keeper_socket, ret_sys);

	if (!r || r == -ENOMEM)
		return r;
	iommufd_problem_set(ret_problem, "the keeper at %s: %s", options->keeper_socket,
			    strerror(r < 0 ? -r : EPROTO));
	return IOMMUFD_E_KEEPER;
}
