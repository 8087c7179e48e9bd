/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Attachments: which table translates a device's DMA, without PASID or for one.
 *
 * Attach and replace are one call of the kernel's, in which it checks everything and then
 * either moves the device or leaves it.  The record is changed after the kernel has answered,
 * so a failure leaves both as they were.  Attach refuses beforehand what for the kernel would
 * be a replace, and replace what would be an attach.
 *
 * A group has one table.  Where a companion is attached, a second table for the group is
 * refused, and so is replacing it: the kernel would move the companion along without a word.
 */

#include "iommufd/internal.h"

#include <errno.h>
#include <stdlib.h>

static struct iommufd_attachment *find(struct iommufd_dev *dev, uint32_t pasid)
{
	if (pasid == SHIM_NO_PASID)
		return dev->plain.pt ? &dev->plain : NULL;
	for (size_t i = 0; i < dev->n_pasids; i++)
		if (dev->pasids[i].pasid == pasid)
			return &dev->pasids[i];
	return NULL;
}

static int reserve_pasid(struct iommufd_dev *dev)
{
	size_t room = dev->room ? dev->room * 2 : 8;
	struct iommufd_attachment *grown;

	if (dev->n_pasids < dev->room)
		return 0;
	grown = realloc(dev->pasids, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	dev->pasids = grown;
	dev->room = room;
	return 0;
}

/* ---- tables made for PASIDs ---- */

static int hwpt_new(struct iommufd_dev *dev, struct iommufd_pt *pt, struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt_alloc arg = {
		.size = sizeof(arg),
		.flags = IOMMU_HWPT_ALLOC_PASID,
		.dev_id = dev->id,
		.pt_id = pt->ioas,
		.data_type = IOMMU_HWPT_DATA_NONE,
	};
	struct iommufd_hwpt *hwpt = calloc(1, sizeof(*hwpt));
	int r;

	if (!hwpt)
		return -ENOMEM;
	r = iommufd_call(dev->ctx, IOMMU_HWPT_ALLOC, &arg);
	if (r) {
		free(hwpt);
		return r;
	}
	hwpt->unit = dev->slot->unit;
	hwpt->id = arg.out_hwpt_id;
	hwpt->next = pt->hwpts;
	pt->hwpts = hwpt;
	*ret_hwpt = hwpt;
	return 0;
}

/* Ends it if nothing is attached.  If the kernel will not, it stays until the table ends. */
static void hwpt_settle(struct iommufd_pt *pt, struct iommufd_hwpt *hwpt)
{
	struct iommufd_hwpt **at = &pt->hwpts;

	if (!hwpt || hwpt->n_attached)
		return;
	for (int i = 0; iommufd_destroy(pt->ctx, hwpt->id); i++)
		if (i == IOMMUFD_TRIES)
			return;
	while (*at != hwpt)
		at = &(*at)->next;
	*at = hwpt->next;
	free(hwpt);
}

/* Tries those that the IOMMU has, then a new one, as the kernel does for an IOAS. */
static int move_to_hwpt(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt,
			struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_hwpt *hwpt;
	int r;

	for (hwpt = pt->hwpts; hwpt; hwpt = hwpt->next) {
		if (hwpt->unit != dev->slot->unit)
			continue;
		r = iommufd_vfio_attach(dev, pasid, hwpt->id);
		if (!r)
			*ret_hwpt = hwpt;
		/* EINVAL: this one does not suit this device. */
		if (r != -EINVAL)
			return r;
	}
	r = hwpt_new(dev, pt, &hwpt);
	if (r)
		return r;
	r = iommufd_vfio_attach(dev, pasid, hwpt->id);
	if (r)
		hwpt_settle(pt, hwpt);
	else
		*ret_hwpt = hwpt;
	return r;
}

static int move(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt,
		struct iommufd_hwpt **ret_hwpt)
{
	int r;

	*ret_hwpt = NULL;
	if (dev->pasid_bits) {
		r = move_to_hwpt(dev, pasid, pt, ret_hwpt);
		/* No PASIDs here after all: then none need to be attachable beside it. */
		if (r != -EOPNOTSUPP || pasid != SHIM_NO_PASID)
			return r;
	}
	return iommufd_vfio_attach(dev, pasid, pt->ioas);
}

/* ---- attach, replace, detach ---- */

static int check(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt, char *ret_reason)
{
	const struct shim_device_info *info = &dev->slot->info;

	if (pt->ctx != dev->ctx)
		return -EINVAL;
	if (pt->broken)
		return -EIO;
	if (pasid != SHIM_NO_PASID && !dev->pasid_bits)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED, "%s: %s", info->address,
				      info->caps.feature_absent[SHIM_FEATURE_PASID][0]
					      ? info->caps.feature_absent[SHIM_FEATURE_PASID]
					      : "the kernel runs its IOMMU without PASIDs");
	if (pasid != SHIM_NO_PASID && pasid >> dev->pasid_bits)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: PASID %u is beyond its %u bits", info->address, pasid,
				      dev->pasid_bits);
	for (struct iommufd_dev *other = dev->ctx->devices; other; other = other->next)
		if (pasid == SHIM_NO_PASID && other != dev &&
		    other->slot->info.group == info->group && other->plain.pt &&
		    other->plain.pt != pt)
			return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
					      "%s: a group has one page table on Linux; group %u "
					      "has another while %s is attached",
					      info->address, info->group,
					      other->slot->info.address);
	return iommufd_pt_suits(pt, dev->slot, ret_reason);
}

static int attach_error(const struct iommufd_dev *dev, int r, char *ret_reason)
{
	const char *address = dev->slot->info.address;

	switch (r) {
	case -EADDRINUSE:
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: the IOASID has, or was promised, addresses that the "
				      "device cannot use",
				      address);
	case -EINVAL:
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: the kernel finds the page table unfit for it", address);
	case -EOPNOTSUPP:
	case -ENOTTY:
		return iommufd_refuse(
			ret_reason, SHIM_E_UNSUPPORTED,
			"%s: the kernel or the device's driver has no such attachment", address);
	}
	return r;
}

int iommufd_attach(struct shim_dev *base, uint32_t pasid, struct shim_pt *table, char *ret_reason)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);
	struct iommufd_pt *pt = iommufd_pt_of(table);
	struct iommufd_attachment a = {.pasid = pasid, .pt = pt};
	int r;

	if (find(dev, pasid))
		return SHIM_E_ATTACHED;
	r = check(dev, pasid, pt, ret_reason);
	if (!r && pasid != SHIM_NO_PASID)
		r = reserve_pasid(dev);
	if (r)
		return r;
	r = move(dev, pasid, pt, &a.hwpt);
	if (r)
		return attach_error(dev, r, ret_reason);
	pt->n_attached++;
	if (a.hwpt)
		a.hwpt->n_attached++;
	if (pasid == SHIM_NO_PASID)
		dev->plain = a;
	else
		dev->pasids[dev->n_pasids++] = a;
	return 0;
}

/* What is recorded of an attachment that the kernel no longer has. */
static void forget(struct iommufd_attachment *a)
{
	a->pt->n_attached--;
	if (a->hwpt) {
		a->hwpt->n_attached--;
		hwpt_settle(a->pt, a->hwpt);
	}
}

int iommufd_replace(struct shim_dev *base, uint32_t pasid, struct shim_pt *table, char *ret_reason)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);
	struct iommufd_pt *pt = iommufd_pt_of(table);
	struct iommufd_attachment *a = find(dev, pasid), old;
	struct iommufd_hwpt *hwpt;
	int r;

	if (!a)
		return SHIM_E_NOT_ATTACHED;
	r = check(dev, pasid, pt, ret_reason);
	if (r)
		return r;
	r = move(dev, pasid, pt, &hwpt);
	if (r)
		return attach_error(dev, r, ret_reason);
	old = *a;
	a->pt = pt;
	a->hwpt = hwpt;
	pt->n_attached++;
	if (hwpt)
		hwpt->n_attached++;
	forget(&old);
	return 0;
}

/* Takes it out of the record. */
static void drop(struct iommufd_dev *dev, struct iommufd_attachment *a)
{
	forget(a);
	if (a == &dev->plain)
		dev->plain = (struct iommufd_attachment){.pasid = SHIM_NO_PASID};
	else
		*a = dev->pasids[--dev->n_pasids];
}

int iommufd_detach(struct shim_dev *base, uint32_t pasid)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);
	struct iommufd_attachment *a = find(dev, pasid);
	int r;

	if (!a)
		return SHIM_E_NOT_ATTACHED;
	r = iommufd_vfio_detach(dev, pasid);
	if (r)
		return r;
	drop(dev, a);
	return 0;
}

static void detach_surely(struct iommufd_dev *dev, uint32_t pasid)
{
	/* It fails only where the device is gone, and its DMA with it. */
	for (int i = 0; i < IOMMUFD_TRIES; i++)
		if (!iommufd_vfio_detach(dev, pasid))
			return;
}

void iommufd_detach_all(struct iommufd_dev *dev)
{
	while (dev->n_pasids) {
		detach_surely(dev, dev->pasids[dev->n_pasids - 1].pasid);
		drop(dev, &dev->pasids[dev->n_pasids - 1]);
	}
	/* Also where none is recorded: its holder may have attached it. */
	detach_surely(dev, SHIM_NO_PASID);
	if (dev->plain.pt)
		drop(dev, &dev->plain);
}

static void reassert_one(struct iommufd_dev *dev, const struct iommufd_attachment *a)
{
	if (!a->pt)
		(void)iommufd_vfio_detach(dev, a->pasid);
	else
		(void)iommufd_vfio_attach(dev, a->pasid, a->hwpt ? a->hwpt->id : a->pt->ioas);
}

void iommufd_reassert(struct iommufd_ctx *ctx)
{
	for (struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next) {
		reassert_one(dev, &dev->plain);
		for (size_t i = 0; i < dev->n_pasids; i++)
			reassert_one(dev, &dev->pasids[i]);
	}
}
