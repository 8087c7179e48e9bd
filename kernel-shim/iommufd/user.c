/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Kind USER: tables that a tenant wrote, nested on one of kind KERNEL.
 *
 * The kernel takes a table as a HWPT, made for it and never changed.  So binding another one is
 * to make new HWPTs and to move what is attached: each device in one step, and on a failure all
 * of them back.  While no table is bound, what is attached has an empty address space: nothing
 * is present.
 *
 * The kernel checks neither root nor contents: the hardware reads the table through the parent,
 * which is what keeps it in.
 */

#include "iommufd/internal.h"
#include "iommufd/smmuv3_tables.h"

#include <errno.h>

#define TABLE_PAGE  UINT64_C(4096)
#define TABLE_FLAGS (SHIM_TABLE_SUPERVISOR | SHIM_TABLE_WRITE_PROTECT | SHIM_TABLE_EXTENDED_ACCESS)

static int check_table(const struct iommufd_pt *parent, const struct shim_table *table,
		       char *ret_reason)
{
	if (table->root % TABLE_PAGE || table->root >> parent->input_bits)
		return iommufd_refuse(ret_reason, SHIM_E_RANGE,
				      "a table's root is a page of its parent's %u bits",
				      parent->input_bits);
	if (table->flags & ~TABLE_FLAGS)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "the table has a flag that no IOMMU here knows");
	return 0;
}

int iommufd_user_check_parent(struct iommufd_ctx *ctx, const struct shim_pt_spec *spec,
			      char *ret_reason)
{
	const struct iommufd_pt *parent = spec->parent ? iommufd_pt_of(spec->parent) : NULL;

	if (!parent)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "a table that a tenant wrote needs a parent on Linux");
	if (parent->ctx != ctx)
		return -EINVAL;
	if (parent->broken)
		return -EIO;
	if (iommufd_is_tenants(parent))
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "iommufd nests no deeper than one table on the parent");
	return 0;
}

int iommufd_user_check(const struct shim_pt_spec *spec, char *ret_reason)
{
	if (spec->dirty_tracking)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "what is written through a tenant's table is dirty in its "
				      "parent: track it there");
	return spec->table ? check_table(iommufd_pt_of(spec->parent), spec->table, ret_reason) : 0;
}

int iommufd_user_suits(const struct iommufd_pt *pt, const struct iommufd_dev *dev, char *ret_reason)
{
	const struct shim_format_cap *cap = iommufd_cap_of(dev->slot, (enum shim_format)pt->format);
	const struct shim_device_info *info = &dev->slot->info;

	if (!dev->slot->unit->nested || !cap || !cap->nest_child)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE, "%s: %s", info->address,
				      info->caps.kind_absent[SHIM_KIND_USER][0]
					      ? info->caps.kind_absent[SHIM_KIND_USER]
					      : "its IOMMU has no nested tables of this format");
	if (dev->nests_not)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE, "%s: %s", info->address,
				      dev->nests_not);
	return 0;
}

static void set(struct iommufd_pt *pt, const struct shim_table *table)
{
	pt->bound = table;
	pt->table = table ? *table : (struct shim_table){0};
}

/* The first failure that a device has reported says why. */
static int bind_error(struct iommufd_pt *pt, int r, char *ret_reason)
{
	for (struct iommufd_dev *dev = pt->ctx->devices; dev; dev = dev->next)
		if (dev->plain.pt == pt || dev->n_pasids)
			return iommufd_attach_error(dev, pt, r, ret_reason);
	return r;
}

int iommufd_pt_bind_table(struct shim_pt *base, const struct shim_table *table, char *ret_reason)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	struct shim_table old = pt->table;
	bool was_bound = pt->bound;
	int r;

	if (pt->smmuv3)
		return iommufd_smmuv3_bind_table(pt, table, ret_reason);
	if (!pt->user)
		return -EINVAL;
	if (pt->broken)
		return -EIO;
	r = table ? check_table(pt->parent, table, ret_reason) : 0;
	if (r || (!table && !was_bound))
		return r;
	pt->epoch++;
	set(pt, table);
	r = iommufd_move_all(pt);
	if (!r)
		return 0;
	set(pt, was_bound ? &old : NULL);
	pt->epoch--;
	iommufd_move_back(pt);
	return pt->broken ? -EIO : bind_error(pt, r, ret_reason);
}
