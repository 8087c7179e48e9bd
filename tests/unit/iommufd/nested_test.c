/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tables that tenants write, page requests and dirty pages on the model of the kernel: what
 * reaches the kernel, in VT-d's layouts, and what is found again after a restart.
 */

#include "fake.h"

#include <errno.h>

#define K4    (UINT64_C(1) << 12)
#define RW    (SHIM_READ | SHIM_WRITE)
#define SMALL "0000:00:03.0"
#define LARGE "0000:81:00.0"

struct fixture {
	struct fake fake;
	struct fake_tree tree;
	struct shim *shim;
	struct shim_ctx *ctx;
	struct shim_mem *mem;
	struct shim_dev *dev;
	struct shim_pt *parent, *child;
	char reason[SHIM_REASON_MAX];
};

static void shim_on(struct fixture *f)
{
	struct iommufd_sys sys = fake_sys(&f->fake);
	struct iommufd_problem problem;

	assert_int_equal(
		iommufd_shim_new_on(&sys, &iommufd_backend_vfio, f->tree.root, &f->shim, &problem),
		0);
}

static int setup(void **state)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL,
				    .format = SHIM_FORMAT_KERNEL_CHOSEN,
				    .dirty_tracking = true};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fake_init(&f->fake);
	fake_device(&f->fake, LARGE)->keeper.pri = true;
	fake_tree_standard(&f->tree);
	shim_on(f);
	assert_int_equal(shim_ctx_new(f->shim, "org", f->reason, &f->ctx), 0);
	assert_int_equal(shim_dev_bind_one(f->ctx, LARGE, f->reason, &f->dev), 0);
	assert_int_equal(shim_mem_register(f->ctx, 77, 0, 64 * K4, RW, &f->mem), 0);
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &f->parent), 0);
	spec = (struct shim_pt_spec){.kind = SHIM_KIND_USER,
				     .format = SHIM_FORMAT_X86_64_4L,
				     .parent = f->parent,
				     .faults = true};
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &f->child), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fake_disarm(&f->fake);
	shim_ctx_free(f->ctx);
	fake_expect_empty(&f->fake);
	shim_free(f->shim);
	fake_tree_free(&f->tree);
	free(f);
	return 0;
}

static struct fake_object *hwpt(struct fixture *f, uint32_t pasid)
{
	return fake_hwpt(&f->fake, LARGE, pasid);
}

static int bind(struct fixture *f, uint64_t root, uint32_t flags)
{
	struct shim_table table = {.root = root, .flags = flags};

	return shim_pt_bind_table(f->child, &table, f->reason);
}

static int map(struct fixture *f, uint64_t iova, uint64_t length)
{
	struct shim_map m = {.iova = iova, .length = length, .mem = f->mem, .prot = RW};

	return shim_pt_map(f->parent, &m, 1, NULL);
}

/* ---- what may be made ---- */

static void test_create(void **state)
{
	struct fixture *f = *state;
	struct shim_table table = {.root = 0x1001};
	struct shim_dev *small;
	struct shim_pt_spec spec = {.kind = SHIM_KIND_USER,
				    .format = SHIM_FORMAT_X86_64_4L,
				    .table = &table,
				    .devices = &small,
				    .n_devices = 1};
	struct shim_pt *pt = NULL;

	assert_int_equal(shim_dev_bind_one(f->ctx, SMALL, f->reason, &small), 0);
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_UNSUPPORTED);
	spec.parent = f->child;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_UNSUPPORTED);
	spec.parent = f->parent;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_RANGE);
	table.root = UINT64_C(1) << 50;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_RANGE);
	table.root = 0x1000;
	table.flags = 1u << 3;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_UNSUPPORTED);
	table.flags = 0;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_INCOMPATIBLE);
	assert_string_equal(f->reason, SMALL ": VT-d ECAP.SMTS is 0 on dmar0");
	/* Kind KERNEL is never of a format that tenants write. */
	spec = (struct shim_pt_spec){.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_X86_64_4L};
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_attach(small, SHIM_NO_PASID, f->child, f->reason),
			 SHIM_E_INCOMPATIBLE);
	assert_null(pt);
	/* A parent does not end under its children. */
	shim_pt_destroy(f->parent);
	assert_int_equal(bind(f, 0x1000, 0), 0);
}

/* ---- binding ---- */

static void test_bind(void **state)
{
	struct fixture *f = *state;
	struct fake_object *o;

	assert_int_equal(shim_attach(f->dev, 4, f->child, f->reason), 0);
	assert_int_equal(hwpt(f, 4)->parent, 0);
	assert_int_equal(bind(f, 0x5000, SHIM_TABLE_SUPERVISOR | SHIM_TABLE_WRITE_PROTECT), 0);
	o = hwpt(f, 4);
	assert_true(o->parent);
	assert_int_equal(o->data.pgtbl_addr, 0x5000);
	assert_int_equal(o->data.addr_width, 48);
	assert_int_equal(o->data.flags, IOMMU_VTD_S1_SRE | IOMMU_VTD_S1_WPE);
	assert_int_equal(o->flags, IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_FAULT_ID_VALID);
	assert_int_equal(fake_device(&f->fake, LARGE)->bound->objects[o->parent].flags,
			 IOMMU_HWPT_ALLOC_PASID | IOMMU_HWPT_ALLOC_DIRTY_TRACKING |
				 IOMMU_HWPT_ALLOC_NEST_PARENT);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->child, f->reason), 0);
	assert_ptr_equal(hwpt(f, SHIM_NO_PASID), hwpt(f, 4));
	assert_int_equal(bind(f, 0x6000, SHIM_TABLE_EXTENDED_ACCESS), 0);
	assert_ptr_equal(hwpt(f, SHIM_NO_PASID), hwpt(f, 4));
	assert_int_equal(hwpt(f, 4)->data.pgtbl_addr, 0x6000);
	assert_int_equal(hwpt(f, 4)->data.flags, IOMMU_VTD_S1_EAFE);
	assert_int_equal(shim_pt_bind_table(f->child, NULL, f->reason), 0);
	assert_int_equal(hwpt(f, 4)->parent, 0);
	assert_false(fake_reaches(&f->fake, LARGE, 0));
	assert_int_equal(shim_pt_bind_table(f->parent, NULL, f->reason), -EINVAL);
}

static void test_bind_fails_half_way(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(bind(f, 0x5000, 0), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->child, f->reason), 0);
	assert_int_equal(shim_attach(f->dev, 4, f->child, f->reason), 0);
	assert_int_equal(shim_attach(f->dev, 5, f->child, f->reason), 0);
	for (uint64_t nth = 1; nth <= 3; nth++) {
		f->fake.only = VFIO_CDEV_ATTACH_PT;
		fake_arm(&f->fake, nth, -EIO);
		assert_int_equal(bind(f, 0x6000, 0), -EIO);
		fake_disarm(&f->fake);
		for (uint32_t pasid = 4; pasid <= 5; pasid++)
			assert_int_equal(hwpt(f, pasid)->data.pgtbl_addr, 0x5000);
		assert_int_equal(hwpt(f, SHIM_NO_PASID)->data.pgtbl_addr, 0x5000);
		assert_int_equal(hwpt(f, 4)->users, 3);
	}
	assert_int_equal(bind(f, 0x6000, 0), 0);
	assert_int_equal(hwpt(f, 5)->data.pgtbl_addr, 0x6000);
	/* Where going back fails, too: no DMA rather than by a table that nobody knows. */
	f->fake.only = VFIO_CDEV_ATTACH_PT;
	f->fake.forever = true;
	fake_arm(&f->fake, 2, -EIO);
	assert_int_equal(bind(f, 0x7000, 0), -EIO);
	fake_disarm(&f->fake);
	assert_null(hwpt(f, SHIM_NO_PASID));
	assert_int_equal(hwpt(f, 4)->data.pgtbl_addr, 0x6000);
	assert_int_equal(bind(f, 0x7000, 0), -EIO);
}

/* ---- invalidations ---- */

static void test_invalidate(void **state)
{
	struct fixture *f = *state;
	struct shim_invalidate entries[] = {
		{.scope = SHIM_INVALIDATE_RANGE,
		 .iova = 0x12345678,
		 .length = 0x1000,
		 .leaf = true},
		{.scope = SHIM_INVALIDATE_ALL},
		{.scope = SHIM_INVALIDATE_PASID, .pasid = 4},
		{.scope = SHIM_INVALIDATE_RANGE, .iova = 0xbad000, .length = 1},
		{.scope = SHIM_INVALIDATE_ALL},
	};
	size_t done = 77;

	/* Nothing is attached: nothing can be stale. */
	assert_int_equal(bind(f, 0x5000, 0), 0);
	assert_int_equal(shim_pt_invalidate(f->child, entries, 5, &done), 0);
	assert_int_equal(done, 5);
	assert_int_equal(shim_attach(f->dev, 4, f->child, f->reason), 0);
	assert_int_equal(shim_pt_invalidate(f->child, entries, 3, &done), 0);
	assert_int_equal(done, 3);
	assert_int_equal(hwpt(f, 4)->n_invalidated, 3);
	assert_int_equal(hwpt(f, 4)->invalidated[0].addr, 0x12345000);
	assert_int_equal(hwpt(f, 4)->invalidated[0].npages, 2);
	assert_int_equal(hwpt(f, 4)->invalidated[0].flags, IOMMU_VTD_INV_FLAGS_LEAF);
	assert_int_equal(hwpt(f, 4)->invalidated[1].addr, 0);
	assert_int_equal(hwpt(f, 4)->invalidated[1].npages, UINT64_MAX);
	assert_int_equal(hwpt(f, 4)->invalidated[2].npages, UINT64_MAX);
	assert_int_equal(shim_pt_invalidate(f->child, entries, 5, &done), -EINVAL);
	assert_int_equal(done, 3);
	entries[1].scope = SHIM_INVALIDATE_PASID_CACHE;
	assert_int_equal(shim_pt_invalidate(f->child, entries, 5, &done), SHIM_E_UNSUPPORTED);
	assert_int_equal(done, 1);
	entries[0].length = 0;
	assert_int_equal(shim_pt_invalidate(f->child, entries, 5, &done), SHIM_E_RANGE);
	assert_int_equal(done, 0);
}

static void test_invalidate_native(void **state)
{
	struct fixture *f = *state;
	struct iommufd_vtd_s1_invalidate e[] = {
		{.addr = 0x1000, .npages = 3, .flags = 1},
		{.npages = UINT64_MAX},
		{.addr = 0x1001, .npages = 1},
	};
	size_t done = 77;

	for (int attached = 0; attached < 2; attached++) {
		assert_int_equal(
			shim_pt_invalidate_native(f->child, SHIM_NATIVE_VTD_S1, e, 2, &done), 0);
		assert_int_equal(done, 2);
		assert_int_equal(
			shim_pt_invalidate_native(f->child, SHIM_NATIVE_VTD_S1, e, 3, &done),
			-EINVAL);
		assert_int_equal(done, 2);
		assert_int_equal(bind(f, 0x5000, 0), 0);
		if (!attached)
			assert_int_equal(shim_attach(f->dev, 4, f->child, f->reason), 0);
	}
	assert_int_equal(shim_pt_invalidate_native(f->child, SHIM_NATIVE_VTD_S1, e, 2, &done), 0);
	assert_memory_equal(hwpt(f, 4)->invalidated, e, 2 * sizeof(e[0]));
	assert_int_equal(shim_pt_invalidate_native(f->child, SHIM_NATIVE_SMMUV3, e, 1, &done),
			 SHIM_E_UNSUPPORTED);
	assert_int_equal(done, 0);
	assert_int_equal(shim_pt_invalidate_native(f->parent, SHIM_NATIVE_VTD_S1, e, 1, &done),
			 SHIM_E_UNSUPPORTED);
	e[0].flags = 2;
	assert_int_equal(shim_pt_invalidate_native(f->child, SHIM_NATIVE_VTD_S1, e, 2, &done),
			 -EINVAL);
	assert_int_equal(done, 0);
}

/* ---- page requests ---- */

static void test_faults(void **state)
{
	struct fixture *f = *state;
	struct shim_report reports[4];
	struct fake_context *c = fake_device(&f->fake, LARGE)->bound;
	size_t n = 77;

	assert_true(shim_ctx_report_fd(f->ctx) >= 0);
	assert_int_equal(shim_attach(f->dev, 4, f->child, f->reason), 0);
	fake_request_page(&f->fake, LARGE, 4, 0, 0x1000, false);
	fake_request_page(&f->fake, LARGE, 4, 0, 0x2000, true);
	assert_int_equal(shim_ctx_read_reports(f->ctx, reports, 4, &n), 0);
	assert_int_equal(n, 2);
	assert_ptr_equal(reports[0].dev, f->dev);
	assert_int_equal(reports[0].pasid, 4);
	assert_int_equal(reports[0].fault.address, 0x1000);
	assert_int_equal(reports[0].fault.access, SHIM_WRITE);
	assert_false(reports[0].last);
	assert_true(reports[1].last);
	assert_true(reports[1].cookie != 0);
	assert_int_equal(shim_ctx_answer(f->ctx, reports[1].cookie, true), 0);
	assert_int_equal(shim_ctx_answer(f->ctx, reports[1].cookie, true), -ENOENT);
	assert_int_equal(shim_ctx_answer(f->ctx, 0, true), -ENOENT);
	/* A group that is larger than what is asked for is cut, not lost. */
	for (int i = 0; i < 3; i++)
		fake_request_page(&f->fake, LARGE, 4, 1, 0x1000 * (uint64_t)i, i == 2);
	assert_int_equal(shim_ctx_read_reports(f->ctx, reports, 2, &n), 0);
	assert_int_equal(n, 2);
	assert_true(reports[1].last);
	assert_int_equal(shim_ctx_answer(f->ctx, reports[1].cookie, false), 0);
	assert_int_equal(c->answers[0], 1);
	assert_int_equal(c->answers[1], 1);
	/* Of a device that is no more: answered at once. */
	fake_request_page(&f->fake, LARGE, 4, 2, 0x1000, true);
	c->requests[0].fault.dev_id = 55;
	assert_int_equal(shim_ctx_read_reports(f->ctx, reports, 2, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(c->n_requests, 0);
	assert_int_equal(c->answers[1], 2);
}

/* ---- dirty pages ---- */

static uint32_t dirty(struct fixture *f, uint64_t iova, unsigned pages, bool clear)
{
	uint8_t bits[4] = {0};

	assert_int_equal(shim_pt_read_dirty(f->parent, iova, pages * K4, 12, clear, bits), 0);
	return bits[0] | (uint32_t)bits[1] << 8 | (uint32_t)bits[2] << 16;
}

static void test_dirty(void **state)
{
	struct fixture *f = *state;
	struct shim_unmap u = {8 * K4, 2 * K4};
	uint8_t bits = 0x80;
	size_t done;

	assert_int_equal(map(f, 0, 4 * K4), 0);
	assert_int_equal(map(f, 8 * K4, 2 * K4), 0);
	assert_int_equal(map(f, 10 * K4, K4), 0);
	assert_int_equal(shim_pt_track_dirty(f->parent, true, false), 0);
	assert_int_equal(bind(f, 0x1000, 0), 0);
	/* By the table itself and by one nested on it: two of the kernel's, both tracked. */
	assert_int_equal(shim_attach(f->dev, 4, f->child, f->reason), 0);
	assert_int_equal(shim_attach(f->dev, 5, f->parent, f->reason), 0);
	fake_write(&f->fake, LARGE, 4, K4);
	fake_write(&f->fake, LARGE, 5, 10 * K4);
	assert_int_equal(dirty(f, 0, 16, false), 0x402);
	assert_int_equal(dirty(f, K4, 9, true), 0x1);
	assert_int_equal(dirty(f, 0, 16, true), 0x400);
	assert_int_equal(dirty(f, 0, 16, true), 0);
	fake_write(&f->fake, LARGE, 5, 9 * K4);
	/* Pieces of two pages; bits that are there stay. */
	assert_int_equal(shim_pt_read_dirty(f->parent, 0, 16 * K4, 13, true, &bits), 0);
	assert_int_equal(bits, 0x90);
	assert_int_equal(shim_pt_track_dirty(f->parent, true, true), 0);
	assert_int_equal(shim_pt_unmap(f->parent, &u, 1, &done), 0);
	assert_int_equal(dirty(f, 0, 16, false), 0x40f);
	assert_int_equal(dirty(f, 2 * K4, 1, true), 0x1);
	assert_int_equal(dirty(f, 0, 16, false), 0x40b);
	u = (struct shim_unmap){0, 4 * K4};
	assert_int_equal(shim_pt_unmap(f->parent, &u, 1, &done), 0);
	assert_int_equal(dirty(f, 0, 16, false), 0x400);
	assert_int_equal(shim_pt_read_dirty(f->parent, K4, K4, 11, true, &bits), SHIM_E_RANGE);
	assert_int_equal(shim_pt_read_dirty(f->parent, K4, K4, 13, true, &bits), SHIM_E_RANGE);
	assert_int_equal(shim_pt_read_dirty(f->parent, K4, 0, 12, true, &bits), SHIM_E_RANGE);
	assert_int_equal(shim_pt_read_dirty(f->child, K4, K4, 12, true, &bits), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_pt_track_dirty(f->parent, false, false), 0);
	assert_int_equal(shim_pt_read_dirty(f->parent, K4, K4, 12, true, &bits),
			 SHIM_E_UNSUPPORTED);
}

/* ---- restart ---- */

struct kept {
	struct shim_saved ctx, dev, parent, child, at4, at5;
};

static void keep(struct fixture *f, struct kept *ret)
{
	shim_ctx_save(f->ctx, &ret->ctx);
	shim_dev_save(f->dev, &ret->dev);
	shim_pt_save(f->parent, &ret->parent);
	shim_pt_save(f->child, &ret->child);
	shim_attach_save(f->dev, 4, &ret->at4);
	shim_attach_save(f->dev, 5, &ret->at5);
}

static size_t restart(struct fixture *f, const struct kept *kept)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL,
				    .format = SHIM_FORMAT_KERNEL_CHOSEN,
				    .dirty_tracking = true};
	size_t strays = 77;

	shim_ctx_leave(f->ctx);
	shim_free(f->shim);
	fake_broker_is_gone(&f->fake);
	shim_on(f);
	assert_int_equal(shim_ctx_restore(f->shim, "org", &kept->ctx, &f->ctx), 0);
	assert_int_equal(shim_dev_restore(f->ctx, LARGE, &kept->dev, &f->dev), 0);
	assert_int_equal(shim_mem_register(f->ctx, 77, 0, 64 * K4, RW, &f->mem), 0);
	assert_int_equal(shim_pt_restore(f->ctx, &spec, &kept->parent, &f->parent), 0);
	spec = (struct shim_pt_spec){
		.kind = SHIM_KIND_USER, .format = SHIM_FORMAT_X86_64_4L, .faults = true};
	/* Of another kind, or without its parent. */
	assert_int_equal(shim_pt_restore(f->ctx, &spec, &kept->child, &f->child), -EINVAL);
	spec.parent = f->parent;
	assert_int_equal(shim_pt_restore(f->ctx, &spec, &kept->parent, &f->child), -EINVAL);
	assert_int_equal(shim_pt_restore(f->ctx, &spec, &kept->child, &f->child), 0);
	assert_int_equal(shim_attach_restore(f->dev, 4, f->child, &kept->at4), 0);
	assert_int_equal(shim_attach_restore(f->dev, 5, f->parent, &kept->at5), 0);
	assert_int_equal(shim_ctx_restored(f->ctx, &strays), 0);
	return strays;
}

/* The first by PASID 4 to the child, the other by PASID 5 to its parent. */
static void attach_both(struct fixture *f)
{
	assert_int_equal(shim_attach(f->dev, 4, f->child, f->reason), 0);
	assert_int_equal(shim_attach(f->dev, 5, f->parent, f->reason), 0);
}

static void test_restart(void **state)
{
	struct fixture *f = *state;
	struct shim_report report;
	struct kept kept;
	uint64_t old;
	size_t n;

	assert_int_equal(bind(f, 0x5000, SHIM_TABLE_WRITE_PROTECT), 0);
	attach_both(f);
	assert_int_equal(shim_pt_track_dirty(f->parent, true, false), 0);
	fake_request_page(&f->fake, LARGE, 4, 7, 0x1000, true);
	assert_int_equal(shim_ctx_read_reports(f->ctx, &report, 1, &n), 0);
	assert_int_equal(n, 1);
	old = report.cookie;
	keep(f, &kept);
	/* The old queue and the table with it. */
	assert_int_equal(restart(f, &kept), 1);
	assert_int_equal(hwpt(f, 4)->data.pgtbl_addr, 0x5000);
	assert_int_equal(hwpt(f, 4)->data.flags, IOMMU_VTD_S1_WPE);
	assert_true(hwpt(f, 5)->tracked);
	assert_true(fake_device(&f->fake, LARGE)->bound->objects[hwpt(f, 4)->parent].tracked);
	/* A queue that somebody reads. */
	fake_request_page(&f->fake, LARGE, 4, 8, 0x2000, true);
	assert_int_equal(shim_ctx_read_reports(f->ctx, &report, 1, &n), 0);
	assert_int_equal(n, 1);
	assert_ptr_equal(report.dev, f->dev);
	assert_int_equal(report.group, 8);
	assert_int_equal(shim_ctx_answer(f->ctx, report.cookie, true), 0);
	assert_int_equal(shim_ctx_answer(f->ctx, old, true), -ENOENT);
	/* And once more, by what is saved now. */
	keep(f, &kept);
	restart(f, &kept);
	assert_int_equal(hwpt(f, 4)->data.pgtbl_addr, 0x5000);
	assert_int_equal(bind(f, 0x6000, 0), 0);
	assert_int_equal(hwpt(f, 4)->data.pgtbl_addr, 0x6000);
}

/* What was saved of an attachment is older than the last bind. */
static void test_restart_after_bind(void **state)
{
	static const uint64_t steps[][2] = {
		{0, 0x5000}, {0x5000, 0}, {0x5000, 0x6000}, {0x6000, 0x5000}, {0, 0x6000},
	};
	struct fixture *f = *state;
	struct kept kept;

	attach_both(f);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct shim_table from = {.root = steps[i][0]}, to = {.root = steps[i][1]};

		assert_int_equal(shim_pt_bind_table(f->child, from.root ? &from : NULL, f->reason),
				 0);
		keep(f, &kept);
		assert_int_equal(shim_pt_bind_table(f->child, to.root ? &to : NULL, f->reason), 0);
		shim_pt_save(f->child, &kept.child);
		restart(f, &kept);
		assert_int_equal(!!hwpt(f, 4)->parent, !!to.root);
		assert_int_equal(hwpt(f, 4)->data.pgtbl_addr, to.root);
		assert_int_equal(hwpt(f, 5)->parent, 0);
		assert_int_equal(hwpt(f, 5)->users, 1);
	}
}

/* And the kernel has given its number to another table since. */
static void test_restart_after_bind_and_reuse(void **state)
{
	struct fixture *f = *state;
	struct shim_saved old;
	struct kept kept;
	struct fake_object *first;
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_USER, .format = SHIM_FORMAT_X86_64_4L, .parent = f->parent};

	/* One with page requests would be moved in any case. */
	shim_pt_destroy(f->child);
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &f->child), 0);
	assert_int_equal(bind(f, 0x5000, 0), 0);
	assert_int_equal(shim_attach(f->dev, 4, f->child, f->reason), 0);
	first = hwpt(f, 4);
	shim_attach_save(f->dev, 4, &old);
	assert_int_equal(bind(f, 0x6000, 0), 0);
	assert_int_equal(shim_attach(f->dev, 5, f->parent, f->reason), 0);
	assert_ptr_equal(hwpt(f, 5), first);
	keep(f, &kept);
	kept.at4 = old;
	restart(f, &kept);
	assert_int_equal(hwpt(f, 4)->data.pgtbl_addr, 0x6000);
	assert_true(hwpt(f, 4)->parent);
	assert_int_equal(hwpt(f, 5)->parent, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_create),
		T(test_bind),
		T(test_bind_fails_half_way),
		T(test_invalidate),
		T(test_invalidate_native),
		T(test_faults),
		T(test_dirty),
		T(test_restart),
		T(test_restart_after_bind),
		T(test_restart_after_bind_and_reuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
