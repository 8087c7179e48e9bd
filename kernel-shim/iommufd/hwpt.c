/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The kernel's page tables that are made explicitly (struct iommufd_hwpt): found or made when a
 * device is attached, shared behind an IOMMU, and ended with the last that is attached.
 *
 * A parent of nested tables is one beside those that devices are attached to: all are copies of
 * the same mappings.  So whether a table will have children need not be known when it is made,
 * and may be combined with a fault queue, which the kernel allows no parent.
 *
 * After a restart a record may name one that is gone: the last attachment was replaced, and
 * the broker killed before it wrote that down.  Such a record serves nobody any more, and is
 * never destroyed or attached to: the kernel may have given its id to something else.
 */

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"

#include <errno.h>
#include <stdlib.h>

static int hwpt_add(struct iommufd_pt *pt, const struct iommufd_dev *dev,
		    struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt *hwpt = calloc(1, sizeof(*hwpt));

	if (!hwpt)
		return -ENOMEM;
	hwpt->unit = dev->slot->unit;
	hwpt->pasid = dev->pasid_bits;
	hwpt->epoch = pt->epoch;
	hwpt->next = pt->hwpts;
	pt->hwpts = hwpt;
	*ret_hwpt = hwpt;
	return 0;
}

void iommufd_hwpt_remove(struct iommufd_pt *pt, struct iommufd_hwpt *hwpt)
{
	struct iommufd_hwpt **at = &pt->hwpts, *parent = hwpt->parent;

	while (*at != hwpt)
		at = &(*at)->next;
	*at = hwpt->next;
	free(hwpt);
	if (!parent)
		return;
	parent->n_attached--;
	iommufd_hwpt_settle(pt->parent, parent);
}

void iommufd_hwpt_settle(struct iommufd_pt *pt, struct iommufd_hwpt *hwpt)
{
	int r = -EBUSY;

	if (hwpt->n_attached)
		return;
	for (int i = 0; !hwpt->gone && r && r != -ENOENT; i++) {
		if (i > IOMMUFD_TRIES)
			return;
		r = iommufd_destroy(pt->ctx, hwpt->id);
	}
	iommufd_hwpt_remove(pt, hwpt);
}

bool iommufd_hwpt_wanted(const struct iommufd_dev *dev, const struct iommufd_pt *pt)
{
	return dev->pasid_bits || pt->bound || pt->dirty || pt->faults;
}

/* ---- new ones ---- */

static int alloc(struct iommufd_ctx *ctx, struct iommufd_hwpt_alloc *arg,
		 const struct iommufd_pt *pt, struct iommufd_hwpt *hwpt)
{
	int r = iommufd_call(ctx, IOMMU_HWPT_ALLOC, arg);

	if (r)
		return r;
	hwpt->id = arg->out_hwpt_id;
	if (pt->user || !iommufd_dirty_is_tracked(pt))
		return 0;
	r = iommufd_dirty_track_hwpt(ctx, hwpt->id, true);
	if (r)
		iommufd_destroy_surely(ctx, hwpt->id);
	return r;
}

/* One with the mappings of an IOAS. */
static int alloc_paging(struct iommufd_dev *dev, struct iommufd_pt *pt, struct iommufd_hwpt *hwpt)
{
	struct iommufd_hwpt_alloc arg = {
		.size = sizeof(arg),
		.flags = (dev->pasid_bits ? IOMMU_HWPT_ALLOC_PASID : 0) |
			 (pt->dirty ? IOMMU_HWPT_ALLOC_DIRTY_TRACKING : 0),
		.dev_id = dev->id,
		.pt_id = pt->ioas,
		.data_type = IOMMU_HWPT_DATA_NONE,
	};

	if (hwpt->is_parent) {
		arg.flags |= IOMMU_HWPT_ALLOC_NEST_PARENT;
	} else if (pt->faults) {
		arg.flags |= IOMMU_HWPT_FAULT_ID_VALID;
		arg.fault_id = dev->ctx->fault_queue;
	}
	return alloc(dev->ctx, &arg, pt, hwpt);
}

static int alloc_nested(struct iommufd_dev *dev, struct iommufd_pt *pt, struct iommufd_hwpt *hwpt)
{
	const struct iommufd_nested *nested = dev->slot->unit->nested;
	uint64_t data[IOMMUFD_NESTED_DATA_MAX / 8] = {0};
	struct iommufd_hwpt_alloc arg = {
		.size = sizeof(arg),
		.flags = (dev->pasid_bits ? IOMMU_HWPT_ALLOC_PASID : 0) |
			 (pt->faults ? IOMMU_HWPT_FAULT_ID_VALID : 0),
		.dev_id = dev->id,
		.pt_id = hwpt->parent->id,
		.data_type = nested->data_type,
		.data_len = nested->data_size,
		.data_uptr = (uintptr_t)data,
		.fault_id = pt->faults ? dev->ctx->fault_queue : 0,
	};

	if (pt->table.flags & ~nested->flags)
		return -EOPNOTSUPP;
	nested->table((enum shim_format)pt->format, &pt->table, data);
	return alloc(dev->ctx, &arg, pt, hwpt);
}

int iommufd_hwpt_parent(struct iommufd_dev *dev, struct iommufd_pt *parent,
			struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt *hwpt;
	int r;

	for (hwpt = parent->hwpts; hwpt; hwpt = hwpt->next)
		if (hwpt->is_parent && !hwpt->gone && hwpt->unit == dev->slot->unit) {
			*ret_hwpt = hwpt;
			return 0;
		}
	r = hwpt_add(parent, dev, &hwpt);
	if (r)
		return r;
	hwpt->is_parent = true;
	r = alloc_paging(dev, parent, hwpt);
	if (r)
		iommufd_hwpt_remove(parent, hwpt);
	else
		*ret_hwpt = hwpt;
	return r;
}

static int hwpt_new(struct iommufd_dev *dev, struct iommufd_pt *pt, struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt *hwpt, *parent = NULL;
	/* After a restart there is none until it is needed. */
	int r = pt->faults ? iommufd_faults_open(dev->ctx) : 0;

	if (!r && pt->bound)
		r = iommufd_hwpt_parent(dev, pt->parent, &parent);
	if (r)
		return r;
	r = hwpt_add(pt, dev, &hwpt);
	if (r) {
		if (parent)
			iommufd_hwpt_settle(pt->parent, parent);
		return r;
	}
	hwpt->parent = parent;
	if (parent)
		parent->n_attached++;
	if (pt->smmuv3)
		r = iommufd_smmuv3_hwpt(dev, pt, &hwpt->id);
	else
		r = parent ? alloc_nested(dev, pt, hwpt) : alloc_paging(dev, pt, hwpt);
	if (r)
		iommufd_hwpt_remove(pt, hwpt);
	else
		*ret_hwpt = hwpt;
	return r;
}

static bool fits(const struct iommufd_hwpt *hwpt, const struct iommufd_dev *dev,
		 const struct iommufd_pt *pt)
{
	return hwpt->unit == dev->slot->unit && !hwpt->gone && !hwpt->is_parent &&
	       hwpt->epoch == pt->epoch && hwpt->pasid == !!dev->pasid_bits;
}

/* Tries those that the IOMMU has, then a new one, as the kernel does for an IOAS. */
int iommufd_hwpt_attach(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt,
			struct iommufd_hwpt **ret_hwpt)
{
	const struct iommufd_backend *backend = iommufd_backend_of(dev->ctx);
	uint32_t ioas = iommufd_mappings_of(pt);
	struct iommufd_hwpt *hwpt;
	int r;

	for (hwpt = pt->hwpts; hwpt; hwpt = hwpt->next) {
		if (!fits(hwpt, dev, pt))
			continue;
		r = backend->attach(dev, pasid, hwpt->id, ioas);
		if (!r)
			*ret_hwpt = hwpt;
		if (r == -ENOENT)
			hwpt->gone = true;
		/* EINVAL: this one does not suit this device. */
		else if (r != -EINVAL)
			return r;
	}
	r = hwpt_new(dev, pt, &hwpt);
	if (r)
		return r;
	r = backend->attach(dev, pasid, hwpt->id, ioas);
	if (r)
		iommufd_hwpt_settle(pt, hwpt);
	else
		*ret_hwpt = hwpt;
	return r;
}

/* ---- restart ---- */

struct search {
	uint32_t id;
	bool found;
};

static void search_one(uint32_t id, void *data)
{
	struct search *search = data;

	search->found = search->found || id == search->id;
}

static int restore_one(struct iommufd_pt *pt, const struct iommufd_dev *dev, uint32_t id,
		       struct iommufd_hwpt **ret_hwpt)
{
	/* Recorded as something else: what was saved is older than that. */
	struct search search = {.id = id};
	struct iommufd_hwpt *hwpt;
	int r;

	for (hwpt = pt->hwpts; hwpt; hwpt = hwpt->next)
		if (hwpt->id == id) {
			*ret_hwpt = hwpt;
			return 0;
		}
	iommufd_ids_each(pt->ctx, search_one, &search);
	r = hwpt_add(pt, dev, &hwpt);
	if (r)
		return r;
	hwpt->id = id;
	hwpt->gone = search.found;
	*ret_hwpt = hwpt;
	return 0;
}

int iommufd_hwpt_restore(struct iommufd_pt *pt, const struct iommufd_dev *dev,
			 const struct iommufd_saved_hwpt *saved, struct iommufd_hwpt **ret_hwpt)
{
	/* The table was changed since, and where the device was moved to is not known. */
	bool old = saved->epoch != pt->epoch || !!saved->parent != pt->bound;
	struct iommufd_hwpt *hwpt, *parent = NULL;
	int r = 0;

	if (saved->parent && !old) {
		r = restore_one(pt->parent, dev, saved->parent, &parent);
		if (r)
			return r;
		parent->is_parent = true;
	}
	r = restore_one(pt, dev, saved->id, &hwpt);
	if (r)
		return r;
	hwpt->gone = hwpt->gone || old;
	if (parent && !hwpt->parent) {
		hwpt->parent = parent;
		parent->n_attached++;
	}
	*ret_hwpt = hwpt;
	return 0;
}
