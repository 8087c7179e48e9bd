/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Invalidations.  Of a table of kind KERNEL nothing is ever stale: the kernel changes it and
 * flushes in one.  Of a tenant's table they go to the kernel as arrays in the IOMMU's own
 * layout, to each HWPT that stands for the table; it does them in order and says how many.
 * While nothing is attached, nothing can be stale: they are checked and done.
 *
 * A command that fails behind one of several IOMMUs counts as not done, whoever else did it.
 */

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"

#include <errno.h>

#define BATCH 128u

/* ---- kind KERNEL ---- */

static int check_range(const struct iommufd_pt *pt, const struct shim_invalidate *entry)
{
	uint64_t last;

	if (!entry->length || __builtin_add_overflow(entry->iova, entry->length - 1, &last) ||
	    last >> pt->input_bits)
		return SHIM_E_RANGE;
	return 0;
}

/* Some device says that it has this: then the caller need not know whose table it is. */
static bool is_offered(const struct iommufd_pt *pt, enum shim_invalidate_scope scope)
{
	const struct iommufd_host *host = &iommufd_shim_of(pt->base.shim)->host;

	for (size_t i = 0; i < host->n_slots; i++)
		if (host->slots[i].info.caps.invalidations >> scope & 1)
			return true;
	return false;
}

static int invalidate_one(const struct iommufd_pt *pt, const struct shim_invalidate *entry)
{
	switch (entry->scope) {
	case SHIM_INVALIDATE_ALL:
		return 0;
	case SHIM_INVALIDATE_RANGE:
		return check_range(pt, entry);
	case SHIM_INVALIDATE_PASID:
	case SHIM_INVALIDATE_DEVICE_TLB:
		return is_offered(pt, entry->scope) ? 0 : SHIM_E_UNSUPPORTED;
	case SHIM_INVALIDATE_PASID_CACHE:
		break;
	}
	return SHIM_E_UNSUPPORTED;
}

/* ---- kind USER ---- */

/* Entries in the layout of the HWPTs with this way of nesting.  *ret_done: the fewest. */
static int invalidate_all(struct iommufd_pt *pt, const struct iommufd_nested *nested,
			  const void *entries, size_t n, size_t *ret_done)
{
	size_t fewest = n;
	int first = 0;

	for (const struct iommufd_hwpt *hwpt = pt->hwpts; n && hwpt; hwpt = hwpt->next) {
		size_t done;
		int r;

		if (hwpt->gone || !hwpt->parent || hwpt->unit->nested != nested)
			continue;
		r = iommufd_invalidate(pt->ctx, hwpt->id, nested->invalidate_type, entries,
				       nested->entry_size, n, &done);
		if (r && !first)
			first = r;
		if (done < fewest)
			fewest = done;
	}
	*ret_done = fewest;
	return first;
}

/* The ways of nesting behind which the table is, each once. */
static const struct iommufd_nested *next_way(const struct iommufd_pt *pt,
					     const struct iommufd_nested *after)
{
	const struct iommufd_nested *next = NULL;

	for (const struct iommufd_hwpt *hwpt = pt->hwpts; hwpt; hwpt = hwpt->next) {
		const struct iommufd_nested *way = hwpt->parent ? hwpt->unit->nested : NULL;

		if (way && (uintptr_t)way > (uintptr_t)after &&
		    (!next || (uintptr_t)way < (uintptr_t)next))
			next = way;
	}
	return next;
}

static int check_user(const struct iommufd_pt *pt, const struct shim_invalidate *entry)
{
	if (entry->scope == SHIM_INVALIDATE_RANGE)
		return check_range(pt, entry);
	return entry->scope == SHIM_INVALIDATE_PASID_CACHE ? SHIM_E_UNSUPPORTED : 0;
}

/* Up to BATCH. */
static int invalidate_way(struct iommufd_pt *pt, const struct iommufd_nested *way,
			  const struct shim_invalidate *entries, size_t n, size_t *ret_done)
{
	char bytes[BATCH * IOMMUFD_NESTED_ENTRY_MAX];
	size_t filled;
	int r = 0, first;

	for (filled = 0; filled < n; filled++) {
		r = way->entry(&entries[filled], bytes + filled * way->entry_size);
		if (r)
			break;
	}
	first = invalidate_all(pt, way, bytes, filled, ret_done);
	return first ? first : r;
}

static int invalidate_user(struct iommufd_pt *pt, const struct shim_invalidate *entries, size_t n,
			   size_t *ret_done)
{
	const struct iommufd_nested *way = NULL;
	size_t valid, fewest, done;
	int r = 0, first = 0;

	for (valid = 0; !r && valid < n; valid += !r)
		r = check_user(pt, &entries[valid]);
	fewest = valid;
	while (valid && (way = next_way(pt, way))) {
		int one = invalidate_way(pt, way, entries, valid, &done);

		if (one && !first)
			first = one;
		if (done < fewest)
			fewest = done;
	}
	*ret_done = fewest;
	return first ? first : r;
}

int iommufd_pt_invalidate(struct shim_pt *base, const struct shim_invalidate *entries, size_t n,
			  size_t *ret_done)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	size_t done;
	int r = 0;

	if (pt->smmuv3)
		return iommufd_smmuv3_invalidate(pt, entries, n, ret_done);
	*ret_done = 0;
	while (!r && *ret_done < n) {
		size_t now = n - *ret_done < BATCH ? n - *ret_done : BATCH;

		if (pt->user) {
			r = invalidate_user(pt, &entries[*ret_done], now, &done);
			*ret_done += done;
		} else {
			r = invalidate_one(pt, &entries[*ret_done]);
			*ret_done += !r;
		}
	}
	return r;
}

int iommufd_pt_invalidate_native(struct shim_pt *base, enum shim_native type, const void *entries,
				 size_t n, size_t *ret_done)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	const struct iommufd_nested *way;
	size_t valid = 0;
	int r;

	if (pt->smmuv3)
		return iommufd_smmuv3_invalidate_native(pt, type, entries, n, ret_done);
	*ret_done = 0;
	/* Without a device there is one that it can be. */
	way = next_way(pt, NULL);
	if (!way && type == SHIM_NATIVE_VTD_S1)
		way = &iommufd_nested_vtd;
	if (!pt->user || !way || way->native != type || next_way(pt, way))
		return SHIM_E_UNSUPPORTED;
	while (valid < n && way->entry_valid((const char *)entries + valid * way->entry_size))
		valid++;
	r = invalidate_all(pt, way, entries, valid, ret_done);
	if (r == -EOPNOTSUPP)
		return -EINVAL;
	return !r && valid < n ? -EINVAL : r;
}
