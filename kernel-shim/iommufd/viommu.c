/* SPDX-License-Identifier: Apache-2.0 */

/*
 * See viommu.h.  A device has one vDEVICE at a time in the kernel.  It is moved when the device
 * goes to a child of another parent: for that moment commands and events of the old one do not
 * know it, but no table depends on it.
 *
 * The parent's hardware table is hwpt.c's, as for any nested table.
 */

#include "iommufd/viommu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Whether the kernel has it no more. */
static bool end_one(struct iommufd_ctx *ctx, uint32_t *id)
{
	int r = *id ? iommufd_destroy(ctx, *id) : 0;

	if (r && r != -ENOENT)
		return false;
	*id = 0;
	return true;
}

/* ---- views ---- */

static bool view_try_end(struct iommufd_pt *parent, struct iommufd_view *view)
{
	struct iommufd_ctx *ctx = parent->ctx;

	for (struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next)
		if (dev->view == view)
			iommufd_vdevice_end(dev);
	/* The queue lives as long as its descriptor, too. */
	if (view->events >= 0)
		iommufd_sys_of(ctx)->close(iommufd_sys_of(ctx)->user, view->events);
	view->events = -1;
	if (!end_one(ctx, &view->queue) || !end_one(ctx, &view->viommu))
		return false;
	if (view->parent) {
		view->parent->n_attached--;
		iommufd_hwpt_settle(parent, view->parent);
	}
	view->parent = NULL;
	return true;
}

static int take_parent(struct iommufd_dev *dev, struct iommufd_pt *parent,
		       struct iommufd_view *view)
{
	int r = iommufd_hwpt_parent(dev, parent, &view->parent);

	if (!r)
		view->parent->n_attached++;
	return r;
}

static int make_viommu(struct iommufd_dev *dev, struct iommufd_view *view)
{
	struct iommufd_viommu_alloc arg = {
		.size = sizeof(arg),
		.type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
		.dev_id = dev->id,
		.hwpt_id = view->parent->id,
	};
	int r = iommufd_call(dev->ctx, IOMMU_VIOMMU_ALLOC, &arg);

	if (!r)
		view->viommu = arg.out_viommu_id;
	return r;
}

static int make_queue(struct iommufd_ctx *ctx, struct iommufd_view *view)
{
	struct iommufd_veventq_alloc arg = {
		.size = sizeof(arg),
		.viommu_id = view->viommu,
		.type = IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
		.veventq_depth = IOMMUFD_EVENTS_MAX,
	};
	int r;

	/* Linux before 6.15: nothing is reported. */
	if (!iommufd_kernel_has(&iommufd_shim_of(ctx->base.shim)->kernel, IOMMU_VEVENTQ_ALLOC))
		return 0;
	r = iommufd_call(ctx, IOMMU_VEVENTQ_ALLOC, &arg);
	if (r)
		return r;
	view->queue = arg.out_veventq_id;
	view->events = (int)arg.out_veventq_fd;
	return iommufd_reports_watch(ctx, view->events);
}

struct iommufd_view *iommufd_view_find(const struct iommufd_pt *parent,
				       const struct iommufd_unit *unit)
{
	struct iommufd_view *view = parent->views;

	while (view && view->unit != unit)
		view = view->next;
	return view;
}

int iommufd_view_get(struct iommufd_dev *dev, struct iommufd_pt *parent,
		     struct iommufd_view **ret_view)
{
	struct iommufd_view *view = iommufd_view_find(parent, dev->slot->unit);
	int r;

	if (view) {
		*ret_view = view;
		return 0;
	}
	view = calloc(1, sizeof(*view));
	if (!view)
		return -ENOMEM;
	view->unit = dev->slot->unit;
	view->events = -1;
	r = take_parent(dev, parent, view);
	if (!r)
		r = make_viommu(dev, view);
	if (!r)
		r = make_queue(dev->ctx, view);
	if (r) {
		/* Nobody else knows of them: what fails here has no reason to. */
		for (int i = 0; i < IOMMUFD_TRIES && !view_try_end(parent, view); i++)
			;
		free(view);
		return r;
	}
	view->next = parent->views;
	parent->views = view;
	*ret_view = view;
	return 0;
}

bool iommufd_views_try_end(struct iommufd_pt *parent)
{
	struct iommufd_view *view;

	while ((view = parent->views)) {
		if (!view_try_end(parent, view))
			return false;
		parent->views = view->next;
		free(view);
	}
	return true;
}

void iommufd_views_free(struct iommufd_pt *parent)
{
	const struct iommufd_sys *sys = iommufd_sys_of(parent->ctx);
	struct iommufd_view *view;

	while ((view = parent->views)) {
		for (struct iommufd_dev *dev = parent->ctx->devices; dev; dev = dev->next)
			if (dev->view == view)
				dev->view = NULL;
		if (view->events >= 0)
			sys->close(sys->user, view->events);
		parent->views = view->next;
		free(view);
	}
}

int iommufd_view_commands(struct iommufd_ctx *ctx, const struct iommufd_view *view,
			  const void *commands, size_t n, size_t *ret_done)
{
	*ret_done = 0;
	if (!n)
		return 0;
	return iommufd_invalidate(ctx, view->viommu, IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
				  commands, 16, n, ret_done);
}

/* ---- vDEVICEs ---- */

uint32_t iommufd_vdevice_number(const struct iommufd_dev *dev)
{
	unsigned segment = 0, bus = 0, device = 0, function = 0;

	/* The inventory has no other addresses. */
	if (sscanf(dev->slot->info.address, "%x:%x:%x.%x", &segment, &bus, &device, &function) != 4)
		return 0;
	return segment << 16 | bus << 8 | device << 3 | function;
}

void iommufd_vdevice_end(struct iommufd_dev *dev)
{
	for (int i = 0; i < IOMMUFD_TRIES && !end_one(dev->ctx, &dev->vdevice); i++)
		;
	dev->vdevice = 0;
	dev->view = NULL;
}

int iommufd_vdevice_move(struct iommufd_dev *dev, struct iommufd_view *view)
{
	struct iommufd_vdevice_alloc arg = {
		.size = sizeof(arg),
		.viommu_id = view->viommu,
		.dev_id = dev->id,
		.virt_id = iommufd_vdevice_number(dev),
	};
	int r;

	if (dev->view == view)
		return 0;
	iommufd_vdevice_end(dev);
	r = iommufd_call(dev->ctx, IOMMU_VDEVICE_ALLOC, &arg);
	if (r)
		return r;
	dev->vdevice = arg.out_vdevice_id;
	dev->view = view;
	return 0;
}
