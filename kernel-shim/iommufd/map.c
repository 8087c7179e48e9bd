/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Mappings of kind KERNEL: parts of memfds, pinned by the kernel.
 *
 * A mapping is made in chunks (IOMMUFD_CHUNK), each an area of its own to the kernel; so it can
 * be given up in between.  All or none: what was made of a request that fails is unmapped
 * again before the answer.  Unmapping takes whole areas, so the range of a mapping takes all
 * its chunks and nothing else.  The kernel flushes IOTLBs before IOMMU_IOAS_UNMAP returns.
 *
 * Where an undo fails (no reason for it is known), more is mapped than the broker believes.
 * Then the table is broken: it takes no map and no device any more, and can only be freed.
 */

#include "iommufd/internal.h"

#include <errno.h>
#include <unistd.h>

static uint64_t chunks_of(uint64_t length)
{
	return (length + IOMMUFD_CHUNK - 1) / IOMMUFD_CHUNK;
}

/* Whether [iova, iova + length) is a range of whole pages within the input space. */
static bool range_fits(const struct iommufd_pt *pt, uint64_t iova, uint64_t length)
{
	uint64_t last = iova + length - 1;

	return length && !((iova | length) % (uint64_t)sysconf(_SC_PAGESIZE)) && last >= iova &&
	       !(last >> pt->input_bits);
}

static int check(const struct iommufd_pt *pt, const struct shim_map *map)
{
	const struct iommufd_mem *mem;
	uint64_t end;

	if (!range_fits(pt, map->iova, map->length))
		return SHIM_E_RANGE;
	if (!map->prot || map->prot & ~(SHIM_READ | SHIM_WRITE | SHIM_EXEC))
		return -EINVAL;
	/* iommufd has no flag for it; there is no parent to map from. */
	if (map->prot & SHIM_EXEC || !map->mem)
		return SHIM_E_UNSUPPORTED;
	/* First-stage entries cannot take reading away: it would be granted unasked. */
	if (!(map->prot & SHIM_READ) && pt->format == SHIM_FORMAT_KERNEL_CHOSEN)
		return SHIM_E_UNSUPPORTED;
	mem = iommufd_mem_of(map->mem);
	if (mem->ctx != pt->ctx)
		return -EINVAL;
	if (map->offset % (uint64_t)sysconf(_SC_PAGESIZE) ||
	    __builtin_add_overflow(map->offset, map->length, &end) || end > mem->length)
		return SHIM_E_RANGE;
	/* IOMMU_IOAS_MAP_FILE looks at neither access mode nor seals. */
	return map->prot & ~mem->prot ? -EACCES : 0;
}

uint64_t iommufd_pt_table_bytes(struct shim_pt *pt)
{
	return tables_bytes(&iommufd_pt_of(pt)->tables);
}

uint64_t iommufd_pt_map_bound(struct shim_pt *base, const struct shim_map *maps, size_t n)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		if (!check(pt, &maps[i]))
			bytes += tables_bound(&pt->tables, maps[i].iova, maps[i].length,
					      chunks_of(maps[i].length));
	return bytes;
}

/* ---- map ---- */

static int map_error(int r)
{
	switch (r) {
	case -EEXIST:
		return SHIM_E_OVERLAP;
	case -EINVAL: /* reserved, or not aligned as an attached device needs it */
	case -EOVERFLOW:
	case -EADDRINUSE:
		return SHIM_E_RANGE;
	case -EOPNOTSUPP:
		return SHIM_E_UNSUPPORTED;
	}
	return r;
}

/* *ret_done: bytes mapped, whole chunks; always set. */
static int map_one(struct iommufd_pt *pt, const struct shim_map *map,
		   const struct shim_cancel *cancel, uint64_t *ret_done)
{
	const struct iommufd_mem *mem = iommufd_mem_of(map->mem);
	uint64_t done;
	int r;

	for (done = 0; done < map->length; done += IOMMUFD_CHUNK) {
		uint64_t left = map->length - done;
		struct iommufd_ioas_map_file arg = {
			.size = sizeof(arg),
			.flags = IOMMU_IOAS_MAP_FIXED_IOVA |
				 (map->prot & SHIM_READ ? IOMMU_IOAS_MAP_READABLE : 0) |
				 (map->prot & SHIM_WRITE ? IOMMU_IOAS_MAP_WRITEABLE : 0),
			.ioas_id = pt->ioas,
			.fd = mem->fd,
			.start = mem->offset + map->offset + done,
			.length = left < IOMMUFD_CHUNK ? left : IOMMUFD_CHUNK,
			.iova = map->iova + done,
		};

		*ret_done = done;
		if (cancel && cancel->requested)
			return -ECANCELED;
		r = iommufd_call(pt->ctx, IOMMU_IOAS_MAP_FILE, &arg);
		if (r)
			return map_error(r);
	}
	*ret_done = map->length;
	return 0;
}

static void undo(struct iommufd_pt *pt, uint64_t iova, uint64_t length)
{
	uint64_t unmapped;
	int r = -EIO;

	if (!length)
		return;
	for (int i = 0; r && i < IOMMUFD_TRIES; i++) {
		r = iommufd_unmap(pt->ctx, pt->ioas, iova, length, &unmapped);
		/* It had not begun. */
		if (r == -ENOENT && pt->ctx->restoring)
			r = 0;
	}
	if (r)
		pt->broken = true;
}

/* There is room for it. */
static void note(struct iommufd_pt *pt, const struct shim_map *map)
{
	tables_add(&pt->tables, map->iova, map->length, chunks_of(map->length));
	iommufd_dirty_map(pt, map->iova, map->length);
}

int iommufd_pt_map(struct shim_pt *base, const struct shim_map *maps, size_t n,
		   const struct shim_cancel *cancel)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	uint64_t done = 0;
	size_t i;
	int r = pt->broken ? -EIO : 0;

	/* Its tenant maps by writing the table. */
	if (pt->user || pt->smmuv3)
		return SHIM_E_UNSUPPORTED;
	for (i = 0; !r && i < n; i++)
		r = check(pt, &maps[i]);
	if (!r)
		r = tables_reserve(&pt->tables, n);
	if (!r)
		r = iommufd_dirty_reserve(pt, n);
	if (r)
		return r;
	for (i = 0; i < n; i++) {
		r = map_one(pt, &maps[i], cancel, &done);
		if (r)
			break;
	}
	if (r) {
		/* A device may have seen some of it. */
		undo(pt, maps[i].iova, done);
		while (i--)
			undo(pt, maps[i].iova, maps[i].length);
		return pt->broken ? -EIO : r;
	}
	for (i = 0; i < n; i++)
		note(pt, &maps[i]);
	return 0;
}

/* ---- unmap ---- */

int iommufd_pt_unmap(struct shim_pt *base, const struct shim_unmap *unmaps, size_t n,
		     size_t *ret_done)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);

	for (*ret_done = 0; *ret_done < n; ++*ret_done) {
		const struct shim_unmap *u = &unmaps[*ret_done];
		uint64_t unmapped = 0;
		int r;

		if (!range_fits(pt, u->iova, u->length))
			return SHIM_E_NO_MAPPING;
		r = iommufd_unmap(pt->ctx, pt->ioas, u->iova, u->length, &unmapped);
		/* Cut short by a restart, it is done again from its start. */
		if (pt->ctx->restoring && (!r || r == -ENOENT)) {
			r = 0;
			unmapped = u->length;
		}
		/* ENOENT: nothing is there, or an area would be split.  Less: it was not one. */
		if (r == -ENOENT || r == -EINVAL || (!r && unmapped != u->length))
			return SHIM_E_NO_MAPPING;
		if (r)
			return r;
		tables_remove(&pt->tables, u->iova, u->length, chunks_of(u->length));
		iommufd_dirty_unmap(pt, u->iova, u->length);
	}
	return 0;
}

/* ---- restart ---- */

int iommufd_pt_restore_map(struct shim_pt *base, const struct shim_map *maps, size_t n)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	int r = 0;

	for (size_t i = 0; i < n; i++)
		if (!range_fits(pt, maps[i].iova, maps[i].length))
			return SHIM_E_RANGE;
	r = tables_reserve(&pt->tables, n);
	if (!r)
		r = iommufd_dirty_reserve(pt, n);
	if (r)
		return r;
	for (size_t i = 0; i < n; i++)
		note(pt, &maps[i]);
	return 0;
}

int iommufd_pt_undo_map(struct shim_pt *base, const struct shim_unmap *ranges, size_t n)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);

	for (size_t i = 0; i < n; i++)
		if (!range_fits(pt, ranges[i].iova, ranges[i].length))
			return SHIM_E_RANGE;
	for (size_t i = 0; i < n; i++)
		undo(pt, ranges[i].iova, ranges[i].length);
	return pt->broken ? -EIO : 0;
}
