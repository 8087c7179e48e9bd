/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contexts that are given to a process outside (docs/delegate.md): it makes what it likes in
 * there, binds the devices to it by itself and maps its own memory, and none of that is known here.
 * What holds is what the kernel holds: a context has only the devices that were claimed for it,
 * a process maps only memory of its own, and pins as much as the keeper let it.
 *
 * The end.  Emptying the context is no end while the process lives, which would fill it again.
 * So the process is ended first; then all that there can be is emptied and destroyed by
 * number, as in a context that an earlier broker left (context.c, sweep.c).  Whoever else has a
 * device's descriptor, a child of that process, can still go on within its own memory: such a
 * device is not free, and nobody's, until the keeper finds that no one has it open.
 */

#include "iommufd/internal.h"

#include <errno.h>
#include <poll.h>

/* A process that was sent SIGKILL and is not gone in this time is stuck in the kernel. */
#define END_MS 2000

static int refuse_delegation(int r, const char *reason, char *ret_reason)
{
	int error = r == KEEPER_E_FORBIDDEN ? SHIM_E_REFUSED : SHIM_E_UNSUPPORTED;

	if (r == KEEPER_E_NOT_FOUND)
		error = SHIM_E_GONE;
	return iommufd_refuse(ret_reason, error, "%s",
			      reason[0] ? reason : iommufd_keeper_error(r));
}

int iommufd_ctx_new_delegated(struct shim *base, const char *owner, int holder, uid_t opener,
			      uint64_t bytes, char *ret_reason, struct shim_ctx **ret_ctx)
{
	struct iommufd_shim *shim = iommufd_shim_of(base);
	char reason[KEEPER_REASON_MAX] = "";
	struct iommufd_ctx *ctx;
	struct shim_ctx *made;
	int r;

	if (!shim->backend->has_fds)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "devices of this host have no descriptors to give away");
	r = iommufd_ctx_new(base, owner, ret_reason, &made);
	if (r)
		return r;
	ctx = iommufd_ctx_of(made);
	r = shim->sys.context_delegate(shim->sys.user, ctx->id, holder, opener, bytes, reason);
	if (r) {
		iommufd_ctx_free(made);
		return r < 0 ? r : refuse_delegation(r, reason, ret_reason);
	}
	ctx->delegated = true;
	*ret_ctx = made;
	return 0;
}

int iommufd_ctx_fd(struct shim_ctx *base, int *ret_fd)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	const struct iommufd_sys *sys = iommufd_sys_of(ctx);
	int fd;

	if (!ctx->delegated)
		return SHIM_E_UNSUPPORTED;
	fd = sys->dup(sys->user, ctx->fd);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int iommufd_holder_end(struct shim *base, const char *owner, int holder, char *ret_reason)
{
	struct iommufd_shim *shim = iommufd_shim_of(base);
	struct pollfd ended = {.fd = holder, .events = POLLIN};
	char reason[KEEPER_REASON_MAX] = "";
	int r = shim->sys.holder_end(shim->sys.user, owner, holder, reason);

	if (r < 0)
		return r;
	if (r)
		return refuse_delegation(r, reason, ret_reason);
	/* Its descriptors are closed before a pidfd says that it has ended. */
	do
		r = poll(&ended, 1, END_MS);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}
