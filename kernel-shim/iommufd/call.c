/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The kernel's calls, one function each: structures filled, nothing decided.
 */

#include "iommufd/internal.h"

#include <errno.h>

int iommufd_call(struct iommufd_ctx *ctx, unsigned long request, void *arg)
{
	const struct iommufd_sys *sys = iommufd_sys_of(ctx);

	return sys->ioctl(sys->user, ctx->fd, request, arg);
}

int iommufd_destroy(struct iommufd_ctx *ctx, uint32_t id)
{
	struct iommufd_destroy arg = {.size = sizeof(arg), .id = id};

	return iommufd_call(ctx, IOMMU_DESTROY, &arg);
}

int iommufd_unmap(struct iommufd_ctx *ctx, uint32_t ioas, uint64_t iova, uint64_t length,
		  uint64_t *ret_unmapped)
{
	struct iommufd_ioas_unmap arg = {
		.size = sizeof(arg), .ioas_id = ioas, .iova = iova, .length = length};
	int r = iommufd_call(ctx, IOMMU_IOAS_UNMAP, &arg);

	if (!r)
		*ret_unmapped = arg.length;
	return r;
}

int iommufd_invalidate(struct iommufd_ctx *ctx, uint32_t object, uint32_t type,
		       const void *commands, size_t size, size_t n, size_t *ret_done)
{
	struct iommufd_hwpt_invalidate arg = {
		.size = sizeof(arg),
		.hwpt_id = object,
		.data_uptr = (uintptr_t)commands,
		.data_type = type,
		.entry_len = (uint32_t)size,
		.entry_num = (uint32_t)n,
	};
	int r = iommufd_call(ctx, IOMMU_HWPT_INVALIDATE, &arg);

	/* A call that failed before it began leaves the number as it was. */
	*ret_done = !r || arg.entry_num < n ? arg.entry_num : 0;
	return r;
}

int iommufd_unmap_all(struct iommufd_ctx *ctx, uint32_t ioas)
{
	uint64_t unmapped;
	int r = -EIO;

	for (int i = 0; r && i < IOMMUFD_TRIES; i++) {
		r = iommufd_unmap(ctx, ioas, 0, UINT64_MAX, &unmapped);
		/* There was nothing. */
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

void iommufd_destroy_surely(struct iommufd_ctx *ctx, uint32_t id)
{
	for (int i = 0; i < IOMMUFD_TRIES; i++) {
		int r = iommufd_destroy(ctx, id);

		if (!r || r == -ENOENT)
			return;
	}
}
