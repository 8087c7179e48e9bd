/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Kind USER behind an SMMUv3: tables that the tenant wrote, nested on one that the kernel keeps.
 *
 * What is bound is a stream table entry of the tenant's (vSTE), which the kernel checks and
 * combines with the parent's second stage. Isolation is the second stage's alone. Three sorts:
 *
 *	nothing		the vSTE terminates all accesses;
 *	a PASID table	the vSTE points to the tenant's own context descriptors (CDs);
 *	a table		the vSTE points to a CD that the shim wrote, in a page of its own which the
 *			parent maps, read-only, at an address that is reserved for it
 *			(SMMUV3_WINDOW). One CD each for the tables bound below a parent.
 *
 * Replace. A vSTE is never changed: what is bound next gets a new hardware table, a new CD with
 * another ASID, and every attached device is moved, which is atomic for each. What was cached
 * by the old ASID is invalidated before the ASID can be used again.
 *
 * ASIDs are per parent. The shim takes its own from the top (SMMUV3_SLOTS of them); a tenant
 * whose PASID table uses the same numbers below the same parent mixes its own translations,
 * and nobody else's.
 *
 * Restart. The page of CDs cannot be found again, and the kernel's objects need not be: when the
 * record is complete everything is made anew beside what is there, in the other half of the
 * window, and each device is moved over; what it reaches stays the same all the while.
 */

#include "iommufd/smmuv3_tables.h"

#include "iommufd/viommu.h"

#include <errno.h>
#include <stdlib.h>

/* ---- the page of CDs ---- */

struct smmuv3_page {
	int fd;
	uint64_t *words;
	uint64_t iova;
	bool used[SMMUV3_SLOTS];
};

static int page_map(struct iommufd_pt *parent, struct smmuv3_page *page, uint64_t iova)
{
	struct iommufd_ioas_map_file arg = {
		.size = sizeof(arg),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
		.ioas_id = parent->ioas,
		.fd = page->fd,
		.length = SMMUV3_PAGE,
		.iova = iova,
	};
	int r = iommufd_call(parent->ctx, IOMMU_IOAS_MAP_FILE, &arg);

	if (!r)
		page->iova = iova;
	return r;
}

static uint64_t other_half(uint64_t iova)
{
	return iova == SMMUV3_WINDOW ? SMMUV3_WINDOW + SMMUV3_PAGE : SMMUV3_WINDOW;
}

/* In the half that an earlier broker does not use, if there was one. */
static int page_place(struct iommufd_pt *parent, struct smmuv3_page *page)
{
	uint64_t unmapped;
	int r = page_map(parent, page, SMMUV3_WINDOW);

	if (r != -EEXIST || !parent->ctx->restoring)
		return r;
	r = page_map(parent, page, other_half(SMMUV3_WINDOW));
	if (r != -EEXIST)
		return r;
	/* A restart was cut short here: devices still in this half fault until they are moved. */
	r = iommufd_unmap(parent->ctx, parent->ioas, SMMUV3_WINDOW, SMMUV3_PAGE, &unmapped);
	return r ? r : page_map(parent, page, SMMUV3_WINDOW);
}

static int page_get(struct iommufd_pt *parent, struct smmuv3_page **ret_page)
{
	const struct iommufd_sys *sys = iommufd_sys_of(parent->ctx);
	struct smmuv3_page *page = parent->cds;
	void *bytes;
	int r;

	if (page) {
		*ret_page = page;
		return 0;
	}
	page = calloc(1, sizeof(*page));
	if (!page)
		return -ENOMEM;
	r = sys->memory_new(sys->user, SMMUV3_PAGE, &page->fd, &bytes);
	if (r) {
		free(page);
		return r;
	}
	page->words = bytes;
	r = page_place(parent, page);
	if (r) {
		sys->memory_free(sys->user, page->fd, bytes, SMMUV3_PAGE);
		free(page);
		return r;
	}
	parent->cds = page;
	*ret_page = page;
	return 0;
}

void iommufd_smmuv3_page_free(struct iommufd_pt *parent)
{
	const struct iommufd_sys *sys = iommufd_sys_of(parent->ctx);

	if (!parent->cds)
		return;
	sys->memory_free(sys->user, parent->cds->fd, parent->cds->words, SMMUV3_PAGE);
	free(parent->cds);
	parent->cds = NULL;
}

static uint16_t asid_of(const struct iommufd_pt *pt, int slot)
{
	const struct iommufd_host *host = &iommufd_shim_of(pt->base.shim)->host;

	return (uint16_t)((host->smmuv3.asid16 ? 0xffff : 0xff) - slot);
}

static unsigned slots_of(const struct iommufd_pt *pt)
{
	/* ASID 0 is nobody's. */
	return iommufd_shim_of(pt->base.shim)->host.smmuv3.asid16 ? SMMUV3_SLOTS : 255;
}

/* Writes the CD of a table. */
static int slot_get(struct iommufd_pt *pt, uint64_t root, char *ret_reason, int *ret_slot)
{
	const struct iommufd_host *host = &iommufd_shim_of(pt->base.shim)->host;
	struct smmuv3_page *page;
	unsigned slot = 0;
	int r = page_get(pt->parent, &page);

	if (r == -EEXIST || r == -EINVAL)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "the addresses from %llx that the broker keeps for "
				      "descriptors cannot be mapped in the parent",
				      (unsigned long long)SMMUV3_WINDOW);
	if (r)
		return r;
	while (slot < slots_of(pt) && page->used[slot])
		slot++;
	if (slot == slots_of(pt))
		return iommufd_refuse(ret_reason, SHIM_E_LIMIT,
				      "%u tables are bound below the "
				      "parent",
				      slot);
	smmuv3_cd((enum shim_format)pt->format, pt->input_bits, host->smmuv3.output_bits, root,
		  asid_of(pt, (int)slot), page->words + slot * (SMMUV3_CD_BYTES / 8));
	page->used[slot] = true;
	*ret_slot = (int)slot;
	return 0;
}

static void slot_put(struct iommufd_pt *pt, int slot)
{
	if (slot < 0)
		return;
	memset(pt->parent->cds->words + (size_t)slot * (SMMUV3_CD_BYTES / 8), 0, SMMUV3_CD_BYTES);
	pt->parent->cds->used[slot] = false;
}

/* ---- what is bound ---- */

static void ste_of(const struct iommufd_pt *pt, uint64_t ret_ste[2])
{
	const struct smmuv3_binding *b = &pt->binding;

	if (b->what == SMMUV3_TABLE)
		smmuv3_ste_cds(pt->parent->cds->iova + (uint64_t)b->slot * SMMUV3_CD_BYTES, 0, 0,
			       ret_ste);
	else if (b->what == SMMUV3_PASID_TABLE)
		smmuv3_ste_cds(b->root, b->shape, b->pasid_bits, ret_ste);
	else
		smmuv3_ste_abort(ret_ste);
}

int iommufd_smmuv3_hwpt(struct iommufd_dev *dev, struct iommufd_pt *pt, uint32_t *ret_id)
{
	uint64_t ste[2];
	struct iommufd_hwpt_alloc arg = {
		.size = sizeof(arg),
		.dev_id = dev->id,
		.pt_id = dev->view->viommu,
		.data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
		.data_len = sizeof(ste),
		.data_uptr = (uintptr_t)ste,
	};
	int r;

	ste_of(pt, ste);
	r = iommufd_call(dev->ctx, IOMMU_HWPT_ALLOC, &arg);
	if (!r)
		*ret_id = arg.out_hwpt_id;
	return r;
}

/* Drops what is cached of bound, behind one IOMMU. */
static void flush(struct iommufd_pt *pt, const struct iommufd_unit *unit,
		  const struct smmuv3_binding *bound)
{
	const struct iommufd_view *view = iommufd_view_find(pt->parent, unit);
	struct smmuv3_command command = bound->what == SMMUV3_TABLE
						? smmuv3_tlbi_asid(asid_of(pt, bound->slot))
						: smmuv3_tlbi_all();
	size_t done;

	if (!view || bound->what == SMMUV3_NOTHING)
		return;
	for (int i = 0; i < IOMMUFD_TRIES; i++)
		if (!iommufd_view_commands(pt->ctx, view, &command, 1, &done))
			return;
}

void iommufd_smmuv3_flush(struct iommufd_pt *pt, const struct iommufd_unit *unit)
{
	flush(pt, unit, &pt->binding);
}

int iommufd_smmuv3_attach(struct iommufd_dev *dev, uint32_t pasid, struct iommufd_pt *pt,
			  struct iommufd_hwpt **ret_hwpt)
{
	struct iommufd_view *view, *before = dev->view;
	int r;

	if (pasid != SHIM_NO_PASID)
		return -EOPNOTSUPP;
	r = iommufd_view_get(dev, pt->parent, &view);
	if (!r)
		r = iommufd_vdevice_move(dev, view);
	if (!r)
		r = iommufd_hwpt_attach(dev, pasid, pt, ret_hwpt);
	/* Where it is attached still. */
	if (r && before && before != view)
		(void)iommufd_vdevice_move(dev, before);
	return r;
}

static int bind_error(int r, char *ret_reason)
{
	if (r == -EIO || r == -EINVAL || r == -EOPNOTSUPP)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "the kernel refuses the stream table entry");
	return r;
}

static int rebind(struct iommufd_pt *pt, const struct smmuv3_binding *wanted, char *ret_reason)
{
	struct smmuv3_binding before = pt->binding;
	int r = 0;

	pt->binding = *wanted;
	pt->binding.slot = -1;
	/* What the devices get is made when the record is complete. */
	if (pt->ctx->restoring)
		return 0;
	if (wanted->what == SMMUV3_TABLE)
		r = slot_get(pt, wanted->root, ret_reason, &pt->binding.slot);
	if (!r) {
		pt->epoch++;
		r = iommufd_move_all(pt);
		if (r)
			pt->epoch--;
	}
	if (r) {
		struct smmuv3_binding failed = pt->binding;

		pt->binding = before;
		iommufd_move_back(pt);
		slot_put(pt, failed.slot);
		return pt->broken ? -EIO : bind_error(r, ret_reason);
	}
	for (const struct iommufd_view *view = pt->parent->views; view; view = view->next)
		flush(pt, view->unit, &before);
	slot_put(pt, before.slot);
	return 0;
}

static int check_root(const struct iommufd_pt *pt, uint64_t root, uint64_t size, char *ret_reason)
{
	uint64_t last;

	if (root & (size - 1))
		return iommufd_refuse(ret_reason, SHIM_E_RANGE, "it must be aligned to %llu bytes",
				      (unsigned long long)size);
	if (__builtin_add_overflow(root, size - 1, &last) || last >> pt->parent->input_bits)
		return iommufd_refuse(ret_reason, SHIM_E_RANGE, "it is beyond the parent's %u bits",
				      pt->parent->input_bits);
	return 0;
}

static int table_bound(const struct iommufd_pt *pt, const struct shim_table *table,
		       char *ret_reason, struct smmuv3_binding *ret)
{
	int r;

	*ret = (struct smmuv3_binding){.what = SMMUV3_NOTHING, .slot = -1};
	if (!table)
		return 0;
	if (table->flags)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "flags of a table are VT-d's; this is an SMMUv3");
	r = check_root(pt, table->root,
		       smmuv3_root_size((enum shim_format)pt->format, pt->input_bits), ret_reason);
	if (r)
		return r;
	ret->what = SMMUV3_TABLE;
	ret->root = table->root;
	return 0;
}

int iommufd_smmuv3_bind_table(struct iommufd_pt *pt, const struct shim_table *table,
			      char *ret_reason)
{
	struct smmuv3_binding wanted;
	int r;

	if (pt->broken)
		return -EIO;
	r = table_bound(pt, table, ret_reason, &wanted);
	return r ? r : rebind(pt, &wanted, ret_reason);
}

int iommufd_smmuv3_suits(const struct iommufd_pt *pt, const struct iommufd_slot *slot,
			 char *ret_reason)
{
	const struct shim_format_cap *cap = iommufd_cap_of(slot, (enum shim_format)pt->format);
	const struct smmuv3_abilities *a = &slot->unit->smmuv3;

	if (!cap || !cap->nest_child || cap->input_bits < pt->input_bits)
		return iommufd_refuse(
			ret_reason, SHIM_E_INCOMPATIBLE,
			"%s: IOMMU %s reads no tenant's table of this format and width",
			slot->info.address, slot->info.iommu);
	if (pt->binding.what != SMMUV3_PASID_TABLE)
		return 0;
	/* The kernel takes more, and each access is then a fault. */
	if (pt->binding.pasid_bits > a->ssid_bits)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: PASIDs have %u bits behind IOMMU %s (IDR1.SSIDSIZE), %u "
				      "in the PASID table",
				      slot->info.address, a->ssid_bits, slot->unit->name,
				      pt->binding.pasid_bits);
	if (pt->binding.shape && !a->two_level_cds)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "%s: IOMMU %s reads no PASID table of two levels (IDR0.CD2L)",
				      slot->info.address, slot->unit->name);
	return 0;
}

int iommufd_pt_bind_pasid_table(struct shim_pt *base, const struct shim_pasid_table *table,
				char *ret_reason)
{
	struct iommufd_pt *pt = iommufd_pt_of(base);
	struct smmuv3_binding before = pt->binding,
			      wanted = {.what = SMMUV3_PASID_TABLE, .slot = -1};
	uint64_t size = SMMUV3_CD_BYTES;
	int r = 0;

	if (!pt->smmuv3)
		return SHIM_E_UNSUPPORTED;
	if (!table)
		return iommufd_smmuv3_bind_table(pt, NULL, ret_reason);
	if (table->format != SHIM_PASID_SMMUV3_CD)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "an SMMUv3 reads no PASID table of this format");
	if (table->shape > 2 || (table->shape && !table->pasid_bits) || table->pasid_bits > 20)
		return iommufd_refuse(ret_reason, SHIM_E_UNSUPPORTED,
				      "S1Fmt is 0 to 2, with 1 to 20 bits where it is not 0");
	/* Of two levels it is the upper one, of which nobody says how large it is. */
	if (!table->shape)
		size <<= table->pasid_bits;
	r = check_root(pt, table->root, size, ret_reason);
	if (r)
		return r;
	wanted.root = table->root;
	wanted.pasid_bits = table->pasid_bits;
	wanted.shape = (uint8_t)table->shape;
	pt->binding = wanted;
	for (struct iommufd_dev *dev = pt->ctx->devices; !r && dev; dev = dev->next)
		if (dev->plain.pt == pt)
			r = iommufd_smmuv3_suits(pt, dev->slot, ret_reason);
	pt->binding = before;
	return r ? r : rebind(pt, &wanted, ret_reason);
}

/* ---- create, end ---- */

int iommufd_smmuv3_create(struct iommufd_pt *pt, const struct shim_pt_spec *spec, char *ret_reason)
{
	struct smmuv3_binding wanted;
	int r;

	if (pt->input_bits < SMMUV3_TABLE_BITS_LEAST)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "addresses of such tables have %d bits or more",
				      SMMUV3_TABLE_BITS_LEAST);
	if (pt->parent->input_bits < SMMUV3_PARENT_BITS)
		return iommufd_refuse(ret_reason, SHIM_E_INCOMPATIBLE,
				      "the parent has fewer than %d bits", SMMUV3_PARENT_BITS);
	pt->binding = (struct smmuv3_binding){.what = SMMUV3_NOTHING, .slot = -1};
	r = table_bound(pt, spec->table, ret_reason, &wanted);
	/* The broker asks for the descriptor now, and not when a device is attached. */
	if (!r)
		r = iommufd_reports_open(pt->ctx);
	if (!r)
		r = rebind(pt, &wanted, ret_reason);
	return r;
}

void iommufd_smmuv3_free(struct iommufd_pt *pt)
{
	/* Nothing of it is attached: it was flushed with the last device. */
	if (pt->parent->cds)
		slot_put(pt, pt->binding.slot);
}

/* ---- restart ---- */

static int restored_table(struct iommufd_pt *pt)
{
	int r = 0;

	if (pt->binding.what == SMMUV3_TABLE && pt->binding.slot < 0)
		r = slot_get(pt, pt->binding.root, NULL, &pt->binding.slot);
	/* Nobody else asks for so many slots as there were. */
	if (r > 0)
		r = -EIO;
	if (r)
		return r;
	r = iommufd_move_all(pt);
	if (r)
		iommufd_move_back(pt);
	return r;
}

int iommufd_smmuv3_restored(struct iommufd_ctx *ctx)
{
	int r = 0;

	for (struct iommufd_pt *pt = ctx->tables; !r && pt; pt = pt->next)
		if (pt->smmuv3)
			r = restored_table(pt);
	return r;
}

void iommufd_smmuv3_page_settle(struct iommufd_pt *parent)
{
	uint64_t unmapped, keep = parent->cds ? parent->cds->iova : 0;

	for (int i = 0; i < 2; i++) {
		uint64_t iova = SMMUV3_WINDOW + (uint64_t)i * SMMUV3_PAGE;

		if (iova != keep)
			(void)iommufd_unmap(parent->ctx, parent->ioas, iova, SMMUV3_PAGE,
					    &unmapped);
	}
}
