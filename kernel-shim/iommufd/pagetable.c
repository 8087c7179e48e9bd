/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Page tables: one IOAS each, made and ended here; map.c fills them.
 *
 * Width.  What was promised to the tenant (0 to 2^input_bits, without the host's reserved
 * ranges) is told to the kernel with IOMMU_IOAS_ALLOW_IOVAS: it then refuses by itself, before
 * any effect, to attach a device that would take some of that away.  So a device whose IOMMU
 * turns out narrower than sysfs let one believe cannot make a mapping of the table's
 * impossible.  The kernel bounds nothing from above; map.c does.
 *
 * The end.  A tenant with a duplicate of a device's descriptor can attach it to any table of
 * its own lease at any time, and an object in use is not destroyed.  So a table is emptied
 * first, and if its end fails, the devices are put back where they belong and it is tried
 * again.  What is left after some tries is an empty table, which ends with its context.
 */

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"
#include "iommufd/viommu.h"

#include <errno.h>
#include <stdlib.h>

const struct shim_format_cap *iommufd_cap_of(const struct iommufd_slot *slot,
					     enum shim_format format)
{
	const struct shim_caps *caps = &slot->info.caps;

	for (size_t i = 0; i < caps->n_formats; i++)
		if (caps->formats[i].format == format)
			return &caps->formats[i];
	return NULL;
}

/* What kind KERNEL can be made of: a table that only a tenant writes is not. */
static const struct shim_format_cap *kernel_cap_of(const struct iommufd_slot *slot,
						   enum shim_format format)
{
	const struct shim_format_cap *cap = iommufd_cap_of(slot, format);

	return cap && cap->nest_child ? NULL : cap;
}

int iommufd_pt_suits(const struct iommufd_pt *pt, const struct iommufd_dev *dev, char *ret_reason)
{
	const struct shim_format_cap *cap = kernel_cap_of(dev->slot, pt->format);
	const struct shim_device_info *info = &dev->slot->info;

	if (pt->faults && !info->caps.recoverable_faults)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE, "%s: %s", info->address,
				      info->caps.feature_absent[SHIM_FEATURE_FAULTS]);
	if (pt->dirty && !info->caps.dirty_tracking)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE, "%s: %s", info->address,
				      info->caps.feature_absent[SHIM_FEATURE_DIRTY]);
	if (iommufd_is_tenants(pt)) {
		int r = pt->smmuv3 ? iommufd_smmuv3_suits(pt, dev->slot, ret_reason)
				   : iommufd_user_suits(pt, dev, ret_reason);

		return r ? r : iommufd_pt_suits(pt->parent, dev, ret_reason);
	}
	if (!cap)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: it is not proven that the kernel builds page tables of "
				      "this format behind IOMMU %s",
				      info->address, info->iommu);
	if (cap->input_bits < pt->input_bits)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: addresses have %u bits behind IOMMU %s, %u in the page "
				      "table",
				      info->address, cap->input_bits, info->iommu, pt->input_bits);
	if (pt->snoop && !info->caps.snoop_control)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE, "%s: %s", info->address,
				      info->caps.feature_absent[SHIM_FEATURE_SNOOP]);
	return 0;
}

/* ---- create ---- */

static bool is_smmuv3(const struct shim_pt_spec *spec)
{
	return spec->kind == SHIM_KIND_USER && smmuv3_page_shift(spec->format);
}

static int check_spec(struct iommufd_ctx *ctx, const struct shim_pt_spec *spec, char *ret_reason)
{
	const struct iommufd_kernel *kernel = &iommufd_shim_of(ctx->base.shim)->kernel;
	const char *what = NULL;
	int r;

	if (spec->kind == SHIM_KIND_PROCESS)
		what = "iommufd offers no page table of a process (SVA) to user space";
	else if (spec->kind == SHIM_KIND_KVM)
		what = "iommufd offers no page table of KVM's";
	else if (spec->kind != SHIM_KIND_KERNEL && spec->kind != SHIM_KIND_USER)
		what = "iommufd has no such kind";
	else if (spec->kind == SHIM_KIND_KERNEL && spec->parent)
		what = "iommufd nests only tables that a tenant wrote";
	else if (spec->dirty_tracking && !iommufd_kernel_has(kernel, IOMMU_HWPT_GET_DIRTY))
		what = "this kernel has no dirty tracking (Linux 6.7)";
	else if (spec->faults && !iommufd_kernel_has(kernel, IOMMU_FAULT_QUEUE_ALLOC))
		what = "this kernel has no fault queue (Linux 6.11)";
	else if (is_smmuv3(spec) && (spec->dirty_tracking || spec->faults))
		what = "behind an SMMUv3 tables of tenants have no page requests, and are "
		       "dirty in their parent";
	if (what)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED, "%s", what);
	if (spec->kind != SHIM_KIND_USER)
		return 0;
	r = iommufd_user_check_parent(ctx, spec, ret_reason);
	return r || is_smmuv3(spec) ? r : iommufd_user_check(spec, ret_reason);
}

/* The narrowest that the named devices have, or without any, that some device has. */
static unsigned width_of(const struct iommufd_shim *shim, const struct shim_pt_spec *spec)
{
	unsigned bits = 0;
	/* A tenant's table has its format's, whatever the device. */
	bool named = spec->n_devices && spec->kind != SHIM_KIND_USER;
	size_t n = named ? spec->n_devices : shim->host.n_slots;

	for (size_t i = 0; i < n; i++) {
		const struct iommufd_slot *slot =
			named ? iommufd_dev_of(spec->devices[i])->slot : &shim->host.slots[i];
		const struct shim_format_cap *cap = iommufd_cap_of(slot, spec->format);

		if (cap && cap->nest_child == (spec->kind == SHIM_KIND_USER) &&
		    (!bits || cap->input_bits < bits))
			bits = cap->input_bits;
	}
	return bits;
}

static int promise_width(struct iommufd_pt *pt)
{
	const struct iommufd_host *host = &iommufd_shim_of(pt->base.shim)->host;
	uint64_t last = (UINT64_C(1) << pt->input_bits) - 1, next = 0;
	struct iommufd_iova_range *ranges = calloc(host->n_reserved + 1, sizeof(*ranges));
	struct iommufd_ioas_allow_iovas arg = {
		.size = sizeof(arg),
		.ioas_id = pt->ioas,
		.allowed_iovas = (uintptr_t)ranges,
	};
	bool more = true;
	int r;

	if (!ranges)
		return -ENOMEM;
	for (size_t i = 0; i < host->n_reserved && more; i++) {
		const struct shim_range *cut = &host->reserved[i];

		if (cut->start > last)
			break;
		/* The kernel takes no range of one byte. */
		if (cut->start > next + 1)
			ranges[arg.num_iovas++] = (struct iommufd_iova_range){next, cut->start - 1};
		more = cut->last < last;
		next = cut->last + 1;
	}
	if (more && next < last)
		ranges[arg.num_iovas++] = (struct iommufd_iova_range){next, last};
	r = iommufd_call(pt->ctx, IOMMU_IOAS_ALLOW_IOVAS, &arg);
	free(ranges);
	return r;
}

static int make_ioas(struct iommufd_pt *pt)
{
	struct iommufd_ioas_alloc arg = {.size = sizeof(arg)};
	int r = iommufd_call(pt->ctx, IOMMU_IOAS_ALLOC, &arg);

	if (r)
		return r;
	pt->ioas = arg.out_ioas_id;
	/* Without mappings nothing is promised. */
	r = pt->user ? 0 : promise_width(pt);
	if (r)
		iommufd_destroy_surely(pt->ctx, pt->ioas);
	return r;
}

static void fill(struct iommufd_pt *pt, const struct shim_pt_spec *spec, unsigned bits)
{
	pt->format = (uint8_t)spec->format;
	pt->input_bits = spec->input_bits ? spec->input_bits : (uint8_t)bits;
	pt->snoop = spec->enforce_snoop;
	pt->faults = spec->faults;
	pt->smmuv3 = is_smmuv3(spec);
	pt->user = spec->kind == SHIM_KIND_USER && !pt->smmuv3;
	if (spec->kind != SHIM_KIND_USER)
		return;
	pt->parent = iommufd_pt_of(spec->parent);
	if (pt->smmuv3)
		return;
	pt->bound = spec->table;
	if (spec->table)
		pt->table = *spec->table;
}

static int make(struct iommufd_pt *pt, const struct shim_pt_spec *spec, char *ret_reason)
{
	int r = spec->dirty_tracking ? iommufd_dirty_new(&pt->dirty) : 0;

	for (size_t i = 0; !r && i < spec->n_devices; i++)
		r = iommufd_pt_suits(pt, iommufd_dev_of(spec->devices[i]), ret_reason);
	if (!r && pt->faults)
		r = iommufd_faults_open(pt->ctx);
	if (r)
		return r;
	return pt->smmuv3 ? iommufd_smmuv3_create(pt, spec, ret_reason) : make_ioas(pt);
}

int iommufd_pt_create(struct shim_ctx *base, const struct shim_pt_spec *spec, char *ret_reason,
		      struct shim_pt **ret_pt)
{
	struct iommufd_shim *shim = iommufd_shim_of(base->shim);
	struct iommufd_ctx *ctx = iommufd_ctx_of(base);
	unsigned bits = width_of(shim, spec);
	struct iommufd_pt *pt;
	int r = check_spec(ctx, spec, ret_reason);

	if (r)
		return r;
	if (!bits)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "it is not proven of any device that the kernel builds page "
				      "tables of format %d for it",
				      (int)spec->format);
	if (spec->input_bits && (spec->input_bits <= 12 || spec->input_bits > bits))
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "addresses of 13 to %u bits are possible, not of %u", bits,
				      spec->input_bits);
	pt = calloc(1, sizeof(*pt));
	if (!pt)
		return -ENOMEM;
	pt->base.shim = base->shim;
	pt->ctx = ctx;
	fill(pt, spec, bits);
	r = make(pt, spec, ret_reason);
	if (r) {
		iommufd_dirty_free(pt->dirty);
		free(pt);
		return r;
	}
	if (pt->parent)
		pt->parent->n_children++;
	SHIM_LIST_ADD(ctx->tables, pt);
	*ret_pt = &pt->base;
	return 0;
}

/* ---- destroy ---- */

/* Gone already is gone. */
static bool try_destroy(struct iommufd_pt *pt, uint32_t id)
{
	int r = iommufd_destroy(pt->ctx, id);

	return !r || r == -ENOENT;
}

static bool try_end(struct iommufd_pt *pt)
{
	struct iommufd_hwpt *hwpt;

	/* They use HWPTs of it. */
	if (!iommufd_views_try_end(pt))
		return false;
	while ((hwpt = pt->hwpts)) {
		if (!hwpt->gone && !try_destroy(pt, hwpt->id))
			return false;
		iommufd_hwpt_remove(pt, hwpt);
	}
	return pt->smmuv3 || try_destroy(pt, pt->ioas);
}

void iommufd_pt_end(struct iommufd_pt *pt)
{
	for (int i = 0; i < IOMMUFD_TRIES && !try_end(pt); i++)
		(void)iommufd_reassert(pt->ctx);
	iommufd_pt_free(pt);
}

void iommufd_pt_free(struct iommufd_pt *pt)
{
	struct iommufd_hwpt *hwpt;

	/* A parent that ended before has no records for its children's to go by. */
	while ((hwpt = pt->hwpts)) {
		if (hwpt->parent)
			hwpt->parent->n_attached--;
		pt->hwpts = hwpt->next;
		free(hwpt);
	}
	if (pt->smmuv3)
		iommufd_smmuv3_free(pt);
	iommufd_views_free(pt);
	iommufd_smmuv3_page_free(pt);
	if (pt->parent)
		pt->parent->n_children--;
	iommufd_dirty_free(pt->dirty);
	tables_clear(&pt->tables);
	SHIM_LIST_REMOVE(pt->ctx->tables, pt);
	free(pt);
}

void iommufd_pt_destroy(struct shim_pt *base)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);

	/* Attached: against the contract; what still leads here must not dangle. */
	if (!pt || pt->n_attached || pt->n_children)
		return;
	if (pt->ioas)
		(void)iommufd_unmap_all(pt->ctx, pt->ioas);
	iommufd_pt_end(pt);
}
