/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_IOMMUFD_SYS_H
#define IOASID_IOMMUFD_SYS_H

/*
 * Everything that the shim asks of the system, in one table: so that a test can put a model
 * of the kernel and the keeper in its place and make any call fail.  Sysfs is not in it: it
 * is read below a root that a test may choose (sysfs.h).
 *
 * All return 0 (or a descriptor) or -errno; keeper calls also KEEPER_E_*.  Any thread.
 */

#include "keeper/client.h"

#include <sys/types.h>

struct iommufd_sys {
	void *user;
	int (*ioctl)(void *user, int fd, unsigned long request, void *arg);
	int (*dup)(void *user, int fd); /* close-on-exec */
	void (*close)(void *user, int fd);

	/* New memory of the shim's own, to be mapped for devices; zeroed. */
	int (*memory_new)(void *user, size_t size, int *ret_fd, void **ret_bytes);
	void (*memory_free)(void *user, int fd, void *bytes, size_t size);
	/* A set of descriptors that is readable when one of them is. */
	int (*poll_new)(void *user);
	int (*poll_add)(void *user, int poll, int fd);
	/* What is there, without waiting: bytes, 0: nothing. */
	ssize_t (*read)(void *user, int fd, void *bytes, size_t n);
	int (*write)(void *user, int fd, const void *bytes, size_t n); /* all of it */

	int (*context_open)(void *user, const char *owner, char *ret_reason,
			    struct keeper_context_id *ret_context, int *ret_fd);
	int (*context_close)(void *user, struct keeper_context_id context);
	int (*context_next)(void *user, struct keeper_context_id after,
			    struct keeper_context_id *ret_context);
	int (*context_take)(void *user, struct keeper_context_id context, int *ret_fd);
	int (*context_delegate)(void *user, struct keeper_context_id context, int pidfd,
				uid_t opener, uint64_t bytes, char *ret_reason);
	int (*holder_end)(void *user, const char *owner, int pidfd, char *ret_reason);
	int (*claim)(void *user, struct keeper_context_id context, const char *const *addresses,
		     size_t n, char *ret_reason, int *ret_fds);
	int (*release)(void *user, struct keeper_context_id context, const char *const *addresses,
		       size_t n);
	int (*devices_take)(void *user, struct keeper_context_id context,
			    const char *const *addresses, size_t n, int *ret_fds);
	/* after "": the first; may be ret_address, of KEEPER_ADDRESS_MAX bytes. */
	int (*claim_next)(void *user, struct keeper_context_id context, const char *after,
			  char *ret_address);
	int (*is_free)(void *user, const char *address);
	int (*examine)(void *user, const char *address, struct keeper_device *ret_device);

	void (*end)(void *user); /* with the shim */
};

/* The real ones.  -errno of keeper_connect(). */
int iommufd_sys_linux(const char *keeper_socket, struct iommufd_sys *ret_sys);

#endif
