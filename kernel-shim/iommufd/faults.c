/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Page requests: one queue of the kernel's for each context, made with the first table that
 * wants them.  Its records name a device by its id in the context, so one tenant's requests
 * never meet another's, and devices are told apart.
 *
 * A group is read whole, and answered whole by its cookie.  A request of a device that is not
 * recorded (any more) is answered at once: it does not get the page.
 *
 * After a restart the queue's descriptor is lost and no call gives another.  So a new queue is
 * made, and what is attached moves to tables with that one; with the old tables the kernel
 * itself answers what was waiting there: no page.  Then devices ask again.
 */

#include "iommufd/internal.h"

#include <errno.h>
#include <stdlib.h>

/* A group of more requests is cut: what is left over is asked again after the answer. */
#define GROUP_MAX 512u

void iommufd_faults_close(struct iommufd_ctx *ctx)
{
	if (ctx->fault_fd >= 0)
		iommufd_sys_of(ctx)->close(iommufd_sys_of(ctx)->user, ctx->fault_fd);
	ctx->fault_fd = -1;
}

void iommufd_faults_end(struct iommufd_ctx *ctx)
{
	/* The queue is in use as long as it is open. */
	iommufd_faults_close(ctx);
	if (ctx->fault_queue)
		iommufd_destroy_surely(ctx, ctx->fault_queue);
	ctx->fault_queue = 0;
}

int iommufd_faults_open(struct iommufd_ctx *ctx)
{
	struct iommufd_fault_alloc arg = {.size = sizeof(arg)};
	int r;

	if (ctx->fault_fd >= 0)
		return 0;
	r = iommufd_call(ctx, IOMMU_FAULT_QUEUE_ALLOC, &arg);
	if (r)
		return r;
	ctx->fault_queue = arg.out_fault_id;
	ctx->fault_fd = (int)arg.out_fault_fd;
	ctx->fault_epoch++;
	r = iommufd_reports_watch(ctx, ctx->fault_fd);
	if (r)
		iommufd_faults_end(ctx);
	return r;
}

static bool any_wants(const struct iommufd_ctx *ctx)
{
	for (const struct iommufd_pt *pt = ctx->tables; pt; pt = pt->next)
		if (pt->faults)
			return true;
	return false;
}

int iommufd_faults_renew(struct iommufd_ctx *ctx)
{
	int r, first = 0;

	if (!any_wants(ctx))
		return 0;
	r = iommufd_faults_open(ctx);
	if (r)
		return r;
	for (struct iommufd_pt *pt = ctx->tables; pt; pt = pt->next) {
		if (!pt->faults)
			continue;
		pt->epoch++;
		r = iommufd_move_all(pt);
		if (!r)
			continue;
		pt->epoch--;
		iommufd_move_back(pt);
		if (!first)
			first = r;
	}
	return first;
}

static struct iommufd_dev *device_of(struct iommufd_ctx *ctx, uint32_t id)
{
	struct iommufd_dev *dev = ctx->devices;

	while (dev && dev->id != id)
		dev = dev->next;
	return dev;
}

static int answer(struct iommufd_ctx *ctx, uint32_t cookie, bool success)
{
	struct iommufd_page_response response = {
		.cookie = cookie,
		.code = success ? IOMMUFD_PAGE_RESP_SUCCESS : IOMMUFD_PAGE_RESP_INVALID,
	};

	return iommufd_sys_of(ctx)->write(iommufd_sys_of(ctx)->user, ctx->fault_fd, &response,
					  sizeof(response));
}

static uint32_t access_of(uint32_t perm)
{
	return (perm & IOMMU_PGFAULT_PERM_READ ? SHIM_READ : 0) |
	       (perm & IOMMU_PGFAULT_PERM_WRITE ? SHIM_WRITE : 0) |
	       (perm & IOMMU_PGFAULT_PERM_EXEC ? SHIM_EXEC : 0);
}

/* The kernel's cookie may be 0, and each queue counts from there. */
static uint64_t cookie_of(const struct iommufd_ctx *ctx, uint32_t cookie)
{
	return (uint64_t)ctx->fault_epoch << 32 | cookie;
}

/* Returns whether there is a report. */
static bool take(struct iommufd_ctx *ctx, const struct iommufd_pgfault *fault,
		 struct shim_report *ret_report)
{
	struct iommufd_dev *dev = device_of(ctx, fault->dev_id);
	bool last = fault->flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE;

	if (!dev) {
		if (last)
			(void)answer(ctx, fault->cookie, false);
		return false;
	}
	*ret_report = (struct shim_report){
		.dev = &dev->base,
		.pasid = fault->flags & IOMMU_PGFAULT_FLAGS_PASID_VALID ? fault->pasid
									: SHIM_NO_PASID,
		.cookie = cookie_of(ctx, fault->cookie),
		.group = fault->grpid,
		.last = last,
		.fault = {.access = access_of(fault->perm),
			  .address = fault->addr,
			  .recoverable = true},
	};
	return true;
}

static int read_some(struct iommufd_ctx *ctx, struct iommufd_pgfault *faults, size_t n,
		     size_t *ret_n)
{
	ssize_t got = iommufd_sys_of(ctx)->read(iommufd_sys_of(ctx)->user, ctx->fault_fd, faults,
						n * sizeof(*faults));

	if (got < 0)
		return (int)got;
	*ret_n = (size_t)got / sizeof(*faults);
	return 0;
}

int iommufd_faults_read(struct iommufd_ctx *ctx, struct shim_report *reports, size_t n,
			size_t *ret_n)
{
	struct iommufd_pgfault *faults;
	size_t got = 0, taken = 0;
	int r;

	if (ctx->fault_fd < 0 || !n) {
		*ret_n = 0;
		return 0;
	}
	faults = calloc(n > GROUP_MAX ? n : GROUP_MAX, sizeof(*faults));
	if (!faults)
		return -ENOMEM;
	r = read_some(ctx, faults, n, &got);
	/* Nothing, or one group that is larger than that. */
	if (!r && !got && n < GROUP_MAX)
		r = read_some(ctx, faults, GROUP_MAX, &got);
	for (size_t i = 0; !r && i < got && taken < n; i++) {
		if (i == n - 1)
			faults[i].flags |= IOMMU_PGFAULT_FLAGS_LAST_PAGE;
		taken += take(ctx, &faults[i], &reports[taken]);
	}
	free(faults);
	if (r)
		return r;
	*ret_n = taken;
	return 0;
}

int iommufd_ctx_answer(struct shim_ctx *base, uint64_t cookie, bool success)
{
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	int r;

	if (ctx->fault_fd < 0 || cookie >> 32 != ctx->fault_epoch)
		return -ENOENT;
	r = answer(ctx, (uint32_t)cookie, success);
	/* The kernel knows no such group. */
	return r == -EINVAL ? -ENOENT : r;
}
