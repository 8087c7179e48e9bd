/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The iommufd shim as a whole: it asks the running kernel which calls it has, reads the
 * inventory, and then stands still; contexts are made in context.c.
 *
 * How a table is made.  An IOASID is one IOAS.  Its devices are attached to the IOAS itself,
 * and the kernel makes the hardware's table with the first attachment behind an IOMMU, shares
 * it between devices that can share, and ends it with the last: nothing of it can be left
 * over, and replacing is one call.  Only where the kernel wants to be asked a HWPT is made
 * explicitly (struct iommufd_hwpt): where a device has PASIDs, for dirty tracking, for page
 * requests, and for nesting (user.c).  The kernel enforces
 * snooping in every table whose IOMMU can, so enforce_snoop needs no more than to refuse the
 * devices whose IOMMU cannot.
 */

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

_Static_assert(SHIM_REASON_MAX == KEEPER_REASON_MAX, "reasons are handed through");

/* ---- words ---- */

int iommufd_refuse(char *ret_reason, int error, const char *format, ...)
{
	va_list args;

	if (ret_reason) {
		va_start(args, format);
		vsnprintf(ret_reason, SHIM_REASON_MAX, format, args);
		va_end(args);
	}
	return error;
}

void iommufd_problem_set(struct iommufd_problem *ret_problem, const char *format, ...)
{
	va_list args;

	if (!ret_problem)
		return;
	va_start(args, format);
	vsnprintf(ret_problem->message, sizeof(ret_problem->message), format, args);
	va_end(args);
}

const char *iommufd_keeper_error(int error)
{
	switch ((enum keeper_error)error) {
	case KEEPER_E_NOT_FOUND:
		return "not found";
	case KEEPER_E_BUSY:
		return "busy";
	case KEEPER_E_FORBIDDEN:
		return "forbidden";
	case KEEPER_E_GROUP:
		return "group incomplete";
	case KEEPER_E_LIMIT:
		return "limit reached";
	case KEEPER_E_UNSUPPORTED:
		return "unsupported";
	}
	return "unknown error";
}

/* ---- the kernel ---- */

static const struct {
	unsigned long request;
	const char *name;
	bool required;
} calls[] = {
	{IOMMU_DESTROY, "IOMMU_DESTROY", true},
	{IOMMU_IOAS_ALLOC, "IOMMU_IOAS_ALLOC", true},
	{IOMMU_IOAS_ALLOW_IOVAS, "IOMMU_IOAS_ALLOW_IOVAS", true},
	{IOMMU_IOAS_IOVA_RANGES, "IOMMU_IOAS_IOVA_RANGES", true},
	{IOMMU_IOAS_MAP_FILE, "IOMMU_IOAS_MAP_FILE (Linux 6.13)", true},
	{IOMMU_IOAS_UNMAP, "IOMMU_IOAS_UNMAP", true},
	{IOMMU_HWPT_ALLOC, "HWPT_ALLOC", false},
	{IOMMU_GET_HW_INFO, "GET_HW_INFO", false},
	{IOMMU_HWPT_GET_DIRTY, "GET_DIRTY_BITMAP", false},
	{IOMMU_HWPT_INVALIDATE, "HWPT_INVALIDATE", false},
	{IOMMU_FAULT_QUEUE_ALLOC, "FAULT_QUEUE_ALLOC", false},
	{IOMMU_VIOMMU_ALLOC, "VIOMMU_ALLOC", false},
	{IOMMU_VDEVICE_ALLOC, "VDEVICE_ALLOC", false},
	{IOMMU_VEVENTQ_ALLOC, "VEVENTQ_ALLOC", false},
};
#define N_CALLS (sizeof(calls) / sizeof(calls[0]))

/*
 * A structure that says it has no bytes is refused with EINVAL by a call that exists, before
 * anything is looked at; one that does not exist gives ENOTTY.
 */
static int probe_calls(const struct iommufd_sys *sys, int fd, struct iommufd_kernel *ret_kernel,
		       struct iommufd_problem *ret_problem)
{
	struct iommufd_kernel kernel = {0};

	for (unsigned number = IOMMUFD_CALL_FIRST; number <= IOMMUFD_CALL_LAST; number++) {
		uint32_t nothing[16] = {0};
		int r = sys->ioctl(sys->user, fd, IOMMUFD_CALL(number), nothing);

		if (r != -ENOTTY)
			kernel.calls |= 1u << (number - IOMMUFD_CALL_FIRST);
	}
	for (size_t i = 0; i < N_CALLS; i++)
		if (calls[i].required && !iommufd_kernel_has(&kernel, calls[i].request)) {
			iommufd_problem_set(ret_problem, "this kernel has no %s", calls[i].name);
			return IOMMUFD_E_KERNEL;
		}
	*ret_kernel = kernel;
	return 0;
}

static int probe_kernel(const struct iommufd_sys *sys, struct iommufd_kernel *ret_kernel,
			struct iommufd_problem *ret_problem)
{
	char reason[KEEPER_REASON_MAX] = "";
	struct keeper_context_id id;
	int fd, r, end;

	r = sys->context_open(sys->user, "ioasidd", reason, &id, &fd);
	if (r) {
		iommufd_problem_set(ret_problem, "the keeper opens no context: %s",
				    r < 0	? strerror(-r)
				    : reason[0] ? reason
						: iommufd_keeper_error(r));
		return r == KEEPER_E_UNSUPPORTED ? IOMMUFD_E_KERNEL : IOMMUFD_E_KEEPER;
	}
	r = probe_calls(sys, fd, ret_kernel, ret_problem);
	sys->close(sys->user, fd);
	end = sys->context_close(sys->user, id);
	if (!r && end) {
		iommufd_problem_set(ret_problem, "the keeper closes no context: %s",
				    end < 0 ? strerror(-end) : iommufd_keeper_error(end));
		r = IOMMUFD_E_KEEPER;
	}
	return r;
}

static void describe(struct iommufd_shim *shim)
{
	struct utsname uts = {0};
	size_t size = sizeof(shim->description);
	int at, n;

	uname(&uts);
	at = snprintf(
		shim->description, size,
		"iommufd of %s %s; devices: %zu, IOMMUs: %zu; IOAS with MAP_FILE in chunks of "
		"%u MiB; optional calls:",
		uts.sysname, uts.release, shim->host.n_slots, shim->host.n_units,
		(unsigned)(IOMMUFD_CHUNK >> 20));
	for (size_t i = 0; i < N_CALLS && at > 0 && (size_t)at < size; i++) {
		if (calls[i].required)
			continue;
		n = snprintf(shim->description + at, size - (size_t)at, " %s%s",
			     iommufd_kernel_has(&shim->kernel, calls[i].request) ? "" : "no ",
			     calls[i].name);
		at = n < 0 ? -1 : at + n;
	}
}

const char *iommufd_shim_describe(const struct shim *shim)
{
	return ((const struct iommufd_shim *)shim)->description;
}

/* ---- operations ---- */

static void free_shim(struct shim *base)
{
	struct iommufd_shim *shim = iommufd_shim_of(base);

	iommufd_forget_debts(shim);
	iommufd_host_deinit(&shim->host);
	pthread_mutex_destroy(&shim->lock);
	shim->sys.end(shim->sys.user);
	free(shim);
}

static size_t device_count(struct shim *shim)
{
	return iommufd_shim_of(shim)->host.n_slots;
}

static const struct shim_device_info *device_info(struct shim *shim, size_t index)
{
	const struct iommufd_host *host = &iommufd_shim_of(shim)->host;

	return index < host->n_slots ? &host->slots[index].info : NULL;
}

static const struct shim_ops iommufd_ops = {
	.name = "iommufd",
	.blocks = true,
	.asks_host_use = true,
	.free = free_shim,
	.device_count = device_count,
	.device_info = device_info,
	.ctx_new = iommufd_ctx_new,
	.ctx_free = iommufd_ctx_free,
	.ctx_new_delegated = iommufd_ctx_new_delegated,
	.ctx_fd = iommufd_ctx_fd,
	.holder_end = iommufd_holder_end,
	.dev_bind = iommufd_dev_bind,
	.dev_release = iommufd_dev_release,
	.dev_is_free = iommufd_dev_is_free,
	.dev_fd = iommufd_dev_fd,
	.mem_register = iommufd_mem_register,
	.mem_unregister = iommufd_mem_unregister,
	.pt_create = iommufd_pt_create,
	.pt_destroy = iommufd_pt_destroy,
	.pt_table_bytes = iommufd_pt_table_bytes,
	.pt_map_bound = iommufd_pt_map_bound,
	.pt_map = iommufd_pt_map,
	.pt_unmap = iommufd_pt_unmap,
	.pt_invalidate = iommufd_pt_invalidate,
	.pt_invalidate_native = iommufd_pt_invalidate_native,
	.pt_bind_table = iommufd_pt_bind_table,
	.pt_bind_pasid_table = iommufd_pt_bind_pasid_table,
	.pt_track_dirty = iommufd_pt_track_dirty,
	.pt_read_dirty = iommufd_pt_read_dirty,
	/* pt_walk: the tables are the kernel's.  dma: if the back end's devices are not real. */
	.attach = iommufd_attach,
	.replace = iommufd_replace,
	.detach = iommufd_detach,
	.ctx_report_fd = iommufd_ctx_report_fd,
	.ctx_read_reports = iommufd_ctx_read_reports,
	.ctx_answer = iommufd_ctx_answer,
	.ctx_save = iommufd_ctx_save,
	.dev_save = iommufd_dev_save,
	.pt_save = iommufd_pt_save,
	.attach_save = iommufd_attach_save,
	.ctx_restore = iommufd_ctx_restore,
	.dev_restore = iommufd_dev_restore,
	.pt_restore = iommufd_pt_restore,
	.pt_restore_map = iommufd_pt_restore_map,
	.attach_restore = iommufd_attach_restore,
	.pt_undo_map = iommufd_pt_undo_map,
	.ctx_restored = iommufd_ctx_restored,
	.ctx_leave = iommufd_ctx_leave,
	.sweep = iommufd_sweep,
};

int iommufd_shim_new_on(const struct iommufd_sys *sys, const struct iommufd_backend *backend,
			const char *sysfs_root, struct shim **ret_shim,
			struct iommufd_problem *ret_problem)
{
	struct iommufd_shim *shim = calloc(1, sizeof(*shim));
	int r;

	if (!shim) {
		sys->end(sys->user);
		return -ENOMEM;
	}
	shim->ops = iommufd_ops;
	shim->ops.dma = backend->dma;
	shim->base.ops = &shim->ops;
	shim->backend = backend;
	shim->sys = *sys;
	pthread_mutex_init(&shim->lock, NULL);
	r = probe_kernel(sys, &shim->kernel, ret_problem);
	if (!r)
		r = backend->host(sys, sysfs_root ?: "/sys", &shim->kernel, &shim->host,
				  ret_problem);
	if (!r)
		r = iommufd_smmuv3_probe(shim);
	if (r) {
		free_shim(&shim->base);
		return r;
	}
	describe(shim);
	*ret_shim = &shim->base;
	return 0;
}
