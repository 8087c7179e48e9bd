/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Dirty tracking.  The kernel keeps the bits in each HWPT: a page is dirty if it is in any.  It
 * reads ranges only that are mapped from end to end, so the mappings of a table that tracks are
 * remembered, in order.
 *
 * A clearing read goes through the HWPTs one after the other; a write in between is in this
 * bitmap or in the next.  Bits that the kernel has cleared are in the caller's bitmap even if
 * the call fails afterwards.
 */

#include "iommufd/internal.h"

#include <errno.h>
#include <stdlib.h>

/* Pieces that one call of the kernel's reads. */
#define PER_CALL UINT64_C(32768)

struct range {
	uint64_t iova, length;
	bool unknown; /* what was written is not known: dirty until it is cleared */
};

struct iommufd_dirty {
	bool on;
	bool restored_unknown; /* what is restored is unknown, as some of it was when it was saved
				*/
	struct range *ranges;
	size_t n, room;
};

int iommufd_dirty_new(struct iommufd_dirty **ret_dirty)
{
	*ret_dirty = calloc(1, sizeof(**ret_dirty));
	return *ret_dirty ? 0 : -ENOMEM;
}

void iommufd_dirty_free(struct iommufd_dirty *dirty)
{
	if (dirty)
		free(dirty->ranges);
	free(dirty);
}

/* ---- mappings ---- */

static int reserve(struct iommufd_dirty *dirty, size_t n)
{
	size_t room = dirty->room ? dirty->room : 16;
	struct range *grown;

	if (n <= dirty->room - dirty->n)
		return 0;
	while (room - dirty->n < n)
		room *= 2;
	grown = realloc(dirty->ranges, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	dirty->ranges = grown;
	dirty->room = room;
	return 0;
}

int iommufd_dirty_reserve(struct iommufd_pt *pt, size_t n)
{
	return pt->dirty ? reserve(pt->dirty, n) : 0;
}

/* The first that ends behind iova. */
static size_t first_behind(const struct iommufd_dirty *dirty, uint64_t iova)
{
	size_t low = 0, high = dirty->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct range *r = &dirty->ranges[middle];

		if (r->iova + (r->length - 1) < iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void insert(struct iommufd_dirty *dirty, size_t at, struct range range)
{
	memmove(&dirty->ranges[at + 1], &dirty->ranges[at],
		(dirty->n - at) * sizeof(*dirty->ranges));
	dirty->ranges[at] = range;
	dirty->n++;
}

void iommufd_dirty_map(struct iommufd_pt *pt, uint64_t iova, uint64_t length)
{
	struct iommufd_dirty *dirty = pt->dirty;

	if (dirty)
		insert(dirty, first_behind(dirty, iova),
		       (struct range){iova, length, dirty->restored_unknown && pt->ctx->restoring});
}

/* Whole mappings; a read may have cut one into several. */
void iommufd_dirty_unmap(struct iommufd_pt *pt, uint64_t iova, uint64_t length)
{
	struct iommufd_dirty *dirty = pt->dirty;
	size_t first, end;

	if (!dirty)
		return;
	first = first_behind(dirty, iova);
	for (end = first; end < dirty->n && dirty->ranges[end].iova - iova < length;)
		end++;
	memmove(&dirty->ranges[first], &dirty->ranges[end],
		(dirty->n - end) * sizeof(*dirty->ranges));
	dirty->n -= end - first;
}

/* ---- on and off ---- */

bool iommufd_dirty_is_tracked(const struct iommufd_pt *pt)
{
	return pt->dirty && pt->dirty->on;
}

bool iommufd_dirty_is_unknown(const struct iommufd_pt *pt)
{
	for (size_t i = 0; pt->dirty && i < pt->dirty->n; i++)
		if (pt->dirty->ranges[i].unknown)
			return true;
	return false;
}

void iommufd_dirty_set_tracked(struct iommufd_pt *pt, bool unknown)
{
	pt->dirty->on = true;
	pt->dirty->restored_unknown = unknown;
}

int iommufd_dirty_track_hwpt(struct iommufd_ctx *ctx, uint32_t hwpt, bool enable)
{
	struct iommufd_set_dirty arg = {
		.size = sizeof(arg),
		.flags = enable ? IOMMU_HWPT_DIRTY_ENABLE : 0,
		.hwpt_id = hwpt,
	};

	return iommufd_call(ctx, IOMMU_HWPT_SET_DIRTY, &arg);
}

static int track_all(struct iommufd_pt *pt, bool enable)
{
	for (const struct iommufd_hwpt *hwpt = pt->hwpts; hwpt; hwpt = hwpt->next) {
		int r = hwpt->gone ? 0 : iommufd_dirty_track_hwpt(pt->ctx, hwpt->id, enable);

		if (r)
			return r;
	}
	return 0;
}

int iommufd_pt_track_dirty(struct shim_pt *base, bool enable, bool all_dirty)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	struct iommufd_dirty *dirty = pt->dirty;
	int r;

	if (!dirty)
		return SHIM_E_UNSUPPORTED;
	r = track_all(pt, enable);
	if (r) {
		/* As it was; where that fails too, it goes by what is recorded. */
		(void)track_all(pt, dirty->on);
		return r;
	}
	/* Switched on again: the kernel has dropped what it knew when it was switched on first. */
	dirty->on = enable;
	for (size_t i = 0; i < dirty->n; i++)
		dirty->ranges[i].unknown = enable && all_dirty;
	return 0;
}

/* ---- reading ---- */

struct reading {
	struct iommufd_pt *pt;
	uint64_t iova, last;
	unsigned int shift;
	bool clear;
	uint64_t *bits; /* words, as the kernel wants them */
};

static void set_bits(struct reading *reading, uint64_t start, uint64_t last)
{
	for (uint64_t i = (start - reading->iova) >> reading->shift;
	     i <= (last - reading->iova) >> reading->shift; i++)
		reading->bits[i / 64] |= UINT64_C(1) << i % 64;
}

/* [start, last] is in one mapping, but for what of a piece is outside of it. */
static int read_hwpts(struct reading *reading, uint64_t start, uint64_t last, uint64_t page)
{
	uint64_t words[PER_CALL / 64];
	int first = 0;

	for (const struct iommufd_hwpt *hwpt = reading->pt->hwpts; hwpt; hwpt = hwpt->next)
		for (uint64_t at = start; at <= last && at >= start; at += PER_CALL * page) {
			uint64_t left = last - at + 1,
				 n = left < PER_CALL * page ? left : PER_CALL * page;
			struct iommufd_get_dirty arg = {
				.size = sizeof(arg),
				.hwpt_id = hwpt->id,
				.flags = reading->clear ? 0 : IOMMU_HWPT_DIRTY_NO_CLEAR,
				.iova = at,
				.length = n,
				.page_size = page,
				.data = (uintptr_t)words,
			};
			int r;

			if (hwpt->gone)
				continue;
			memset(words, 0, sizeof(words));
			r = iommufd_call(reading->pt->ctx, IOMMU_HWPT_GET_DIRTY, &arg);
			if (r && !first)
				first = r;
			for (uint64_t i = 0; i < n / page; i++)
				if (words[i / 64] >> i % 64 & 1)
					set_bits(reading, at + i * page, at + (i + 1) * page - 1);
		}
	return first;
}

/* Cuts a range so that [start, last] of it stands alone; room for two more. */
static size_t cut(struct iommufd_dirty *dirty, size_t at, uint64_t start, uint64_t last)
{
	struct range whole = dirty->ranges[at];
	uint64_t end = whole.iova + (whole.length - 1);

	if (whole.iova < start) {
		dirty->ranges[at].length = start - whole.iova;
		insert(dirty, ++at, (struct range){start, end - start + 1, whole.unknown});
	}
	if (last < end) {
		dirty->ranges[at].length = last - start + 1;
		insert(dirty, at + 1, (struct range){last + 1, end - last, whole.unknown});
	}
	return at;
}

/* One mapping, or the part of it that is read.  Moves *at to the last of what it became. */
static int read_range(struct reading *reading, size_t *at)
{
	struct iommufd_dirty *dirty = reading->pt->dirty;
	const struct range *range = &dirty->ranges[*at];
	uint64_t start = range->iova > reading->iova ? range->iova : reading->iova;
	uint64_t end = range->iova + (range->length - 1);
	uint64_t last = end < reading->last ? end : reading->last;
	/* Asked in pieces no larger than a page: a mapping may end in the middle of one. */
	unsigned int shift = reading->shift < 12 ? reading->shift : 12;
	int r;

	if (range->unknown) {
		set_bits(reading, start, last);
		if (reading->clear) {
			r = reserve(dirty, 2);
			if (r)
				return r;
			*at = cut(dirty, *at, start, last);
			dirty->ranges[*at].unknown = false;
		}
	}
	return read_hwpts(reading, start, last, UINT64_C(1) << shift);
}

int iommufd_pt_read_dirty(struct shim_pt *base, uint64_t iova, uint64_t length,
			  unsigned int page_shift, bool clear, uint8_t *bitmap)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	struct iommufd_dirty *dirty = pt->dirty;
	struct reading reading = {.pt = pt, .iova = iova, .shift = page_shift, .clear = clear};
	uint64_t n;
	int r = 0;

	if (!dirty || !dirty->on)
		return SHIM_E_UNSUPPORTED;
	if (!length || page_shift < 12 || page_shift > 62 ||
	    (iova | length) & ((UINT64_C(1) << page_shift) - 1) ||
	    __builtin_add_overflow(iova, length - 1, &reading.last) ||
	    reading.last >> pt->input_bits)
		return SHIM_E_RANGE;
	n = length >> page_shift;
	reading.bits = calloc((n + 63) / 64, sizeof(*reading.bits));
	if (!reading.bits)
		return -ENOMEM;
	for (size_t i = first_behind(dirty, iova);
	     i < dirty->n && dirty->ranges[i].iova <= reading.last; i++) {
		int one = read_range(&reading, &i);

		if (one && !r)
			r = one;
	}
	for (uint64_t i = 0; i < n; i++)
		if (reading.bits[i / 64] >> i % 64 & 1)
			bitmap[i / 8] |= (uint8_t)(1u << i % 8);
	free(reading.bits);
	return r;
}
