/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What an earlier broker left with the keeper: contexts whose objects nobody knows.
 *
 * iommufd cannot list its objects, but their ids are small: the kernel gives the lowest that
 * is free.  So every id up to more than there can ever have been is emptied as if it were an
 * address space, and then destroyed.  Memory comes first: a client that holds its device's
 * descriptor may have outlived the broker, and its device goes on until then.
 *
 * Invariant: after a context was swept no DMA of its devices reaches memory, even if its
 * objects could not be destroyed because such a holder keeps its device attached.
 */

#include "iommufd/internal.h"

#include <errno.h>

/* A lease of the largest size that any test has made needs some thousand objects. */
#define IDS_MAX 65536u

static void empty(struct iommufd_ctx *ctx)
{
	for (uint32_t id = 1; id <= IDS_MAX; id++)
		(void)iommufd_unmap_all(ctx, id);
	/* Tables of hardware hold their address space: they have higher ids. */
	for (uint32_t id = IDS_MAX; id; id--)
		(void)iommufd_destroy(ctx, id);
}

static int sweep_one(struct iommufd_shim *shim, struct keeper_context_id id)
{
	const struct iommufd_sys *sys = &shim->sys;
	struct iommufd_ctx ctx = {.base.shim = &shim->base, .id = id, .fd = -1};
	int r = sys->context_take(sys->user, id, &ctx.fd);

	if (r)
		return r;
	empty(&ctx);
	sys->close(sys->user, ctx.fd);
	return sys->context_close(sys->user, id);
}

int iommufd_shim_sweep(struct shim *base)
{
	struct iommufd_shim *shim = iommufd_shim_of(base);
	const struct iommufd_sys *sys = &shim->sys;
	struct keeper_context_id id = {0};
	int n = 0, r;

	while (!(r = sys->context_next(sys->user, id, &id))) {
		r = sweep_one(shim, id);
		/* NOT_FOUND: it ended by itself.  Others are not for us to end. */
		if (r == KEEPER_E_BUSY)
			return -EBUSY;
		if (r < 0)
			return r;
		n++;
	}
	return r == KEEPER_E_NOT_FOUND ? n : r < 0 ? r : -EPROTO;
}
