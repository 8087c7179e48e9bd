/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tables made for PASIDs or of what a tenant bound (struct iommufd_hwpt): found or made when a
 * device is attached, shared behind an IOMMU, and ended with the last that is attached.
 *
 * After a restart a record may name one that is gone: the last attachment was replaced, and
 * the broker killed before it wrote that down.  Such a record serves nobody any more, and is
 * never destroyed or attached to: the kernel may have given its id to something else.
 */

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"

#include <errno.h>
#include <stdlib.h>

static int hwpt_add(struct iommufd_pt *pt, const struct iommufd_unit *unit,
		    struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt *hwpt = calloc(1, sizeof(*hwpt));

	if (!hwpt)
		return -ENOMEM;
	hwpt->unit = unit;
	hwpt->next = pt->hwpts;
	pt->hwpts = hwpt;
	*ret_hwpt = hwpt;
	return 0;
}

static void hwpt_remove(struct iommufd_pt *pt, struct iommufd_hwpt *hwpt)
{
	struct iommufd_hwpt **at = &pt->hwpts;

	while (*at != hwpt)
		at = &(*at)->next;
	*at = hwpt->next;
	free(hwpt);
}

static int hwpt_new(struct iommufd_dev *dev, struct iommufd_pt *pt, struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt_alloc arg = {
		.size = sizeof(arg),
		.flags = IOMMU_HWPT_ALLOC_PASID,
		.dev_id = dev->id,
		.pt_id = pt->ioas,
		.data_type = IOMMU_HWPT_DATA_NONE,
	};
	struct iommufd_hwpt *hwpt;
	int r = hwpt_add(pt, dev->slot->unit, &hwpt);

	if (r)
		return r;
	if (pt->smmuv3)
		r = iommufd_smmuv3_hwpt(dev, pt, &arg.out_hwpt_id);
	else
		r = iommufd_call(dev->ctx, IOMMU_HWPT_ALLOC, &arg);
	if (r) {
		hwpt_remove(pt, hwpt);
		return r;
	}
	hwpt->id = arg.out_hwpt_id;
	*ret_hwpt = hwpt;
	return 0;
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
	hwpt_remove(pt, hwpt);
}

/* Tries those that the IOMMU has, then a new one, as the kernel does for an IOAS. */
int iommufd_hwpt_attach(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt,
			struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt *hwpt;
	int r;

	for (hwpt = pt->hwpts; hwpt; hwpt = hwpt->next) {
		if (hwpt->unit != dev->slot->unit || hwpt->gone || hwpt->old)
			continue;
		r = iommufd_vfio_attach(dev, pasid, hwpt->id);
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
	r = iommufd_vfio_attach(dev, pasid, hwpt->id);
	if (r)
		iommufd_hwpt_settle(pt, hwpt);
	else
		*ret_hwpt = hwpt;
	return r;
}

/* Whether the id is recorded as something else: what was saved is older than that. */
static bool is_taken(const struct iommufd_pt *pt, uint32_t id)
{
	const struct iommufd_ctx *ctx = pt->ctx;

	for (const struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next)
		if (dev->id == id)
			return true;
	for (const struct iommufd_pt *other = ctx->tables; other; other = other->next) {
		if (other->ioas == id)
			return true;
		for (const struct iommufd_hwpt *hwpt = other->hwpts; hwpt; hwpt = hwpt->next)
			if (other != pt && hwpt->id == id && !hwpt->gone)
				return true;
	}
	return false;
}

int iommufd_hwpt_restore(struct iommufd_pt *pt, const struct iommufd_unit *unit, uint32_t id,
			 struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt *hwpt;
	int r;

	for (hwpt = pt->hwpts; hwpt && hwpt->id != id;)
		hwpt = hwpt->next;
	if (!hwpt) {
		r = hwpt_add(pt, unit, &hwpt);
		if (r)
			return r;
		hwpt->id = id;
		hwpt->gone = is_taken(pt, id);
	}
	*ret_hwpt = hwpt;
	return 0;
}
