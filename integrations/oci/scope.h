/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_SCOPE_H
#define IOASID_OCI_SCOPE_H

/* What goes when its variable does. */

#include <stdlib.h>
#include <unistd.h>

static inline void fd_closep(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_fd_ __attribute__((cleanup(fd_closep)))

static inline void mem_freep(void *p)
{
	free(*(void **)p);
}
#define _cleanup_free_ __attribute__((cleanup(mem_freep)))

#endif
