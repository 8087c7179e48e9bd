/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Registered memory: a note of which part of which memfd may be mapped, and how.  The kernel
 * knows nothing of it; it gets the file with every map and then holds it itself, so mappings
 * outlive a note.  What the kernel does not check and the broker has (access mode, seals,
 * holes) is kept here as prot, and no map gets more.
 */

#include "iommufd/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int iommufd_mem_register(struct shim_ctx *base, int fd, uint64_t offset, uint64_t length,
			 uint32_t prot, struct shim_mem **ret_mem)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), end;
	struct iommufd_mem *mem;

	if (fd < 0 || !length || offset % page || length % page ||
	    __builtin_add_overflow(offset, length, &end) || end > INT64_MAX ||
	    !(prot & (SHIM_READ | SHIM_WRITE)))
		return SHIM_E_MEMORY;
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		return -ENOMEM;
	mem->base.shim = base->shim;
	mem->ctx = ctx;
	mem->fd = fd;
	mem->offset = offset;
	mem->length = length;
	mem->prot = prot;
	SHIM_LIST_ADD(ctx->memories, mem);
	*ret_mem = &mem->base;
	return 0;
}

void iommufd_mem_unregister(struct shim_mem *base)
{
	struct iommufd_mem *mem = iommufd_mem_of(base);

	if (!mem)
		return;
	SHIM_LIST_REMOVE(mem->ctx->memories, mem);
	free(mem);
}
