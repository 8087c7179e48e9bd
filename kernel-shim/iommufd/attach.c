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
#include "iommufd/smmuv3_tables.h"

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

/* ---- the kernel ---- */

static const struct iommufd_backend *backend_of(const struct iommufd_dev *dev)
{
	return iommufd_backend_of(dev->ctx);
}

static int move(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt,
		struct iommufd_hwpt **ret_hwpt)
{
	int r;

	*ret_hwpt = NULL;
	if (pt->smmuv3)
		return iommufd_smmuv3_attach(dev, pasid, pt, ret_hwpt);
	if (iommufd_hwpt_wanted(dev, pt)) {
		r = iommufd_hwpt_attach(dev, pasid, pt, ret_hwpt);
		/* No PASIDs here after all: then none need to be attachable beside it. */
		if (r != -EOPNOTSUPP || pasid != SHIM_NO_PASID || pt->bound || pt->dirty ||
		    pt->faults)
			return r;
	}
	return backend_of(dev)->attach(dev, pasid, pt->ioas, pt->ioas);
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
	if (!pasid)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: to Linux PASID 0 is what goes without one",
				      info->address);
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
	return iommufd_pt_suits(pt, dev, ret_reason);
}

int iommufd_attach_error(const struct iommufd_dev *dev, const struct iommufd_pt *pt, int r,
			 char *ret_reason)
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
	case -ENODEV:
		/* Else it is gone. */
		if (!pt->faults)
			break;
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: the kernel finds that it cannot ask for pages", address);
	case -EOPNOTSUPP:
	case -ENOTTY:
		return iommufd_refuse(
			ret_reason, SHIM_E_UNSUPPORTED,
			"%s: the kernel or the device's driver has no such attachment", address);
	}
	return r;
}

/* Puts a new attachment into the record, which has room for it. */
static void note(struct iommufd_dev *dev, const struct iommufd_attachment *a)
{
	a->pt->n_attached++;
	if (a->hwpt)
		a->hwpt->n_attached++;
	if (a->pasid == SHIM_NO_PASID)
		dev->plain = *a;
	else
		dev->pasids[dev->n_pasids++] = *a;
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
		return iommufd_attach_error(dev, pt, r, ret_reason);
	note(dev, &a);
	return 0;
}

/* What is recorded of an attachment that the kernel no longer has. */
static void forget(struct iommufd_attachment *a)
{
	a->pt->n_attached--;
	if (a->hwpt) {
		a->hwpt->n_attached--;
		if (a->pt->smmuv3 && !a->hwpt->n_attached)
			iommufd_smmuv3_flush(a->pt, a->hwpt->unit);
		iommufd_hwpt_settle(a->pt, a->hwpt);
	}
}

/* The kernel has it elsewhere now. */
static void moved(struct iommufd_attachment *a, struct iommufd_pt *pt, struct iommufd_hwpt *hwpt)
{
	struct iommufd_attachment old = *a;

	a->pt = pt;
	a->hwpt = hwpt;
	pt->n_attached++;
	if (hwpt)
		hwpt->n_attached++;
	forget(&old);
}

int iommufd_replace(struct shim_dev *base, uint32_t pasid, struct shim_pt *table, char *ret_reason)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);
	struct iommufd_pt *pt = iommufd_pt_of(table);
	struct iommufd_attachment *a = find(dev, pasid);
	struct iommufd_hwpt *hwpt;
	int r;

	if (!a)
		return SHIM_E_NOT_ATTACHED;
	r = check(dev, pasid, pt, ret_reason);
	if (r)
		return r;
	r = move(dev, pasid, pt, &hwpt);
	if (r)
		return iommufd_attach_error(dev, pt, r, ret_reason);
	moved(a, pt, hwpt);
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

	/* An attach that a restart cut short is in no record. */
	if (!a && !dev->ctx->restoring)
		return SHIM_E_NOT_ATTACHED;
	r = backend_of(dev)->detach(dev, pasid);
	if (r)
		return r;
	if (a)
		drop(dev, a);
	return 0;
}

static void detach_surely(struct iommufd_dev *dev, uint32_t pasid)
{
	/* It fails only where the device is gone, and its DMA with it, or was never bound. */
	for (int i = 0; i < IOMMUFD_TRIES; i++)
		if (!backend_of(dev)->detach(dev, pasid))
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

/*
 * Where the device is there already, the kernel finds that nothing is to be done, and nothing
 * is: neither a flush nor a moment without the table.
 */
static int reassert_one(struct iommufd_dev *dev, struct iommufd_attachment *a)
{
	struct iommufd_hwpt *hwpt;
	int r;

	if (!a->pt)
		return backend_of(dev)->detach(dev, a->pasid);
	/* It is moved when all tables are made anew. */
	if (a->pt->smmuv3 && dev->ctx->restoring)
		return 0;
	if (!a->hwpt && !a->pt->bound && !a->pt->dirty && !a->pt->faults)
		return backend_of(dev)->attach(dev, a->pasid, a->pt->ioas, a->pt->ioas);
	/* NULL: a table was bound after the attachment was saved. */
	if (a->hwpt && !a->hwpt->gone) {
		r = backend_of(dev)->attach(dev, a->pasid, a->hwpt->id, iommufd_mappings_of(a->pt));
		if (r != -ENOENT)
			return r;
		/* Replaced by a call that was cut short, and ended as the last had left it. */
		a->hwpt->gone = true;
	}
	r = move(dev, a->pasid, a->pt, &hwpt);
	if (!r)
		moved(a, a->pt, hwpt);
	return r;
}

int iommufd_reassert(struct iommufd_ctx *ctx)
{
	int r = 0;

	for (struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next)
		for (size_t i = 0; i <= dev->n_pasids; i++) {
			int one = reassert_one(dev, i ? &dev->pasids[i - 1] : &dev->plain);

			/* ENODEV: the device is gone, and its DMA with it. */
			if (!r && one != -ENODEV)
				r = one;
		}
	return r;
}

/* ---- all of a table's ---- */

/* The nth attachment of a device; NULL: it has fewer. */
static struct iommufd_attachment *nth(struct iommufd_dev *dev, size_t n)
{
	if (!n)
		return &dev->plain;
	return n <= dev->n_pasids ? &dev->pasids[n - 1] : NULL;
}

typedef int (*each_fn)(struct iommufd_dev *dev, struct iommufd_attachment *a);

/* Up to the first failure. */
static int each(struct iommufd_pt *pt, each_fn fn)
{
	struct iommufd_attachment *a;
	int r = 0;

	for (struct iommufd_dev *dev = pt->ctx->devices; dev; dev = dev->next)
		for (size_t n = 0; !r && (a = nth(dev, n)); n++)
			if (a->pt == pt)
				r = fn(dev, a);
	return r;
}

static int advance(struct iommufd_dev *dev, struct iommufd_attachment *a)
{
	int r = move(dev, a->pasid, a->pt, &a->next);

	if (r)
		return r;
	a->is_moved = true;
	/* It must not end before the record says that it is used. */
	if (a->next)
		a->next->n_attached++;
	return 0;
}

static int commit(struct iommufd_dev *dev, struct iommufd_attachment *a)
{
	struct iommufd_hwpt *next = a->next;

	a->next = NULL;
	a->is_moved = false;
	if (next)
		next->n_attached--;
	moved(a, a->pt, next);
	return 0;
}

static int go_back(struct iommufd_dev *dev, struct iommufd_attachment *a)
{
	struct iommufd_hwpt *next = a->next;
	int r = -EIO;

	if (!a->is_moved)
		return 0;
	for (int i = 0; r && i < IOMMUFD_TRIES; i++)
		r = backend_of(dev)->attach(dev, a->pasid, a->hwpt ? a->hwpt->id : a->pt->ioas,
					    iommufd_mappings_of(a->pt));
	a->next = NULL;
	a->is_moved = false;
	if (r) {
		/* Rather no DMA than by a table that the record does not have. */
		a->pt->broken = true;
		detach_surely(dev, a->pasid);
	}
	if (next) {
		next->n_attached--;
		iommufd_hwpt_settle(a->pt, next);
	}
	return 0;
}

int iommufd_move_all(struct iommufd_pt *pt)
{
	int r = each(pt, advance);

	if (!r)
		(void)each(pt, commit);
	return r;
}

void iommufd_move_back(struct iommufd_pt *pt)
{
	(void)each(pt, go_back);
}

/* ---- restart ---- */

void iommufd_attach_save(struct shim_dev *base, uint32_t pasid, struct shim_saved *ret_saved)
{
	const struct iommufd_attachment *a = find(iommufd_dev_of(base), pasid);

	if (a)
		iommufd_save_attachment(a->hwpt, ret_saved);
}

int iommufd_attach_restore(struct shim_dev *base, uint32_t pasid, struct shim_pt *table,
			   const struct shim_saved *saved)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);
	struct iommufd_pt *pt = iommufd_pt_of(table);
	struct iommufd_attachment a = {.pasid = pasid, .pt = pt};
	struct iommufd_saved_hwpt hwpt;
	int r = iommufd_load_attachment(saved, &hwpt);

	if (r)
		return r;
	if (pt->ctx != dev->ctx)
		return -EINVAL;
	if (find(dev, pasid))
		return SHIM_E_ATTACHED;
	if (pasid != SHIM_NO_PASID)
		r = reserve_pasid(dev);
	if (!r && hwpt.id && !pt->smmuv3)
		r = iommufd_hwpt_restore(pt, dev, &hwpt, &a.hwpt);
	if (r)
		return r;
	note(dev, &a);
	return 0;
}
