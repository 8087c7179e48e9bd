/* SPDX-License-Identifier: Apache-2.0 */

/* Kind USER behind an SMMUv3, on the model of the kernel. */

#include "fake.h"

#include "iommufd/smmuv3_tables.h"

#include <errno.h>
#include <stdio.h>

#define G1    (UINT64_C(1) << 30)
#define RW    (SHIM_READ | SHIM_WRITE)
#define DEV   "0000:00:03.0"
#define DEV2  "0001:02:04.1"
#define ROOT  UINT64_C(0x100001000)
#define ROOT2 UINT64_C(0x100008000)
#define TBL   ((const struct shim_table *)&(const struct shim_table){.root = ROOT})
#define FIRST 0xffff /* the ASID of the first table */

struct fixture {
	struct fake fake;
	struct fake_tree tree;
	struct shim *shim;
	struct shim_ctx *ctx;
	struct shim_mem *mem;
	struct shim_dev *dev, *dev2;
	struct shim_pt *parent, *user;
	char reason[SHIM_REASON_MAX];
};

static struct shim *shim_on(struct fixture *f)
{
	struct iommufd_problem problem = {0};
	struct iommufd_sys sys = fake_sys(&f->fake);
	struct shim *shim = NULL;

	if (iommufd_shim_new_on(&sys, &iommufd_backend_vfio, f->tree.root, &shim, &problem))
		fail_msg("%s", problem.message);
	return shim;
}

static int user_table(struct fixture *f, const struct shim_table *table, struct shim_pt **ret_pt)
{
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_USER,
		.format = SHIM_FORMAT_ARMV8_S1_4K,
		.input_bits = 39,
		.parent = f->parent,
		.table = table,
		.devices = &f->dev,
		.n_devices = 1,
	};

	return shim_pt_create(f->ctx, &spec, f->reason, ret_pt);
}

static void open_all(struct fixture *f)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	struct shim_map map = {.iova = 4 * G1, .length = G1, .prot = RW};

	assert_int_equal(shim_ctx_new(f->shim, "org", f->reason, &f->ctx), 0);
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV, f->reason, &f->dev), 0);
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV2, f->reason, &f->dev2), 0);
	assert_int_equal(shim_mem_register(f->ctx, 77, 0, 4 * G1, RW, &f->mem), 0);
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &f->parent), 0);
	map.mem = f->mem;
	assert_int_equal(shim_pt_map(f->parent, &map, 1, NULL), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fake_init_arm(&f->fake);
	fake_tree_arm(&f->tree);
	f->shim = shim_on(f);
	/* What it looked at is given back. */
	fake_expect_empty(&f->fake);
	open_all(f);
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

/* Where the device's descriptor is by its vSTE, if it is a table's. */
static const uint64_t *descriptor_of(struct fixture *f, const char *address)
{
	const uint64_t *ste = fake_ste(&f->fake, address);

	assert_non_null(ste);
	assert_int_equal(ste[0] & 0xf, 0xb); /* V, stage 1 */
	return fake_descriptor(&f->fake, ste[0] & 0xfffffffffffc0);
}

static void expect_table(struct fixture *f, const char *address, uint64_t root)
{
	const uint64_t *cd = descriptor_of(f, address);

	assert_int_equal(cd[1], root);
	assert_int_equal(cd[0] >> 31 & 1, 1);
}

static uint16_t asid_at(struct fixture *f, const char *address)
{
	return (uint16_t)(descriptor_of(f, address)[0] >> 48);
}

/* Whether the command was given since mark. */
static bool was_given(const struct fixture *f, size_t mark, struct smmuv3_command c)
{
	for (size_t i = mark; i < f->fake.n_commands; i++)
		if (!memcmp(&f->fake.commands[i], &c, sizeof(c)))
			return true;
	return false;
}

static void test_probe(void **state)
{
	struct fixture *f = *state;
	const struct shim_device_info *info = shim_device_info(f->shim, 0);
	struct shim *shim;

	assert_string_equal(info->caps.kind_absent[SHIM_KIND_USER], "");
	assert_int_equal(info->caps.n_reserved, 2);
	assert_string_equal(info->caps.reserved[0].use, "msi");
	assert_string_equal(info->caps.reserved[1].use, "broker");
	assert_int_equal(info->caps.reserved[1].start, SMMUV3_WINDOW);
	shim_ctx_free(f->ctx);
	/* Firmware that does not say what the kernel must know. */
	f->fake.no_canwbs = true;
	shim = shim_on(f);
	info = shim_device_info(shim, 0);
	assert_non_null(strstr(info->caps.kind_absent[SHIM_KIND_USER], "CANWBS"));
	assert_int_equal(info->caps.n_formats, 1);
	assert_int_equal(info->caps.n_reserved, 1);
	shim_free(shim);
	f->fake.no_canwbs = false;
	/* Both are somebody's: nothing is known. */
	f->fake.devices[0].claimed = f->fake.devices[1].claimed = true;
	shim = shim_on(f);
	info = shim_device_info(shim, 0);
	assert_non_null(strstr(info->caps.kind_absent[SHIM_KIND_USER], "sysfs does not tell"));
	shim_free(shim);
	f->fake.devices[0].claimed = f->fake.devices[1].claimed = false;
	open_all(f);
}

static void test_bind(void **state)
{
	struct fixture *f = *state;
	struct shim_table other = {.root = ROOT2};
	size_t mark;

	assert_int_equal(user_table(f, NULL, &f->user), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason), 0);
	assert_int_equal(fake_ste(&f->fake, DEV)[0], 1);
	assert_int_equal(f->fake.devices[0].number, 0x18);
	assert_int_equal(shim_attach(f->dev2, SHIM_NO_PASID, f->user, f->reason), 0);
	assert_int_equal(f->fake.devices[1].number, 0x10221);
	assert_int_equal(shim_pt_bind_table(f->user, TBL, f->reason), 0);
	expect_table(f, DEV, ROOT);
	expect_table(f, DEV2, ROOT);
	assert_int_equal(asid_at(f, DEV), FIRST);
	/* Another one: another descriptor, and nothing of the first stays cached. */
	mark = f->fake.n_commands;
	assert_int_equal(shim_pt_bind_table(f->user, &other, f->reason), 0);
	expect_table(f, DEV2, ROOT2);
	assert_int_equal(asid_at(f, DEV), FIRST - 1);
	assert_true(was_given(f, mark, smmuv3_tlbi_asid(FIRST)));
	assert_int_equal(shim_pt_bind_table(f->user, NULL, f->reason), 0);
	assert_int_equal(fake_ste(&f->fake, DEV2)[0], 1);
	/* The number is free again. */
	assert_int_equal(shim_pt_bind_table(f->user, TBL, f->reason), 0);
	assert_int_equal(asid_at(f, DEV), FIRST);
	mark = f->fake.n_commands;
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), 0);
	assert_int_equal(f->fake.n_commands, mark);
	assert_int_equal(shim_detach(f->dev2, SHIM_NO_PASID), 0);
	assert_true(was_given(f, mark, smmuv3_tlbi_asid(FIRST)));
	shim_pt_destroy(f->user);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct shim_table table = {.root = ROOT + 8};
	struct shim_pasid_table cds = {.format = SHIM_PASID_SMMUV3_CD, .root = ROOT};
	struct shim_pt *pt = NULL;
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_ARMV8_S1_4K};
	struct shim_map map = {.iova = 0, .length = 4096, .mem = f->mem, .prot = RW};

	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_UNSUPPORTED);
	assert_int_equal(user_table(f, &table, &pt), SHIM_E_RANGE);
	table.root = UINT64_C(1) << 44;
	assert_int_equal(user_table(f, &table, &pt), SHIM_E_RANGE);
	assert_int_equal(user_table(f, NULL, &f->user), 0);
	assert_int_equal(shim_pt_map(f->user, &map, 1, NULL), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_attach(f->dev, 3, f->user, f->reason), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_pt_bind_pasid_table(f->user, &cds, f->reason), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason), 0);
	assert_int_equal(fake_ste(&f->fake, DEV)[0], ROOT | 0xb);
	cds.pasid_bits = 1;
	cds.root = ROOT;
	assert_int_equal(shim_pt_bind_pasid_table(f->user, &cds, f->reason), SHIM_E_INCOMPATIBLE);
	assert_int_equal(fake_ste(&f->fake, DEV)[0], ROOT | 0xb);
	cds.root = ROOT + 64;
	assert_int_equal(shim_pt_bind_pasid_table(f->user, &cds, f->reason), SHIM_E_RANGE);
	cds.shape = 3;
	assert_int_equal(shim_pt_bind_pasid_table(f->user, &cds, f->reason), SHIM_E_UNSUPPORTED);
	/* A parent with a child is not destroyed. */
	shim_pt_destroy(f->parent);
	assert_int_equal(shim_pt_bind_table(f->user, TBL, f->reason), 0);
	expect_table(f, DEV, ROOT);
}

static void test_invalidate(void **state)
{
	struct fixture *f = *state;
	struct shim_invalidate e[3] = {
		{.scope = SHIM_INVALIDATE_RANGE, .iova = 0x1fff, .length = 2, .leaf = true},
		{.scope = SHIM_INVALIDATE_DEVICE_TLB},
		{.scope = SHIM_INVALIDATE_ALL}};
	struct shim_pasid_table cds = {.format = SHIM_PASID_SMMUV3_CD, .root = ROOT};
	struct smmuv3_command native[300];
	size_t done = 7, mark;

	assert_int_equal(user_table(f, TBL, &f->user), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason), 0);
	mark = f->fake.n_commands;
	assert_int_equal(shim_pt_invalidate(f->user, e, 3, &done), SHIM_E_UNSUPPORTED);
	assert_int_equal(done, 1);
	assert_int_equal(f->fake.n_commands, mark + 2);
	assert_true(was_given(f, mark, smmuv3_tlbi_va(FIRST, 0x1000, true)));
	assert_true(was_given(f, mark, smmuv3_tlbi_va(FIRST, 0x2000, true)));
	e[0].length = 65 * 4096;
	mark = f->fake.n_commands;
	assert_int_equal(shim_pt_invalidate(f->user, e, 1, &done), 0);
	assert_int_equal(f->fake.n_commands, mark + 1);
	assert_true(was_given(f, mark, smmuv3_tlbi_asid(FIRST)));
	e[0].iova = UINT64_C(1) << 39;
	assert_int_equal(shim_pt_invalidate(f->user, e, 1, &done), SHIM_E_RANGE);
	assert_int_equal(done, 0);

	for (size_t i = 0; i < 300; i++)
		native[i] = smmuv3_tlbi_all();
	mark = f->fake.n_commands;
	assert_int_equal(shim_pt_invalidate_native(f->user, SHIM_NATIVE_SMMUV3, native, 300, &done),
			 0);
	assert_int_equal(done, 300);
	assert_int_equal(f->fake.n_commands, mark + 300);
	native[270] = smmuv3_cfgi_cd(0x19, 0);
	assert_int_equal(shim_pt_invalidate_native(f->user, SHIM_NATIVE_SMMUV3, native, 300, &done),
			 -EINVAL);
	assert_int_equal(done, 270);
	native[5].word[0] = 0x40;
	assert_int_equal(shim_pt_invalidate_native(f->user, SHIM_NATIVE_SMMUV3, native, 300, &done),
			 -EINVAL);
	assert_int_equal(done, 5);
	assert_int_equal(shim_pt_invalidate_native(f->user, SHIM_NATIVE_VTD_S1, native, 1, &done),
			 SHIM_E_UNSUPPORTED);

	assert_int_equal(shim_pt_bind_pasid_table(f->user, &cds, f->reason), 0);
	mark = f->fake.n_commands;
	e[0] = (struct shim_invalidate){.scope = SHIM_INVALIDATE_PASID_CACHE, .pasid = 5};
	e[1] = (struct shim_invalidate){.scope = SHIM_INVALIDATE_PASID_CACHE,
					.pasid = SHIM_NO_PASID};
	assert_int_equal(shim_pt_invalidate(f->user, e, 3, &done), 0);
	assert_int_equal(done, 3);
	assert_true(was_given(f, mark, smmuv3_cfgi_cd(0x18, 5)));
	assert_true(was_given(f, mark, smmuv3_cfgi_cd_all(0x18)));
	assert_true(was_given(f, mark, smmuv3_tlbi_all()));
}

static void put_event(struct fake *fake, uint32_t flags, uint32_t sequence, uint64_t first)
{
	struct iommufd_vevent_header header = {.flags = flags, .sequence = sequence};
	struct iommufd_vevent_arm_smmuv3 event = {{first, 0x0000020800000000, 0x5000, 0}};

	memcpy(fake->events + fake->n_events, &header, sizeof(header));
	fake->n_events += sizeof(header);
	if (flags)
		return;
	memcpy(fake->events + fake->n_events, &event, sizeof(event));
	fake->n_events += sizeof(event);
}

static void test_events(void **state)
{
	struct fixture *f = *state;
	struct shim_report r[8];
	size_t n = 9;

	assert_int_equal(shim_ctx_report_fd(f->ctx), -1);
	assert_int_equal(shim_ctx_read_reports(f->ctx, r, 8, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(user_table(f, TBL, &f->user), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason), 0);
	assert_true(shim_ctx_report_fd(f->ctx) >= 0);
	put_event(&f->fake, 0, 0, 0x0000001800000010);
	/* Of a stream that is no device's, after three that were lost. */
	put_event(&f->fake, 0, 4, 0x0000007700000010);
	put_event(&f->fake, 0, 5, 0x0000001800000013);
	/* And two at the end. */
	put_event(&f->fake, IOMMU_VEVENTQ_FLAG_LOST_EVENTS, 7, 0);
	assert_int_equal(shim_ctx_read_reports(f->ctx, r, 8, &n), 0);
	assert_int_equal(n, 2);
	assert_ptr_equal(r[0].dev, f->dev);
	assert_int_equal(r[0].lost, 0);
	assert_int_equal(r[0].cookie, 0);
	assert_int_equal(r[1].fault.cause, SHIM_FAULT_PERMISSION);
	assert_int_equal(r[1].lost, 3);
	put_event(&f->fake, 0, 8, 0x0000001800000010);
	assert_int_equal(shim_ctx_read_reports(f->ctx, r, 8, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(r[0].lost, 2);
	assert_int_equal(shim_ctx_answer(f->ctx, 1, true), -ENOENT);
}

/* One descriptor, and one read, for what both queues of a context have. */
static void test_events_and_requests(void **state)
{
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN, .faults = true};
	struct fixture *f = *state;
	struct fake_device *d = fake_device(&f->fake, DEV);
	struct shim_report r[4];
	struct shim_pt *asks;
	size_t n = 9;
	int fd;

	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &asks), 0);
	fd = shim_ctx_report_fd(f->ctx);
	assert_true(fd >= 0);
	assert_int_equal(user_table(f, TBL, &f->user), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason), 0);
	assert_int_equal(shim_ctx_report_fd(f->ctx), fd);
	assert_int_equal(f->fake.polls, 1);
	assert_int_equal(f->fake.watched, 2);
	put_event(&f->fake, 0, 0, 0x0000001800000010);
	/* No device here asks by itself. */
	d->bound->requests[d->bound->n_requests++] = (struct fake_request){
		.fault = {.flags = IOMMU_PGFAULT_FLAGS_LAST_PAGE, .dev_id = d->id, .cookie = 1}};
	assert_int_equal(shim_ctx_read_reports(f->ctx, r, 4, &n), 0);
	assert_int_equal(n, 2);
	assert_true(r[0].fault.recoverable && !r[1].fault.recoverable);
	assert_ptr_equal(r[1].dev, f->dev);
	assert_int_equal(shim_ctx_answer(f->ctx, r[0].cookie, false), 0);
	/* Behind an SMMUv3 the table itself is for no device. */
	assert_int_equal(shim_replace(f->dev, SHIM_NO_PASID, asks, f->reason), SHIM_E_INCOMPATIBLE);
	shim_pt_destroy(asks);
}

/* ---- failures ---- */

/* Every call of it fails once: what was bound stays, and everything can be given back. */
static void test_bind_fails(void **state)
{
	struct fixture *f = *state;
	struct shim_table other = {.root = ROOT2};
	uint64_t nth;
	int r = -1;

	assert_int_equal(user_table(f, TBL, &f->user), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason), 0);
	assert_int_equal(shim_attach(f->dev2, SHIM_NO_PASID, f->user, f->reason), 0);
	for (nth = 1; nth < 100; nth++) {
		fake_arm(&f->fake, nth, -ENOMEM);
		r = shim_pt_bind_table(f->user, &other, f->reason);
		if (!f->fake.failed)
			break;
		fake_disarm(&f->fake);
		if (r) {
			assert_int_equal(r, -ENOMEM);
			expect_table(f, DEV, ROOT);
			expect_table(f, DEV2, ROOT);
		} else {
			expect_table(f, DEV2, ROOT2);
			assert_int_equal(shim_pt_bind_table(f->user, TBL, f->reason), 0);
		}
	}
	assert_int_equal(r, 0);
	assert_in_range(nth, 4, 50);
	expect_table(f, DEV, ROOT2);
}

static void test_attach_fails(void **state)
{
	struct fixture *f = *state;
	uint64_t nth;
	int r = -1;

	for (nth = 1; nth < 100; nth++) {
		fake_arm(&f->fake, nth, -ENOMEM);
		r = user_table(f, TBL, &f->user);
		if (!r)
			r = shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason);
		if (!f->fake.failed)
			break;
		fake_disarm(&f->fake);
		if (r)
			assert_int_equal(r, -ENOMEM);
		/* From the start. */
		shim_ctx_free(f->ctx);
		f->user = NULL;
		fake_expect_empty(&f->fake);
		open_all(f);
	}
	assert_int_equal(r, 0);
	assert_in_range(nth, 6, 50);
	expect_table(f, DEV, ROOT);
}

/* A device that goes to the child of another parent has its vDEVICE there, or where it was. */
static void test_two_parents(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *first = f->parent, *user2 = NULL;
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	uint64_t nth;
	int r = -1;

	assert_int_equal(user_table(f, TBL, &f->user), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason), 0);
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &f->parent), 0);
	assert_int_equal(user_table(f, NULL, &user2), 0);
	for (nth = 1; nth < 100; nth++) {
		fake_arm(&f->fake, nth, -ENOMEM);
		r = shim_replace(f->dev, SHIM_NO_PASID, user2, f->reason);
		if (!f->fake.failed || !r)
			break;
		fake_disarm(&f->fake);
		assert_int_equal(shim_pt_bind_table(f->user, TBL, f->reason), 0);
		expect_table(f, DEV, ROOT);
	}
	fake_disarm(&f->fake);
	assert_int_equal(r, 0);
	assert_int_equal(fake_ste(&f->fake, DEV)[0], 1);
	shim_pt_destroy(f->user);
	shim_pt_destroy(first);
	f->user = user2;
}

/* ---- restart ---- */

static void test_restart(void **state)
{
	struct fixture *f = *state;
	struct shim_saved ctx, dev, dev2, parent, user, attachment;
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	struct shim_map map = {.iova = 4 * G1, .length = G1, .prot = RW};
	size_t strays;

	assert_int_equal(user_table(f, TBL, &f->user), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, f->user, f->reason), 0);
	/* Twice: the page of descriptors changes places. */
	for (int i = 0; i < 3; i++) {
		unsigned disturbed;

		shim_ctx_save(f->ctx, &ctx);
		shim_dev_save(f->dev, &dev);
		shim_dev_save(f->dev2, &dev2);
		shim_pt_save(f->parent, &parent);
		shim_pt_save(f->user, &user);
		shim_attach_save(f->dev, SHIM_NO_PASID, &attachment);
		shim_ctx_leave(f->ctx);
		shim_free(f->shim);
		/* All devices are somebody's: nothing can be probed. */
		f->shim = shim_on(f);
		disturbed = f->fake.devices[0].disturbed;
		assert_int_equal(shim_ctx_restore(f->shim, "org", &ctx, &f->ctx), 0);
		assert_int_equal(shim_dev_restore(f->ctx, DEV, &dev, &f->dev), 0);
		assert_int_equal(shim_dev_restore(f->ctx, DEV2, &dev2, &f->dev2), 0);
		assert_string_equal(shim_device_info(f->shim, 0)->caps.kind_absent[SHIM_KIND_USER],
				    "");
		assert_int_equal(shim_mem_register(f->ctx, 77, 0, 4 * G1, RW, &f->mem), 0);
		spec.kind = SHIM_KIND_KERNEL;
		spec.format = SHIM_FORMAT_KERNEL_CHOSEN;
		spec.parent = NULL;
		assert_int_equal(shim_pt_restore(f->ctx, &spec, &parent, &f->parent), 0);
		spec.kind = SHIM_KIND_USER;
		spec.format = SHIM_FORMAT_ARMV8_S1_4K;
		spec.parent = f->parent;
		assert_int_equal(shim_pt_restore(f->ctx, &spec, &user, &f->user), 0);
		map.mem = f->mem;
		assert_int_equal(shim_pt_restore_map(f->parent, &map, 1), 0);
		assert_int_equal(shim_attach_restore(f->dev, SHIM_NO_PASID, f->user, &attachment),
				 0);
		assert_int_equal(f->fake.devices[0].disturbed, disturbed);
		assert_int_equal(shim_ctx_restored(f->ctx, &strays), 0);
		assert_int_equal(strays, 5);
		expect_table(f, DEV, ROOT);
		/* One page of descriptors, and four chunks. */
		assert_int_equal(fake_areas(&f->fake), 1 + 4);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_probe),      TEST(test_bind),		TEST(test_refused),
		TEST(test_invalidate), TEST(test_events),	TEST(test_events_and_requests),
		TEST(test_bind_fails), TEST(test_attach_fails), TEST(test_two_parents),
		TEST(test_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
