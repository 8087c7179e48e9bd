/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contexts: one iommufd each, opened by the keeper, which holds a duplicate.  Inside one
 * iommufd the kernel checks no permission at all; that is why a lease has its own.
 *
 * The end of a context is a revocation, whoever still holds a descriptor of a device of it:
 * what makes memory unreachable comes first, so that nothing a holder does later matters.
 */

#include "iommufd/internal.h"

#include <errno.h>
#include <stdlib.h>

int iommufd_ctx_new(struct shim *base, const char *owner, char *ret_reason,
		    struct shim_ctx **ret_ctx)
{
	struct iommufd_shim *shim = iommufd_shim_of(base);
	char reason[KEEPER_REASON_MAX] = "";
	struct iommufd_ctx *ctx;
	int r;

	iommufd_pay_debts(shim);
	ctx = calloc(1, sizeof(*ctx));
	if (ctx)
		ctx->debt = calloc(1, sizeof(*ctx->debt));
	if (!ctx || !ctx->debt) {
		free(ctx);
		return -ENOMEM;
	}
	ctx->base.shim = base;
	ctx->fd = -1;
	r = shim->sys.context_open(shim->sys.user, owner, reason, &ctx->id, &ctx->fd);
	if (!r) {
		ctx->debt->context = ctx->id;
		*ret_ctx = &ctx->base;
		return 0;
	}
	free(ctx->debt);
	free(ctx);
	if (r < 0)
		return r;
	return iommufd_refuse(ret_reason, r == KEEPER_E_LIMIT ? SHIM_E_LIMIT : SHIM_E_UNSUPPORTED,
			      "%s", reason[0] ? reason : iommufd_keeper_error(r));
}

void iommufd_ctx_free(struct shim_ctx *base)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	struct iommufd_debt *debts = NULL;
	struct iommufd_shim *shim;

	if (!ctx)
		return;
	shim = iommufd_shim_of(base->shim);
	/* From here on no memory is reachable, whatever is attached to what. */
	for (struct iommufd_pt *pt = ctx->tables; pt; pt = pt->next)
		(void)iommufd_unmap_all(ctx, pt->ioas);
	for (struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next)
		iommufd_detach_all(dev);
	/* With the objects gone, a holder finds nothing to attach to. */
	while (ctx->tables)
		iommufd_pt_end(ctx->tables);
	while (ctx->memories)
		iommufd_mem_unregister(&ctx->memories->base);
	while (ctx->devices)
		iommufd_dev_close(ctx->devices, &debts);
	iommufd_give_back(shim, debts);
	shim->sys.close(shim->sys.user, ctx->fd);
	iommufd_give_back(shim, ctx->debt);
	free(ctx);
}
