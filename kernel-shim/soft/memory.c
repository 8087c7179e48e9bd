/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Registered memory: a shared mapping of the tenant's memfd in the window.  The mapping
 * holds the memory, so the fd is only needed to make it.  Nothing is touched here: pages
 * come when a device touches them, and if they do not, guard.c answers.
 */

#include "soft/internal.h"

#include <errno.h>
#include <stdlib.h>

int soft_mem_register(struct shim_ctx *base, int fd, uint64_t offset, uint64_t length,
		      uint32_t prot, struct shim_mem **ret_mem)
{
	struct soft_ctx *ctx = soft_ctx_of(base);
	struct soft_shim *shim = soft_shim_of(base->shim);
	struct soft_mem *mem;
	uint64_t end;
	int r;

	if (!length || offset % SOFT_PAGE_SIZE || length % SOFT_PAGE_SIZE ||
	    __builtin_add_overflow(offset, length, &end) || end > INT64_MAX ||
	    !(prot & (SHIM_READ | SHIM_WRITE)))
		return SHIM_E_MEMORY;
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		return -ENOMEM;
	r = soft_window_map(&shim->window, fd, offset, length, prot & SHIM_WRITE, &mem->piece);
	if (r) {
		free(mem);
		/* What a wrong type of fd, access mode, seal or alignment leads to. */
		if (r == -EACCES || r == -EPERM || r == -ENODEV || r == -EINVAL || r == -EBADF)
			return SHIM_E_MEMORY;
		return r;
	}
	mem->base.shim = base->shim;
	mem->ctx = ctx;
	mem->prot = prot;
	SHIM_LIST_ADD(ctx->memories, mem);
	*ret_mem = &mem->base;
	return 0;
}

void soft_mem_unregister(struct shim_mem *base)
{
	struct soft_mem *mem = soft_mem_of(base);

	if (!mem)
		return;
	SHIM_LIST_REMOVE(mem->ctx->memories, mem);
	mem->ctx = NULL;
	soft_window_unmap(&soft_shim_of(base->shim)->window, &mem->piece);
}

void soft_mem_drop(struct soft_piece *piece)
{
	free((char *)piece - offsetof(struct soft_mem, piece));
}
