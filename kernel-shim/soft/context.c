/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contexts: one protection domain each.  Freeing one takes everything in it apart, in time
 * that grows with what is there and no faster: no list is searched.
 */

#include "soft/vm.h"

#include <errno.h>
#include <stdlib.h>

int soft_ctx_new(struct shim *shim, const char *owner, char *ret_reason, struct shim_ctx **ret_ctx)
{
	struct soft_ctx *ctx = calloc(1, sizeof(*ctx));
	pthread_rwlockattr_t attr;
	int r;

	if (!ctx)
		return -ENOMEM;
	ctx->base.shim = shim;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	r = pthread_rwlock_init(&ctx->flush, &attr);
	pthread_rwlockattr_destroy(&attr);
	if (r) {
		free(ctx);
		return -r;
	}
	pthread_mutex_init(&ctx->retag, NULL);
	*ret_ctx = &ctx->base;
	return 0;
}

void soft_ctx_free(struct shim_ctx *base)
{
	struct soft_ctx *ctx = soft_ctx_of(base);
	struct soft_shim *shim;
	struct soft_table_list dead = {0};
	struct soft_pt *pt;

	if (!ctx)
		return;
	shim = soft_shim_of(base->shim);
	/* Devices first: after that nothing walks. */
	while (ctx->devices)
		soft_dev_release(&ctx->devices->base);
	while ((pt = ctx->tables)) {
		ctx->tables = pt->next;
		soft_pt_clear(pt, &dead);
		free(pt);
	}
	soft_tables_put(&shim->tables, &dead);
	while (ctx->vms) {
		ctx->vms->n_pts = 0;
		soft_vm_destroy(&ctx->vms->base);
	}
	while (ctx->memories)
		soft_mem_unregister(&ctx->memories->base);
	pthread_rwlock_destroy(&ctx->flush);
	pthread_mutex_destroy(&ctx->retag);
	free(ctx);
}
