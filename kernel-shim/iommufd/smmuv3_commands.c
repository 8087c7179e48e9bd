/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Invalidations of kind USER behind an SMMUv3.
 *
 *	ALL		TLBI_NH_ASID of the table's ASID; of a PASID table, whose ASIDs are the
 *			tenant's, TLBI_NH_ALL
 *	RANGE		TLBI_NH_VA for each page (of a PASID table: NH_VAA), with the leaf bit; as
 *			ALL where there are more than RANGE_PAGES
 *	PASID		as ALL: nobody told the ASID of the PASID's descriptor
 *	PASID_CACHE	CFGI_CD of each device for the PASID, without one CFGI_CD_ALL
 *	DEVICE_TLB	unsupported: these tables are used without ATS
 *
 * Each command goes to every IOMMU that an attached device is behind. Where none is attached
 * nothing is cached: the last detach has invalidated it.
 *
 * Commands are gathered over entries and given to the kernel together. Which entries are done
 * when it fails is known by the entry that each command belongs to.
 */

#include "iommufd/smmuv3_tables.h"
#include "iommufd/viommu.h"

#include <errno.h>

#define RANGE_PAGES 64u
#define BATCH	    256u

struct batch {
	struct iommufd_pt *pt;
	struct smmuv3_command commands[BATCH];
	size_t entries[BATCH];
	size_t n;
	size_t done; /* entries that are done as a whole */
};

static bool is_used(const struct iommufd_pt *pt, const struct iommufd_unit *unit)
{
	for (const struct iommufd_hwpt *hwpt = pt->hwpts; hwpt; hwpt = hwpt->next)
		if (hwpt->unit == unit && hwpt->n_attached)
			return true;
	return false;
}

/* *ret_done: commands that every IOMMU has done; always set. */
static int give(struct iommufd_pt *pt, const struct smmuv3_command *commands, size_t n,
		size_t *ret_done)
{
	size_t done;
	int r = 0;

	*ret_done = n;
	for (const struct iommufd_view *view = pt->parent->views; view; view = view->next) {
		int one;

		if (!is_used(pt, view->unit))
			continue;
		one = iommufd_view_commands(pt->ctx, view, commands, n, &done);
		if (one && done < *ret_done) {
			*ret_done = done;
			r = one;
		}
	}
	return r;
}

static int batch_flush(struct batch *b)
{
	size_t done;
	int r = give(b->pt, b->commands, b->n, &done);

	if (r)
		b->done = b->entries[done];
	b->n = 0;
	return r;
}

static int batch_add(struct batch *b, size_t entry, struct smmuv3_command command)
{
	int r = b->n == BATCH ? batch_flush(b) : 0;

	if (r)
		return r;
	b->entries[b->n] = entry;
	b->commands[b->n++] = command;
	return 0;
}

static uint16_t asid_of(const struct iommufd_pt *pt)
{
	bool asid16 = iommufd_shim_of(pt->base.shim)->host.smmuv3.asid16;

	return (uint16_t)((asid16 ? 0xffff : 0xff) - pt->binding.slot);
}

static int add_all(struct batch *b, size_t entry)
{
	if (b->pt->binding.what == SMMUV3_TABLE)
		return batch_add(b, entry, smmuv3_tlbi_asid(asid_of(b->pt)));
	return batch_add(b, entry, smmuv3_tlbi_all());
}

static int add_range(struct batch *b, size_t entry, const struct shim_invalidate *e)
{
	unsigned shift = smmuv3_page_shift((enum shim_format)b->pt->format);
	uint64_t last, page;
	int r = 0;

	if (!e->length || __builtin_add_overflow(e->iova, e->length - 1, &last) ||
	    last >> b->pt->input_bits)
		return SHIM_E_RANGE;
	if ((last >> shift) - (e->iova >> shift) >= RANGE_PAGES)
		return add_all(b, entry);
	for (page = e->iova >> shift; !r && page <= last >> shift; page++)
		r = batch_add(b, entry,
			      b->pt->binding.what == SMMUV3_TABLE
				      ? smmuv3_tlbi_va(asid_of(b->pt), page << shift, e->leaf)
				      : smmuv3_tlbi_vaa(page << shift, e->leaf));
	return r;
}

static int add_pasid_cache(struct batch *b, size_t entry, const struct shim_invalidate *e)
{
	int r = 0;

	if (b->pt->binding.what != SMMUV3_PASID_TABLE)
		return SHIM_E_UNSUPPORTED;
	for (struct iommufd_dev *dev = b->pt->ctx->devices; !r && dev; dev = dev->next) {
		uint32_t number = iommufd_vdevice_number(dev);

		if (dev->plain.pt != b->pt || (e->dev && e->dev != &dev->base))
			continue;
		r = batch_add(b, entry,
			      e->pasid == SHIM_NO_PASID ? smmuv3_cfgi_cd_all(number)
							: smmuv3_cfgi_cd(number, e->pasid));
	}
	return r;
}

static int add(struct batch *b, size_t entry, const struct shim_invalidate *e)
{
	switch (e->scope) {
	case SHIM_INVALIDATE_ALL:
	case SHIM_INVALIDATE_PASID:
		return add_all(b, entry);
	case SHIM_INVALIDATE_RANGE:
		return add_range(b, entry, e);
	case SHIM_INVALIDATE_PASID_CACHE:
		return add_pasid_cache(b, entry, e);
	case SHIM_INVALIDATE_DEVICE_TLB:
		break;
	}
	return SHIM_E_UNSUPPORTED;
}

int iommufd_smmuv3_invalidate(struct iommufd_pt *pt, const struct shim_invalidate *entries,
			      size_t n, size_t *ret_done)
{
	struct batch b = {.pt = pt};
	size_t entry = 0;
	int r = 0, end;

	/* In a restart no device is where its table is told yet, and then all is flushed. */
	if (pt->binding.what == SMMUV3_NOTHING || pt->ctx->restoring) {
		*ret_done = n;
		return 0;
	}
	while (entry < n && !r) {
		r = add(&b, entry, &entries[entry]);
		entry += !r;
	}
	b.done = r < 0 ? b.done : entry;
	/* An entry that means nothing does not take the ones before it along. */
	if (r >= 0) {
		end = batch_flush(&b);
		r = end ? end : r;
	}
	*ret_done = b.done;
	return r;
}

int iommufd_smmuv3_invalidate_native(struct iommufd_pt *pt, enum shim_native type,
				     const void *entries, size_t n, size_t *ret_done)
{
	const struct smmuv3_command *commands = entries;
	size_t good = 0;
	int r;

	*ret_done = 0;
	if (type != SHIM_NATIVE_SMMUV3)
		return SHIM_E_UNSUPPORTED;
	while (good < n && smmuv3_command_allowed(&commands[good]))
		good++;
	for (size_t at = 0; at < good; at = *ret_done) {
		size_t part = good - at < BATCH ? good - at : BATCH, done;

		r = give(pt, commands + at, part, &done);
		*ret_done += done;
		/* EIO: a command or a stream that the kernel does not know. */
		if (r)
			return r == -EIO ? -EINVAL : r;
	}
	return good < n ? -EINVAL : 0;
}
