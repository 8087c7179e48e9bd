/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which ids of a context's iommufd are recorded: the one place that knows all kinds of objects.
 * What is not in it is a stray after a restart, and ends (strays.c).
 */

#include "iommufd/internal.h"
#include "iommufd/viommu.h"

void iommufd_ids_each(const struct iommufd_ctx *ctx, iommufd_id_fn each, void *data)
{
	for (const struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next) {
		each(dev->id, data);
		for (size_t i = 0; i < IOMMUFD_BACKEND_OBJECTS; i++)
			if (dev->own[i])
				each(dev->own[i], data);
		if (dev->vdevice)
			each(dev->vdevice, data);
	}
	for (const struct iommufd_pt *pt = ctx->tables; pt; pt = pt->next) {
		if (pt->ioas)
			each(pt->ioas, data);
		for (const struct iommufd_view *view = pt->views; view; view = view->next) {
			each(view->viommu, data);
			if (view->queue)
				each(view->queue, data);
		}
		for (const struct iommufd_hwpt *hwpt = pt->hwpts; hwpt; hwpt = hwpt->next)
			if (!hwpt->gone)
				each(hwpt->id, data);
	}
	if (ctx->fault_queue)
		each(ctx->fault_queue, data);
}
