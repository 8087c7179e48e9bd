/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Devices: bound to one context at a time, attached to page tables by PASID or without.
 * What takes an attachment away or puts another in its place returns when DMA that used
 * the old one is over.
 */

#include "soft/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define REASON(reason, ...)                                                                        \
	do {                                                                                       \
		if (reason)                                                                        \
			snprintf(reason, SHIM_REASON_MAX, __VA_ARGS__);                            \
	} while (0)

static const struct shim_device_info *info_of(const struct soft_dev *dev)
{
	return &dev->slot->desc->info;
}

static int bind_one(struct soft_ctx *ctx, const char *address, char *ret_reason)
{
	struct soft_shim *shim = soft_shim_of(ctx->base.shim);
	size_t index = soft_topology_find(shim->topology, address);
	uint32_t tlb_entries;
	struct soft_dev *dev;
	bool busy;

	if (index == shim->topology->n_devices) {
		REASON(ret_reason, "%s: no such device", address);
		return SHIM_E_NO_DEVICE;
	}
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->base.shim = ctx->base.shim;
	dev->ctx = ctx;
	dev->slot = &shim->slots[index];
	tlb_entries = dev->slot->iommu->desc->device_tlb_entries;
	if (info_of(dev)->caps.device_tlb && soft_iotlb_init(&dev->tlb, tlb_entries)) {
		free(dev);
		return -ENOMEM;
	}
	pthread_mutex_lock(&shim->lock);
	busy = dev->slot->owner != NULL;
	if (!busy)
		dev->slot->owner = ctx;
	pthread_mutex_unlock(&shim->lock);
	if (busy) {
		REASON(ret_reason, "%s: another context has it", address);
		soft_iotlb_deinit(&dev->tlb);
		free(dev);
		return SHIM_E_DEVICE_BUSY;
	}
	SHIM_LIST_ADD(ctx->devices, dev);
	return 0;
}

int soft_dev_bind(struct shim_ctx *base, const char *const *addresses, size_t n, char *ret_reason,
		  struct shim_dev **ret_devs)
{
	struct soft_ctx *ctx = soft_ctx_of(base);
	struct soft_dev *dev;
	size_t done;
	int r = 0;

	for (done = 0; done < n && !r; done += !r)
		r = bind_one(ctx, addresses[done], ret_reason);
	/* The context's list begins with what was bound last. */
	if (r) {
		while (done--)
			soft_dev_release(&ctx->devices->base);
		return r;
	}
	for (dev = ctx->devices; done--; dev = dev->next)
		ret_devs[done] = &dev->base;
	return 0;
}

static void forget(struct shim_pt *pt)
{
	soft_pt_of(pt)->n_attached--;
}

void soft_dev_release(struct shim_dev *base)
{
	struct soft_dev *dev = soft_dev_of(base);
	struct soft_shim *shim;

	if (!dev)
		return;
	/* The caller has ended this device's DMA; other devices of the context go on. */
	shim = soft_shim_of(base->shim);
	if (dev->attached)
		forget(dev->attached);
	soft_pasid_drain(&dev->pasids, forget);
	SHIM_LIST_REMOVE(dev->ctx->devices, dev);
	pthread_mutex_lock(&shim->lock);
	dev->slot->owner = NULL;
	pthread_mutex_unlock(&shim->lock);
	soft_iotlb_deinit(&dev->tlb);
	free(dev);
}

struct soft_pt *soft_dev_attached(const struct soft_dev *dev, uint32_t pasid)
{
	if (pasid == SHIM_NO_PASID)
		return soft_pt_of(__atomic_load_n(&dev->attached, __ATOMIC_ACQUIRE));
	return soft_pt_of(soft_pasid_get(&dev->pasids, pasid));
}

bool soft_dev_can_use(const struct soft_dev *dev, const struct soft_format *format,
		      unsigned int input_bits, bool snoop, char *ret_reason)
{
	const struct shim_device_info *info = info_of(dev);

	if (!(dev->slot->desc->formats & 1u << format->id)) {
		REASON(ret_reason, "%s: it cannot use page tables of format %s behind IOMMU %s",
		       info->address, format->name, info->iommu);
		return false;
	}
	if (input_bits > format->input_bits && !dev->slot->iommu->desc->lpa2) {
		REASON(ret_reason, "%s: IOMMU %s takes addresses of %u bits, not %u", info->address,
		       info->iommu, format->input_bits, input_bits);
		return false;
	}
	if (snoop && !info->caps.snoop_control) {
		REASON(ret_reason, "%s: snooping cannot be enforced behind IOMMU %s", info->address,
		       info->iommu);
		return false;
	}
	return true;
}

/* Whether the device can be attached to the table, and all that it is nested on. */
static int check_attach(const struct soft_dev *dev, uint32_t pasid, const struct soft_pt *pt,
			char *ret_reason)
{
	const struct shim_device_info *info = info_of(dev);
	enum shim_pasid_format pasids;

	if (pasid != SHIM_NO_PASID) {
		if (!info->caps.pasid_bits) {
			REASON(ret_reason, "%s: it has no PASIDs behind IOMMU %s", info->address,
			       info->iommu);
			return SHIM_E_UNSUPPORTED;
		}
		if (pasid >> info->caps.pasid_bits) {
			REASON(ret_reason, "%s: PASID %u is beyond its %u bits", info->address,
			       pasid, info->caps.pasid_bits);
			return SHIM_E_INCOMPATIBLE;
		}
	}
	if (pt->depth > info->caps.max_depth) {
		REASON(ret_reason, "%s: IOMMU %s nests %u deep, the page table %u", info->address,
		       info->iommu, info->caps.max_depth, pt->depth);
		return SHIM_E_INCOMPATIBLE;
	}
	if (pasid == SHIM_NO_PASID && soft_user_pasid_format(pt, &pasids) &&
	    !(info->caps.pasid_tables & 1u << pasids)) {
		REASON(ret_reason, "%s: IOMMU %s reads no PASID tables of this format",
		       info->address, info->iommu);
		return SHIM_E_INCOMPATIBLE;
	}
	for (; pt; pt = pt->parent) {
		if (pt->kind != SHIM_KIND_PROCESS &&
		    !soft_dev_can_use(dev, soft_format_find(pt->format), pt->shape.input_bits,
				      pt->snoop, ret_reason))
			return SHIM_E_INCOMPATIBLE;
		/* What it writes would not be seen. */
		if (pt->dirty_tracking && !info->caps.dirty_tracking) {
			REASON(ret_reason, "%s: IOMMU %s keeps no dirty bits", info->address,
			       info->iommu);
			return SHIM_E_INCOMPATIBLE;
		}
	}
	return 0;
}

/* Publishes the attachment; an entry that exists is replaced without failure. */
static int put_attachment(struct soft_dev *dev, uint32_t pasid, struct soft_pt *pt)
{
	for (struct soft_pt *above = pt; above; above = above->parent)
		above->iommus |= 1ull << dev->slot->desc->iommu;
	if (pasid != SHIM_NO_PASID)
		return soft_pasid_set(&dev->pasids, pasid, &pt->base);
	__atomic_store_n(&dev->attached, &pt->base, __ATOMIC_RELEASE);
	return 0;
}

int soft_attach(struct shim_dev *base, uint32_t pasid, struct shim_pt *table, char *ret_reason)
{
	struct soft_dev *dev = soft_dev_of(base);
	struct soft_pt *pt = soft_pt_of(table);
	int r;

	if (soft_dev_attached(dev, pasid))
		return SHIM_E_ATTACHED;
	r = check_attach(dev, pasid, pt, ret_reason);
	if (!r)
		r = put_attachment(dev, pasid, pt);
	if (!r)
		pt->n_attached++;
	return r;
}

/* Waits until DMA that was looked up before is over, and drops what the device cached. */
static void settle(struct soft_dev *dev)
{
	pthread_rwlock_wrlock(&dev->ctx->flush);
	if (dev->tlb.sets)
		soft_iotlb_drop_all(&dev->tlb);
	pthread_rwlock_unlock(&dev->ctx->flush);
}

int soft_replace(struct shim_dev *base, uint32_t pasid, struct shim_pt *table, char *ret_reason)
{
	struct soft_dev *dev = soft_dev_of(base);
	struct soft_pt *pt = soft_pt_of(table), *old = soft_dev_attached(dev, pasid);
	int r;

	if (!old)
		return SHIM_E_NOT_ATTACHED;
	r = check_attach(dev, pasid, pt, ret_reason);
	if (r)
		return r;
	(void)put_attachment(dev, pasid, pt);
	settle(dev);
	old->n_attached--;
	pt->n_attached++;
	return 0;
}

int soft_detach(struct shim_dev *base, uint32_t pasid)
{
	struct soft_dev *dev = soft_dev_of(base);
	struct soft_pt *old = soft_dev_attached(dev, pasid);

	if (!old)
		return SHIM_E_NOT_ATTACHED;
	if (pasid == SHIM_NO_PASID) {
		__atomic_store_n(&dev->attached, NULL, __ATOMIC_RELEASE);
		settle(dev);
	} else {
		/* Lookups go through the nodes that this frees. */
		pthread_rwlock_wrlock(&dev->ctx->flush);
		soft_pasid_clear(&dev->pasids, pasid);
		if (dev->tlb.sets)
			soft_iotlb_drop_all(&dev->tlb);
		pthread_rwlock_unlock(&dev->ctx->flush);
	}
	old->n_attached--;
	return 0;
}
