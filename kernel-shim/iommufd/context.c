/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contexts: one iommufd each, opened by the keeper, which holds a duplicate.  Inside one
 * iommufd the kernel checks no permission at all; that is why a lease has its own.
 *
 * The end of a context is a revocation, whoever still holds a descriptor of a device of it:
 * what makes memory unreachable comes first, so that nothing a holder does later matters.
 * A context that is ended in the middle of its restore, or was given to a process (delegate.c), may
 * hold more than is recorded: then everything that there can be is ended, by id.
 *
 * A context that is left goes on: the keeper holds what it needs, and a later broker finds it
 * again (restore.c).
 */

#include "iommufd/internal.h"

#include <errno.h>
#include <stdlib.h>

int iommufd_ctx_new_record(struct shim *base, struct iommufd_ctx **ret_ctx)
{
	struct iommufd_ctx *ctx = calloc(1, sizeof(*ctx));

	if (ctx)
		ctx->debt = calloc(1, sizeof(*ctx->debt));
	if (!ctx || !ctx->debt) {
		free(ctx);
		return -ENOMEM;
	}
	ctx->base.shim = base;
	ctx->fd = -1;
	ctx->fault_fd = -1;
	ctx->reports = -1;
	*ret_ctx = ctx;
	return 0;
}

void iommufd_ctx_free_record(struct iommufd_ctx *ctx)
{
	free(ctx->debt);
	free(ctx);
}

int iommufd_ctx_new(struct shim *base, const char *owner, char *ret_reason,
		    struct shim_ctx **ret_ctx)
{
	struct iommufd_shim *shim = iommufd_shim_of(base);
	char reason[KEEPER_REASON_MAX] = "";
	struct iommufd_ctx *ctx;
	int r;

	iommufd_pay_debts(shim);
	r = iommufd_ctx_new_record(base, &ctx);
	if (r)
		return r;
	r = shim->sys.context_open(shim->sys.user, owner, reason, &ctx->id, &ctx->fd);
	if (!r) {
		ctx->debt->context = ctx->id;
		*ret_ctx = &ctx->base;
		return 0;
	}
	iommufd_ctx_free_record(ctx);
	if (r < 0)
		return r;
	return iommufd_refuse(ret_reason, r == KEEPER_E_LIMIT ? SHIM_E_LIMIT : SHIM_E_UNSUPPORTED,
			      "%s", reason[0] ? reason : iommufd_keeper_error(r));
}

/* Children first. */
static struct iommufd_pt *next_to_end(const struct iommufd_ctx *ctx)
{
	struct iommufd_pt *pt = ctx->tables;

	while (pt && pt->n_children)
		pt = pt->next;
	return pt;
}

void iommufd_ctx_free(struct shim_ctx *base)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	struct iommufd_debt *debts = NULL;
	struct iommufd_shim *shim;
	struct iommufd_pt *pt;
	bool unrecorded_objects;
	size_t unrecorded = 0;

	if (!ctx)
		return;
	unrecorded_objects = ctx->restoring || ctx->delegated;
	shim = iommufd_shim_of(base->shim);
	/* From here on no memory is reachable, whatever is attached to what. */
	for (pt = ctx->tables; pt; pt = pt->next)
		if (pt->ioas)
			(void)iommufd_unmap_all(ctx, pt->ioas);
	if (unrecorded_objects)
		iommufd_sweep_memory(ctx);
	if (ctx->restoring)
		(void)iommufd_end_claims(ctx, &unrecorded);
	for (struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next)
		iommufd_detach_all(dev);
	/* With the objects gone, a holder finds nothing to attach to. */
	while ((pt = next_to_end(ctx)))
		iommufd_pt_end(pt);
	iommufd_faults_end(ctx);
	if (unrecorded_objects)
		iommufd_sweep_objects(ctx);
	while (ctx->memories)
		iommufd_mem_unregister(&ctx->memories->base);
	while (ctx->devices)
		iommufd_dev_close(ctx->devices, &debts);
	iommufd_give_back(shim, debts);
	if (ctx->reports >= 0)
		shim->sys.close(shim->sys.user, ctx->reports);
	shim->sys.close(shim->sys.user, ctx->fd);
	iommufd_give_back(shim, ctx->debt);
	free(ctx);
}

void iommufd_ctx_leave(struct shim_ctx *base)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	const struct iommufd_sys *sys;
	struct iommufd_dev *dev;
	struct iommufd_pt *pt;

	if (!ctx)
		return;
	sys = &iommufd_shim_of(base->shim)->sys;
	while ((dev = ctx->devices)) {
		sys->close(sys->user, dev->fd);
		SHIM_LIST_REMOVE(ctx->devices, dev);
		iommufd_dev_free(dev);
	}
	while ((pt = next_to_end(ctx)))
		iommufd_pt_free(pt);
	iommufd_faults_close(ctx);
	while (ctx->memories)
		iommufd_mem_unregister(&ctx->memories->base);
	if (ctx->reports >= 0)
		sys->close(sys->user, ctx->reports);
	sys->close(sys->user, ctx->fd);
	iommufd_ctx_free_record(ctx);
}
