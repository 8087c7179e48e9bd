/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Finding the objects of an earlier broker again.  The keeper has kept the context and the
 * devices open, so everything in them is as it was; here only the records are made anew, from
 * what the broker saved of them.  Nothing in the kernel changes: what differs from the record
 * is put right when the record is complete (strays.c).
 *
 * Ids.  The kernel gives an id again as soon as it is free.  What was saved names the object
 * that was meant nevertheless: only this broker makes objects in the context, one call at a
 * time, and what it had made or ended since it last saved is of the one call that was cut
 * short.
 */

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"

#include <errno.h>
#include <stdlib.h>

void iommufd_ctx_save(struct shim_ctx *ctx, struct shim_saved *ret_saved)
{
	iommufd_save_context(iommufd_ctx_of(ctx), ret_saved);
}

void iommufd_dev_save(struct shim_dev *dev, struct shim_saved *ret_saved)
{
	iommufd_save_device(iommufd_dev_of(dev), ret_saved);
}

void iommufd_pt_save(struct shim_pt *pt, struct shim_saved *ret_saved)
{
	if (iommufd_pt_of(pt)->smmuv3)
		iommufd_save_smmuv3_table(iommufd_pt_of(pt), ret_saved);
	else
		iommufd_save_table(iommufd_pt_of(pt), ret_saved);
}

static int keeper_answer(int r)
{
	if (r == KEEPER_E_NOT_FOUND)
		return SHIM_E_GONE;
	return r > 0 ? -EPROTO : r;
}

/* The keeper knows the owner since it opened the context. */
int iommufd_ctx_restore(struct shim *base, const char *owner, const struct shim_saved *saved,
			struct shim_ctx **ret_ctx)
{
	struct iommufd_shim *shim = iommufd_shim_of(base);
	struct iommufd_ctx *ctx;
	int r = iommufd_ctx_new_record(base, &ctx);

	if (r)
		return r;
	r = iommufd_load_context(saved, &ctx->id, &ctx->delegated);
	if (!r)
		r = keeper_answer(shim->sys.context_take(shim->sys.user, ctx->id, &ctx->fd));
	if (r) {
		iommufd_ctx_free_record(ctx);
		return r;
	}
	ctx->debt->context = ctx->id;
	ctx->restoring = true;
	*ret_ctx = &ctx->base;
	return 0;
}

/* What the kernel says of the device's IOMMU, which refused it as little before. */
static int ask_hw_info(struct iommufd_dev *dev)
{
	int r = iommufd_hw_info_check(dev, NULL);

	/* Claimed, and never bound or no longer. */
	if (r == -ENOENT)
		return SHIM_E_GONE;
	return r > 0 ? 0 : r;
}

int iommufd_dev_restore(struct shim_ctx *base, const char *address, const struct shim_saved *saved,
			struct shim_dev **ret_dev)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	struct iommufd_shim *shim = iommufd_shim_of(base->shim);
	const struct iommufd_slot *slot = iommufd_host_find(&shim->host, address);
	struct iommufd_dev *dev;
	int r;

	if (!slot)
		return SHIM_E_NO_DEVICE;
	r = iommufd_dev_new(ctx, slot, &dev);
	if (r)
		return r;
	r = iommufd_load_device(saved, dev);
	if (!r)
		r = keeper_answer(
			shim->sys.devices_take(shim->sys.user, ctx->id, &address, 1, &dev->fd));
	if (r) {
		iommufd_dev_free(dev);
		return r;
	}
	if (!ctx->delegated)
		r = ask_hw_info(dev);
	if (!r && !ctx->delegated)
		r = iommufd_smmuv3_learn(dev);
	if (r) {
		shim->sys.close(shim->sys.user, dev->fd);
		iommufd_dev_free(dev);
		return r;
	}
	SHIM_LIST_ADD(ctx->devices, dev);
	*ret_dev = &dev->base;
	return 0;
}

/* Asks for no ranges, so one that is there has too many: EMSGSIZE. */
static int find_ioas(struct iommufd_ctx *ctx, uint32_t ioas)
{
	struct iommufd_ioas_iova_ranges arg = {.size = sizeof(arg), .ioas_id = ioas};
	int r = iommufd_call(ctx, IOMMU_IOAS_IOVA_RANGES, &arg);

	if (r == -ENOENT)
		return SHIM_E_GONE;
	return r == -EMSGSIZE ? 0 : r;
}

/* Of the kernel's there is nothing to find: all is made anew when the record is complete. */
static int load_smmuv3_table(struct iommufd_pt *pt, const struct shim_pt_spec *spec,
			     const struct shim_saved *saved)
{
	int r = iommufd_load_smmuv3_table(saved, pt);

	if (r)
		return r;
	if (!spec->parent || pt->format != spec->format)
		return -EINVAL;
	pt->parent = iommufd_pt_of(spec->parent);
	return pt->parent->ctx != pt->ctx || iommufd_is_tenants(pt->parent) ? -EINVAL : 0;
}

/* What was saved, of this kind of table. */
static int load_table(struct iommufd_pt *pt, const struct shim_pt_spec *spec,
		      const struct shim_saved *saved)
{
	bool dirty, tracked, unknown;
	int r;

	if (spec->kind == SHIM_KIND_USER && smmuv3_page_shift(spec->format))
		return load_smmuv3_table(pt, spec, saved);
	r = iommufd_load_table(saved, pt, &dirty, &tracked, &unknown);
	if (r)
		return r;
	if (pt->user != (spec->kind == SHIM_KIND_USER) || pt->user != !!spec->parent)
		return -EINVAL;
	pt->parent = spec->parent ? iommufd_pt_of(spec->parent) : NULL;
	if (pt->parent && (pt->parent->ctx != pt->ctx || iommufd_is_tenants(pt->parent)))
		return -EINVAL;
	r = dirty ? iommufd_dirty_new(&pt->dirty) : 0;
	if (!r && tracked)
		iommufd_dirty_set_tracked(pt, unknown);
	return r;
}

int iommufd_pt_restore(struct shim_ctx *base, const struct shim_pt_spec *spec,
		       const struct shim_saved *saved, struct shim_pt **ret_pt)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	struct iommufd_pt *pt;
	int r;

	if (spec->kind != SHIM_KIND_KERNEL && spec->kind != SHIM_KIND_USER)
		return -EINVAL;
	pt = calloc(1, sizeof(*pt));
	if (!pt)
		return -ENOMEM;
	pt->base.shim = base->shim;
	pt->ctx = ctx;
	r = load_table(pt, spec, saved);
	if (!r && !pt->smmuv3)
		r = find_ioas(ctx, pt->ioas);
	if (r) {
		iommufd_dirty_free(pt->dirty);
		free(pt);
		return r;
	}
	if (pt->parent)
		pt->parent->n_children++;
	SHIM_LIST_ADD(ctx->tables, pt);
	*ret_pt = &pt->base;
	return 0;
}
