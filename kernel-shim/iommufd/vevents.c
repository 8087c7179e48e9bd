/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the kernel reports of a context's devices: page requests (faults.c) and events of vIOMMUs.
 * Each queue has a descriptor of its own, and the context one that is readable when any of them
 * is; it stays the same as long as the context.
 *
 * A queue that is full drops events; their numbers tell how many.  They are told with the next
 * event of that queue.
 */

#include "iommufd/smmuv3.h"
#include "iommufd/viommu.h"

#include <errno.h>

int iommufd_reports_open(struct iommufd_ctx *ctx)
{
	const struct iommufd_sys *sys = iommufd_sys_of(ctx);
	int poll;

	if (ctx->reports >= 0)
		return 0;
	poll = sys->poll_new(sys->user);
	if (poll < 0)
		return poll;
	ctx->reports = poll;
	return 0;
}

int iommufd_reports_watch(struct iommufd_ctx *ctx, int fd)
{
	const struct iommufd_sys *sys = iommufd_sys_of(ctx);
	int r = iommufd_reports_open(ctx);

	return r ? r : sys->poll_add(sys->user, ctx->reports, fd);
}

int iommufd_ctx_report_fd(struct shim_ctx *base)
{
	return iommufd_ctx_of(base)->reports;
}

/* NULL: it has gone to another view, or is gone. */
static struct shim_dev *device_of(struct iommufd_ctx *ctx, const struct iommufd_view *view,
				  uint32_t number)
{
	for (struct iommufd_dev *dev = ctx->devices; dev; dev = dev->next)
		if (dev->view == view && iommufd_vdevice_number(dev) == number)
			return &dev->base;
	return NULL;
}

#define SEQUENCE_MASK 0x7fffffffu

/* What was lost before the event of this number. */
static void count_lost(struct iommufd_view *view, uint32_t sequence)
{
	view->lost += (sequence - view->expected) & SEQUENCE_MASK;
	view->expected = (sequence + 1) & SEQUENCE_MASK;
}

static size_t take(struct iommufd_ctx *ctx, struct iommufd_view *view, const char *bytes, size_t n,
		   struct shim_report *reports)
{
	struct iommufd_vevent_arm_smmuv3 event;
	struct iommufd_vevent_header header;
	size_t taken = 0, at = 0;
	uint32_t number;

	while (n - at >= sizeof(header)) {
		memcpy(&header, bytes + at, sizeof(header));
		at += sizeof(header);
		count_lost(view, header.sequence);
		if (header.flags & IOMMU_VEVENTQ_FLAG_LOST_EVENTS) {
			/* It stands for one that was lost itself. */
			view->lost++;
			continue;
		}
		if (n - at < sizeof(event))
			break;
		memcpy(&event, bytes + at, sizeof(event));
		at += sizeof(event);
		reports[taken] = (struct shim_report){.lost = view->lost};
		smmuv3_event((const uint64_t *)event.evt, &number, &reports[taken]);
		reports[taken].dev = device_of(ctx, view, number);
		if (!reports[taken].dev)
			continue;
		view->lost = 0;
		taken++;
	}
	return taken;
}

int iommufd_ctx_read_reports(struct shim_ctx *base, struct shim_report *reports, size_t n,
			     size_t *ret_n)
{
	char bytes[32 * (sizeof(struct iommufd_vevent_header) +
			 sizeof(struct iommufd_vevent_arm_smmuv3))];
	const size_t each = sizeof(bytes) / 32;
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	const struct iommufd_sys *sys = iommufd_sys_of(ctx);
	size_t taken;
	int r = iommufd_faults_read(ctx, reports, n, &taken);

	if (r)
		return r;
	for (struct iommufd_pt *pt = ctx->tables; pt; pt = pt->next)
		for (struct iommufd_view *view = pt->views; view && taken < n;) {
			size_t room = n - taken < 32 ? n - taken : 32;
			ssize_t got = view->events < 0 ? 0
						       : sys->read(sys->user, view->events, bytes,
								   room * each);

			/* What was taken is not to be lost: the error comes again. */
			if (got < 0 && !taken)
				return (int)got;
			if (got > 0)
				taken += take(ctx, view, bytes, (size_t)got, reports + taken);
			else
				view = view->next;
		}
	*ret_n = taken;
	return 0;
}
