/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What an earlier broker left with the keeper and no registry knows: contexts whose objects
 * nobody can name.
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
#include <stdlib.h>

/* A lease of the largest size that any test has made needs some thousand objects. */
#define IDS_MAX 65536u

void iommufd_sweep_memory(struct iommufd_ctx *ctx)
{
	for (uint32_t id = 1; id <= IDS_MAX; id++)
		(void)iommufd_unmap_all(ctx, id);
}

void iommufd_sweep_objects(struct iommufd_ctx *ctx)
{
	const struct iommufd_backend *backend = iommufd_backend_of(ctx);

	for (uint32_t id = 1; backend->forget && id <= IDS_MAX; id++)
		backend->forget(ctx, id);
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
	iommufd_sweep_memory(&ctx);
	iommufd_sweep_objects(&ctx);
	sys->close(sys->user, ctx.fd);
	return sys->context_close(sys->user, id);
}

static bool is_known(struct keeper_context_id id, const struct keeper_context_id *known, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (known[i].value == id.value)
			return true;
	return false;
}

static int sweep_all(struct iommufd_shim *shim, const struct keeper_context_id *known, size_t n,
		     size_t *ret_ended)
{
	const struct iommufd_sys *sys = &shim->sys;
	struct keeper_context_id id = {0};
	size_t ended = 0;
	int r;

	while (!(r = sys->context_next(sys->user, id, &id))) {
		if (is_known(id, known, n))
			continue;
		r = sweep_one(shim, id);
		/* NOT_FOUND: it ended by itself.  Others are not for us to end. */
		if (r == KEEPER_E_BUSY)
			return -EBUSY;
		if (r < 0)
			return r;
		ended++;
	}
	if (r != KEEPER_E_NOT_FOUND)
		return r < 0 ? r : -EPROTO;
	*ret_ended = ended;
	return 0;
}

int iommufd_sweep(struct shim *base, const struct shim_saved *known, size_t n, size_t *ret_ended)
{
	struct keeper_context_id *ids = calloc(n ?: 1, sizeof(*ids));
	int r = ids ? 0 : -ENOMEM;
	bool delegated;

	/* One that cannot be read might be any: none is ended then. */
	for (size_t i = 0; !r && i < n; i++)
		r = iommufd_load_context(&known[i], &ids[i], &delegated);
	if (!r)
		r = sweep_all(iommufd_shim_of(base), ids, n, ret_ended);
	free(ids);
	return r;
}
