/* SPDX-License-Identifier: Apache-2.0 */

/* The contract of shim.h on the model of the kernel, from one thread. */

#include "fake.h"

#include <errno.h>
#include <stdio.h>

#define K4	(UINT64_C(1) << 12)
#define G1	(UINT64_C(1) << 30)
#define RW	(SHIM_READ | SHIM_WRITE)
#define DEV	"0000:00:03.0"
#define DEV2	"0000:01:00.0"
#define GROUP_A "0000:03:01.0"
#define GROUP_B "0000:03:02.0"
#define LARGE	"0000:81:00.0"

struct fixture {
	struct fake fake;
	struct fake_tree tree;
	struct shim *shim;
	struct shim_ctx *ctx;
	struct shim_mem *mem;
	struct shim_dev *dev;
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

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fake_init(&f->fake);
	fake_tree_standard(&f->tree);
	f->shim = shim_on(f);
	fake_expect_empty(&f->fake);
	assert_int_equal(shim_ctx_new(f->shim, "org", f->reason, &f->ctx), 0);
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV, f->reason, &f->dev), 0);
	assert_int_equal(shim_mem_register(f->ctx, 77, 0, 4 * G1, RW, &f->mem), 0);
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
	assert_true(f->fake.ended);
	fake_tree_free(&f->tree);
	free(f);
	return 0;
}

static struct shim_pt *pt_of(struct fixture *f, enum shim_format format)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = format};
	struct shim_pt *pt = NULL;

	if (shim_pt_create(f->ctx, &spec, f->reason, &pt))
		fail_msg("%s", f->reason);
	return pt;
}

static int map(struct fixture *f, struct shim_pt *pt, uint64_t iova, uint64_t length, uint32_t prot)
{
	struct shim_map m = {.iova = iova, .length = length, .mem = f->mem, .prot = prot};

	return shim_pt_map(pt, &m, 1, NULL);
}

static int unmap(struct shim_pt *pt, uint64_t iova, uint64_t length)
{
	struct shim_unmap u = {iova, length};
	size_t done = 77;
	int r = shim_pt_unmap(pt, &u, 1, &done);

	assert_int_equal(done, !r);
	return r;
}

/* ---- the shim ---- */

static void test_start(void **state)
{
	struct fixture *f = *state;
	struct iommufd_problem problem;
	struct iommufd_sys sys = fake_sys(&f->fake);
	struct shim *shim = NULL;

	assert_true(f->shim->ops->blocks);
	assert_true(f->shim->ops->asks_host_use);
	assert_null(f->shim->ops->dma);
	assert_int_equal(shim_device_count(f->shim), 5);
	assert_null(shim_device_info(f->shim, 5));
	assert_non_null(strstr(iommufd_shim_describe(f->shim), "devices: 5, IOMMUs: 2"));
	/* What the shim cannot do without. */
	f->fake.missing = 1u << 0xf;
	assert_int_equal(
		iommufd_shim_new_on(&sys, &iommufd_backend_vfio, f->tree.root, &shim, &problem),
		IOMMUFD_E_KERNEL);
	assert_string_equal(problem.message, "this kernel has no IOMMU_IOAS_MAP_FILE (Linux 6.13)");
	/* What it can do without. */
	f->fake.missing = 1u << 0xa | 1u << 9 | 1u << 0x13;
	shim = shim_on(f);
	assert_non_null(strstr(iommufd_shim_describe(shim), "no GET_HW_INFO"));
	shim_free(shim);
	f->fake.missing = 0;
	fake_arm(&f->fake, 1, -ECONNREFUSED);
	assert_int_equal(
		iommufd_shim_new_on(&sys, &iommufd_backend_vfio, f->tree.root, &shim, &problem),
		IOMMUFD_E_KEEPER);
	fake_arm(&f->fake, 1, KEEPER_E_UNSUPPORTED);
	assert_int_equal(
		iommufd_shim_new_on(&sys, &iommufd_backend_vfio, f->tree.root, &shim, &problem),
		IOMMUFD_E_KERNEL);
	assert_string_equal(problem.message, "the keeper opens no context: for a reason");
}

/* ---- devices ---- */

static void test_bind(void **state)
{
	struct fixture *f = *state;
	const char *both[] = {GROUP_A, GROUP_B}, *twice[] = {GROUP_A, GROUP_A};
	const char *wrong[] = {GROUP_A, "0000:99:00.0"};
	struct shim_dev *devs[2] = {0}, *other = NULL;
	struct shim_ctx *ctx;

	assert_int_equal(shim_dev_bind(f->ctx, wrong, 2, f->reason, devs), SHIM_E_NO_DEVICE);
	assert_string_equal(f->reason, "0000:99:00.0: no such device");
	assert_int_equal(shim_dev_bind(f->ctx, twice, 2, f->reason, devs), SHIM_E_DEVICE_BUSY);
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV, NULL, &other), SHIM_E_DEVICE_BUSY);
	assert_null(devs[0]);
	assert_int_equal(shim_dev_bind(f->ctx, both, 2, f->reason, devs), 0);
	assert_true(devs[0] && devs[1]);
	assert_int_equal(shim_ctx_new(f->shim, "org/two", NULL, &ctx), 0);
	assert_int_equal(shim_dev_bind_one(ctx, GROUP_B, f->reason, &other), SHIM_E_DEVICE_BUSY);
	assert_string_equal(f->reason, GROUP_B ": claimed");
	shim_dev_release(devs[0]);
	shim_dev_release(devs[1]);
	assert_int_equal(shim_dev_bind(ctx, both, 2, f->reason, devs), 0);
	shim_ctx_free(ctx);
	assert_int_equal(shim_dev_is_free(f->shim, GROUP_A), 0);
	assert_int_equal(shim_dev_is_free(f->shim, DEV), SHIM_E_DEVICE_BUSY);
	assert_int_equal(shim_dev_is_free(f->shim, "0000:99:00.0"), SHIM_E_NO_DEVICE);
}

static void test_bind_says_why_not(void **state)
{
	static const struct {
		unsigned long request;
		int error, expected;
	} cases[] = {
		{FAKE_KEEPER, KEEPER_E_NOT_FOUND, SHIM_E_NO_DEVICE},
		{FAKE_KEEPER, KEEPER_E_BUSY, SHIM_E_DEVICE_BUSY},
		{FAKE_KEEPER, KEEPER_E_FORBIDDEN, SHIM_E_REFUSED},
		{FAKE_KEEPER, KEEPER_E_GROUP, SHIM_E_REFUSED},
		{FAKE_KEEPER, KEEPER_E_LIMIT, SHIM_E_LIMIT},
		{FAKE_KEEPER, KEEPER_E_UNSUPPORTED, SHIM_E_REFUSED},
		{FAKE_KEEPER, -EPIPE, -EPIPE},
		{VFIO_CDEV_BIND_IOMMUFD, -EPERM, SHIM_E_REFUSED},
		{VFIO_CDEV_BIND_IOMMUFD, -EINVAL, SHIM_E_DEVICE_BUSY},
		{VFIO_CDEV_BIND_IOMMUFD, -EBUSY, SHIM_E_DEVICE_BUSY},
		{VFIO_CDEV_BIND_IOMMUFD, -ENODEV, SHIM_E_NO_DEVICE},
		{VFIO_CDEV_BIND_IOMMUFD, -ENOMEM, -ENOMEM},
		{IOMMU_GET_HW_INFO, -EIO, -EIO},
		{IOMMU_GET_HW_INFO, -EOPNOTSUPP, 0},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct shim_dev *dev = NULL;

		f->reason[0] = '\0';
		f->fake.only = cases[i].request;
		fake_arm(&f->fake, 1, cases[i].error);
		assert_int_equal(shim_dev_bind_one(f->ctx, DEV2, f->reason, &dev),
				 cases[i].expected);
		fake_disarm(&f->fake);
		if (cases[i].expected > 0)
			assert_true(f->reason[0]);
		if (dev)
			shim_dev_release(dev);
		assert_int_equal(shim_dev_is_free(f->shim, DEV2), 0);
	}
}

/* A keeper that was started anew without its fds knows the device, and not the context. */
static void test_bind_in_a_lost_context(void **state)
{
	struct fixture *f = *state;
	struct shim_ctx *ctx = NULL;
	struct shim_dev *dev = NULL;
	struct fake_context *lost;

	assert_int_equal(shim_ctx_new(f->shim, "t", f->reason, &ctx), 0);
	lost = &f->fake.contexts[1];
	assert_true(lost->kept);
	lost->kept = false;
	assert_int_equal(shim_dev_bind_one(ctx, DEV2, f->reason, &dev), SHIM_E_GONE);
	assert_non_null(strstr(f->reason, "started anew"));
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV2, f->reason, &dev), 0);
	shim_dev_release(dev);
	lost->kept = true;
	shim_ctx_free(ctx);
}

static void test_hw_info_contradicts(void **state)
{
	struct fixture *f = *state;
	struct fake_device *d = fake_device(&f->fake, DEV2);
	struct shim_dev *dev = NULL;

	d->ecap ^= 1 << 7;
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV2, f->reason, &dev), SHIM_E_REFUSED);
	assert_string_equal(f->reason, DEV2 ": dmar0 has CAP d2008c22260286 ECAP f00f4a by sysfs, "
					    "d2008c22260286 f00fca by the kernel");
	d->ecap ^= 1 << 7;
	d->hw_type = 2;
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV2, f->reason, &dev), SHIM_E_REFUSED);
	assert_null(dev);
	assert_int_equal(shim_dev_is_free(f->shim, DEV2), 0);
}

/* A tenant with the device's descriptor, after release: no DMA, not free until it closes. */
static void test_release_while_held(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *pt = pt_of(f, SHIM_FORMAT_VTDSS_3L);
	struct shim_dev *other = NULL;
	struct shim_ctx *ctx;
	int fd = -1;

	assert_int_equal(map(f, pt, 0, K4, RW), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, pt, f->reason), 0);
	assert_int_equal(shim_dev_fd(f->dev, &fd), 0);
	assert_true(fake_reaches(&f->fake, DEV, 0));
	shim_dev_release(f->dev);
	assert_false(fake_reaches(&f->fake, DEV, 0));
	assert_int_equal(shim_dev_is_free(f->shim, DEV), SHIM_E_DEVICE_BUSY);
	assert_int_equal(shim_ctx_new(f->shim, "org/two", NULL, &ctx), 0);
	assert_int_equal(shim_dev_bind_one(ctx, DEV, f->reason, &other), SHIM_E_DEVICE_BUSY);
	/* The table's life ends with nothing attached that it knows of. */
	shim_pt_destroy(pt);
	fake_tenant_close(&f->fake, fd);
	assert_int_equal(shim_dev_is_free(f->shim, DEV), 0);
	assert_int_equal(shim_dev_bind_one(ctx, DEV, f->reason, &other), 0);
	shim_ctx_free(ctx);
}

/* The end of a context is a revocation, even if the holder attaches while it goes on. */
static void test_ctx_free_while_held(void **state)
{
	for (unsigned times = 0; times < 20; times++) {
		struct fixture *f = *state;
		struct shim_dev *dev;
		struct shim_ctx *ctx = f->ctx;
		struct shim_pt *pt;
		uint32_t ioas;
		int fd;

		assert_int_equal(shim_ctx_new(f->shim, "org/two", NULL, &f->ctx), 0);
		pt = pt_of(f, SHIM_FORMAT_VTDSS_3L);
		assert_int_equal(shim_dev_bind_one(f->ctx, DEV2, f->reason, &dev), 0);
		assert_int_equal(shim_mem_register(f->ctx, 77, 0, G1, RW, &f->mem), 0);
		assert_int_equal(map(f, pt, 0, G1, RW), 0);
		assert_int_equal(shim_dev_fd(dev, &fd), 0);
		if (times % 2)
			assert_int_equal(shim_attach(dev, SHIM_NO_PASID, pt, NULL), 0);
		ioas = iommufd_pt_of(pt)->ioas;
		f->fake.hostile = fake_device(&f->fake, DEV2);
		f->fake.hostile_pt = ioas;
		f->fake.hostile_times = times;
		shim_ctx_free(f->ctx);
		f->ctx = ctx;
		f->fake.hostile = NULL;
		/* Whatever is left has nothing in it, and cannot get anything. */
		(void)fake_tenant_attach(&f->fake, fake_device(&f->fake, DEV2), ioas);
		assert_false(fake_reaches(&f->fake, DEV2, 0));
		assert_int_equal(fake_areas(&f->fake), 0);
		assert_int_equal(shim_dev_is_free(f->shim, DEV2), SHIM_E_DEVICE_BUSY);
		fake_tenant_close(&f->fake, fd);
		assert_int_equal(shim_dev_is_free(f->shim, DEV2), 0);
	}
}

/* What the record says is put right before a table is given up. */
static void test_destroy_against_a_hostile_holder(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *a = pt_of(f, SHIM_FORMAT_VTDSS_3L), *b = pt_of(f, SHIM_FORMAT_VTDSS_3L);
	struct fake_device *d = fake_device(&f->fake, DEV);
	uint32_t ioas_a = iommufd_pt_of(a)->ioas, ioas_b = iommufd_pt_of(b)->ioas;

	assert_int_equal(map(f, a, 0, K4, RW), 0);
	assert_int_equal(map(f, b, 8 * K4, K4, RW), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, b, NULL), 0);
	f->fake.hostile = d;
	f->fake.hostile_pt = ioas_a;
	f->fake.hostile_times = 2;
	shim_pt_destroy(a);
	f->fake.hostile = NULL;
	assert_int_equal(d->attached, ioas_b);
	assert_true(fake_reaches(&f->fake, DEV, 8 * K4));
	assert_int_equal(fake_tenant_attach(&f->fake, d, ioas_a), -ENOENT);
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), 0);
}

/* ---- tables ---- */

static void test_create(void **state)
{
	struct fixture *f = *state;
	struct shim_dev *large;
	struct shim_dev *devs[2];
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .devices = devs, .n_devices = 2};
	struct shim_pt *pt = NULL;

	assert_int_equal(shim_dev_bind_one(f->ctx, LARGE, f->reason, &large), 0);
	devs[0] = f->dev;
	devs[1] = large;
	spec.format = SHIM_FORMAT_VTDSS_3L;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_INCOMPATIBLE);
	spec.format = SHIM_FORMAT_X86_64_4L;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_UNSUPPORTED);
	spec.format = SHIM_FORMAT_KERNEL_CHOSEN;
	spec.input_bits = 47; /* the other one has 39 */
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_INCOMPATIBLE);
	spec.input_bits = 0;
	spec.enforce_snoop = true;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_INCOMPATIBLE);
	assert_string_equal(f->reason, DEV ": VT-d ECAP.SC is 0 on dmar0");
	spec.enforce_snoop = false;
	for (int kind = SHIM_KIND_USER; kind <= SHIM_KIND_KVM; kind++) {
		spec.kind = kind;
		assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_UNSUPPORTED);
	}
	spec.kind = SHIM_KIND_KERNEL;
	spec.dirty_tracking = true;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_INCOMPATIBLE);
	assert_string_equal(f->reason, DEV ": VT-d ECAP.SMTS is 0 on dmar0");
	spec.dirty_tracking = false;
	spec.faults = true;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_INCOMPATIBLE);
	assert_string_equal(f->reason, DEV ": VT-d ECAP.SMTS is 0 on dmar0");
	spec.faults = false;
	assert_null(pt);
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), 0);
	assert_int_equal(iommufd_pt_of(pt)->input_bits, 39);
	/* Nothing nests on it. */
	spec.parent = pt;
	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), SHIM_E_UNSUPPORTED);
	shim_pt_destroy(pt);
}

/* What was promised: the kernel holds attachments to it by itself. */
static void test_width_is_promised(void **state)
{
	struct fixture *f = *state;
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_VTDSS_3L, .input_bits = 34};
	struct shim_pt *pt = NULL, *wide = pt_of(f, SHIM_FORMAT_VTDSS_3L);
	struct fake_object *o;

	assert_int_equal(shim_pt_create(f->ctx, &spec, f->reason, &pt), 0);
	o = &f->fake.contexts[0].objects[iommufd_pt_of(pt)->ioas];
	assert_int_equal(o->n_allowed, 2);
	assert_int_equal(o->allowed[0].start, 0);
	assert_int_equal(o->allowed[0].last, 0xfedfffff);
	assert_int_equal(o->allowed[1].start, 0xfef00000);
	assert_int_equal(o->allowed[1].last, (UINT64_C(1) << 34) - 1);
	assert_int_equal(map(f, pt, (UINT64_C(1) << 34) - K4, K4, RW), 0);
	assert_int_equal(map(f, pt, UINT64_C(1) << 34, K4, RW), SHIM_E_RANGE);
	assert_int_equal(map(f, pt, (UINT64_C(1) << 34) - K4, 2 * K4, RW), SHIM_E_RANGE);
	/* sysfs said 39 bits; it is narrower. */
	fake_device(&f->fake, DEV)->width = 36;
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, wide, f->reason), SHIM_E_INCOMPATIBLE);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, pt, f->reason), 0);
	assert_int_equal(shim_replace(f->dev, SHIM_NO_PASID, wide, f->reason), SHIM_E_INCOMPATIBLE);
	assert_int_equal(fake_device(&f->fake, DEV)->attached, iommufd_pt_of(pt)->ioas);
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), 0);
}

/* ---- maps ---- */

static void test_map(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *pt = pt_of(f, SHIM_FORMAT_VTDSS_3L),
		       *chosen = pt_of(f, SHIM_FORMAT_KERNEL_CHOSEN);
	struct shim_mem *read_only;
	struct shim_map m = {.iova = 0, .length = K4, .prot = RW};
	struct shim_map three[3];

	assert_int_equal(shim_mem_register(f->ctx, 78, 8 * K4, 4 * K4, SHIM_READ, &read_only), 0);
	assert_int_equal(map(f, pt, K4 / 2, K4, RW), SHIM_E_RANGE);
	assert_int_equal(map(f, pt, 0, 0, RW), SHIM_E_RANGE);
	assert_int_equal(map(f, pt, UINT64_MAX - K4 + 1, K4, RW), SHIM_E_RANGE);
	assert_int_equal(map(f, pt, 0, 5 * G1, RW), SHIM_E_RANGE);
	assert_int_equal(map(f, pt, 0, K4, 0), -EINVAL);
	assert_int_equal(map(f, pt, 0, K4, RW | SHIM_EXEC), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_pt_map(pt, &m, 1, NULL), SHIM_E_UNSUPPORTED);
	m.mem = read_only;
	assert_int_equal(shim_pt_map(pt, &m, 1, NULL), -EACCES);
	m.prot = SHIM_READ;
	assert_int_equal(shim_pt_map(pt, &m, 1, NULL), 0);
	assert_int_equal(map(f, pt, 0, K4, RW), SHIM_E_OVERLAP);
	/* Write-only: not where it might be a first-stage table. */
	assert_int_equal(map(f, chosen, 0, K4, SHIM_WRITE), SHIM_E_UNSUPPORTED);
	assert_int_equal(map(f, pt, K4, K4, SHIM_WRITE), 0);
	assert_int_equal(unmap(pt, K4, K4), 0);
	assert_int_equal(unmap(pt, 0, K4), 0);
	assert_int_equal(unmap(pt, 0, K4), SHIM_E_NO_MAPPING);
	assert_int_equal(unmap(pt, 1, 2), SHIM_E_NO_MAPPING);
	/* All or none. */
	for (size_t i = 0; i < 3; i++)
		three[i] = (struct shim_map){
			.iova = i * 2 * K4, .length = K4, .mem = f->mem, .prot = RW};
	three[2].iova = three[0].iova;
	assert_int_equal(shim_pt_map(pt, three, 3, NULL), SHIM_E_OVERLAP);
	assert_int_equal(fake_areas(&f->fake), 0);
	assert_int_equal(shim_pt_table_bytes(pt), 0);
	/* A reserved range that an attached device has. */
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, pt, NULL), 0);
	assert_int_equal(map(f, pt, 0xfee00000, K4, RW), SHIM_E_RANGE);
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), 0);
}

static void test_chunks(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *pt = pt_of(f, SHIM_FORMAT_VTDSS_3L);
	struct shim_map m = {.iova = K4, .length = G1 + K4, .mem = f->mem, .prot = RW};
	uint64_t bound = shim_pt_map_bound(pt, &m, 1);
	struct shim_cancel cancel = {0};
	struct shim_unmap half = {K4, 3 * K4};
	size_t done;

	assert_int_equal(shim_pt_map(pt, &m, 1, NULL), 0);
	assert_int_equal(fake_areas(&f->fake), (G1 + K4 + IOMMUFD_CHUNK - 1) / IOMMUFD_CHUNK);
	assert_int_equal(shim_pt_table_bytes(pt), bound);
	assert_int_equal(shim_pt_unmap(pt, &half, 1, &done), SHIM_E_NO_MAPPING);
	assert_int_equal(unmap(pt, K4, G1 + K4), 0);
	assert_int_equal(fake_areas(&f->fake), 0);
	assert_int_equal(shim_pt_table_bytes(pt), 0);
	/* Given up between chunks: nothing is left of what was done. */
	f->fake.cancel = &cancel;
	for (unsigned n = 1; n <= 4; n++) {
		cancel.requested = false;
		f->fake.maps = 0;
		f->fake.cancel_after = n;
		assert_int_equal(shim_pt_map(pt, &m, 1, &cancel), -ECANCELED);
		assert_int_equal(f->fake.maps, n);
		assert_int_equal(fake_areas(&f->fake), 0);
	}
	/* Asked for when all was done. */
	cancel.requested = false;
	f->fake.maps = 0;
	f->fake.cancel_after = 5;
	assert_int_equal(shim_pt_map(pt, &m, 1, &cancel), 0);
	f->fake.cancel = NULL;
	assert_int_equal(shim_pt_map(pt, &m, 1, &cancel), -ECANCELED);
	assert_int_equal(unmap(pt, K4, G1 + K4), 0);
}

/* An undo that does not work: the table is given up, the context ends cleanly. */
static void test_undo_fails(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *pt = pt_of(f, SHIM_FORMAT_VTDSS_3L);
	struct shim_map m[2] = {
		{.iova = 0, .length = K4, .mem = f->mem, .prot = RW},
		{.iova = 0, .length = K4, .mem = f->mem, .prot = RW},
	};

	f->fake.only = IOMMU_IOAS_UNMAP;
	f->fake.forever = true;
	fake_arm(&f->fake, 1, -EBUSY);
	assert_int_equal(shim_pt_map(pt, m, 2, NULL), -EIO);
	fake_disarm(&f->fake);
	assert_int_equal(shim_pt_map(pt, &m[1], 1, NULL), -EIO);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, pt, NULL), -EIO);
	shim_pt_destroy(pt);
	assert_int_equal(fake_areas(&f->fake), 0);
}

static void test_invalidate(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *pt = pt_of(f, SHIM_FORMAT_VTDSS_3L);
	struct shim_invalidate e[] = {
		{.scope = SHIM_INVALIDATE_ALL},
		{.scope = SHIM_INVALIDATE_RANGE, .iova = K4, .length = K4},
		{.scope = SHIM_INVALIDATE_PASID_CACHE},
	};
	struct shim_invalidate more[] = {
		{.scope = SHIM_INVALIDATE_PASID, .pasid = 5},
		{.scope = SHIM_INVALIDATE_DEVICE_TLB},
	};
	const struct iommufd_host *host = &iommufd_shim_of(f->shim)->host;
	size_t done = 77;

	/* What some device lists is taken, whosever the table is. */
	assert_int_equal(shim_pt_invalidate(pt, more, 2, &done), 0);
	assert_int_equal(done, 2);
	for (size_t i = 0; i < host->n_slots; i++)
		host->slots[i].info.caps.invalidations &=
			1u << SHIM_INVALIDATE_ALL | 1u << SHIM_INVALIDATE_RANGE;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(shim_pt_invalidate(pt, &more[i], 1, &done), SHIM_E_UNSUPPORTED);
		assert_int_equal(done, 0);
	}
	assert_int_equal(shim_pt_invalidate(pt, e, 2, &done), 0);
	assert_int_equal(done, 2);
	assert_int_equal(shim_pt_invalidate(pt, e, 3, &done), SHIM_E_UNSUPPORTED);
	assert_int_equal(done, 2);
	e[1].iova = UINT64_C(1) << 39;
	assert_int_equal(shim_pt_invalidate(pt, e, 3, &done), SHIM_E_RANGE);
	assert_int_equal(done, 1);
	assert_int_equal(shim_pt_walk(pt, 0, SHIM_READ, NULL), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_dma(f->dev, SHIM_NO_PASID, SHIM_READ, 0, NULL, 0, NULL, NULL),
			 SHIM_E_UNSUPPORTED);
}

/* ---- attachments ---- */

static void test_attach(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *a = pt_of(f, SHIM_FORMAT_VTDSS_3L), *b = pt_of(f, SHIM_FORMAT_VTDSS_3L);

	assert_int_equal(map(f, a, 0, K4, RW), 0);
	assert_int_equal(map(f, b, 8 * K4, K4, RW), 0);
	assert_int_equal(shim_replace(f->dev, SHIM_NO_PASID, a, NULL), SHIM_E_NOT_ATTACHED);
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), SHIM_E_NOT_ATTACHED);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, a, NULL), 0);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, b, NULL), SHIM_E_ATTACHED);
	assert_true(fake_reaches(&f->fake, DEV, 0));
	/* Attached: it stays. */
	shim_pt_destroy(a);
	assert_true(fake_reaches(&f->fake, DEV, 0));
	assert_int_equal(shim_replace(f->dev, SHIM_NO_PASID, b, NULL), 0);
	assert_false(fake_reaches(&f->fake, DEV, 0));
	assert_true(fake_reaches(&f->fake, DEV, 8 * K4));
	shim_pt_destroy(a);
	assert_int_equal(unmap(b, 8 * K4, K4), 0);
	assert_false(fake_reaches(&f->fake, DEV, 8 * K4));
	assert_int_equal(shim_attach(f->dev, 5, b, f->reason), SHIM_E_UNSUPPORTED);
	assert_string_equal(f->reason, DEV ": VT-d ECAP.SMTS is 0 on dmar0");
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), 0);
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), SHIM_E_NOT_ATTACHED);
	shim_pt_destroy(b);
}

static void test_attach_errors(void **state)
{
	static const struct {
		int error, expected;
	} cases[] = {
		{-EADDRINUSE, SHIM_E_INCOMPATIBLE},
		{-EINVAL, SHIM_E_INCOMPATIBLE},
		{-EOPNOTSUPP, SHIM_E_UNSUPPORTED},
		{-ENOTTY, SHIM_E_UNSUPPORTED},
		{-ENOMEM, -ENOMEM},
		{-EBUSY, -EBUSY},
		{-ENODEV, -ENODEV},
		{-ENOENT, -ENOENT},
	};
	struct fixture *f = *state;
	struct shim_pt *a = pt_of(f, SHIM_FORMAT_VTDSS_3L), *b = pt_of(f, SHIM_FORMAT_VTDSS_3L);

	f->fake.only = VFIO_CDEV_ATTACH_PT;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_arm(&f->fake, 1, cases[i].error);
		assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, a, f->reason),
				 cases[i].expected);
		assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), SHIM_E_NOT_ATTACHED);
		assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, a, f->reason), 0);
		fake_arm(&f->fake, 1, cases[i].error);
		assert_int_equal(shim_replace(f->dev, SHIM_NO_PASID, b, f->reason),
				 cases[i].expected);
		assert_int_equal(fake_device(&f->fake, DEV)->attached, iommufd_pt_of(a)->ioas);
		shim_pt_destroy(a); /* still attached */
		assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), 0);
	}
	fake_disarm(&f->fake);
	f->fake.only = VFIO_CDEV_DETACH_PT;
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, a, f->reason), 0);
	fake_arm(&f->fake, 1, -EINVAL);
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), -EINVAL);
	assert_int_equal(shim_detach(f->dev, SHIM_NO_PASID), 0);
}

static void test_group(void **state)
{
	struct fixture *f = *state;
	const char *both[] = {GROUP_A, GROUP_B};
	struct shim_pt *a = pt_of(f, SHIM_FORMAT_VTDSS_3L), *b = pt_of(f, SHIM_FORMAT_VTDSS_3L);
	struct shim_dev *d[2];

	assert_int_equal(shim_dev_bind(f->ctx, both, 2, f->reason, d), 0);
	assert_int_equal(shim_attach(d[0], SHIM_NO_PASID, a, f->reason), 0);
	assert_int_equal(shim_attach(d[1], SHIM_NO_PASID, b, f->reason), SHIM_E_INCOMPATIBLE);
	assert_string_equal(f->reason, GROUP_B ": a group has one page table on Linux; group 5 has "
					       "another while " GROUP_A " is attached");
	assert_int_equal(shim_attach(d[1], SHIM_NO_PASID, a, f->reason), 0);
	assert_int_equal(shim_replace(d[1], SHIM_NO_PASID, b, f->reason), SHIM_E_INCOMPATIBLE);
	assert_int_equal(shim_replace(d[1], SHIM_NO_PASID, a, f->reason), 0);
	assert_int_equal(shim_detach(d[0], SHIM_NO_PASID), 0);
	assert_int_equal(shim_replace(d[1], SHIM_NO_PASID, b, f->reason), 0);
}

static void test_pasids(void **state)
{
	struct fixture *f = *state;
	struct shim_pt *a = pt_of(f, SHIM_FORMAT_KERNEL_CHOSEN),
		       *b = pt_of(f, SHIM_FORMAT_KERNEL_CHOSEN);
	struct fake_device *d = fake_device(&f->fake, LARGE);
	struct shim_dev *dev;

	assert_int_equal(shim_dev_bind_one(f->ctx, LARGE, f->reason, &dev), 0);
	assert_int_equal(map(f, a, 0, K4, RW), 0);
	assert_int_equal(shim_attach(dev, 1u << 16, a, f->reason), SHIM_E_INCOMPATIBLE);
	assert_int_equal(shim_attach(dev, SHIM_NO_PASID, a, f->reason), 0);
	assert_true(fake_reaches(&f->fake, LARGE, 0));
	assert_int_equal(shim_attach(dev, 7, a, f->reason), 0);
	assert_int_equal(shim_attach(dev, 7, b, f->reason), SHIM_E_ATTACHED);
	assert_int_equal(shim_attach(dev, 8, b, f->reason), 0);
	/* One table behind an IOMMU, whoever is attached to it. */
	assert_int_equal(d->pts[0], d->attached);
	assert_int_not_equal(d->pts[1], d->attached);
	assert_int_equal(shim_replace(dev, 8, a, f->reason), 0);
	assert_int_equal(d->pts[1], d->attached);
	assert_null(iommufd_pt_of(b)->hwpts);
	shim_pt_destroy(b);
	assert_int_equal(shim_replace(dev, 9, a, f->reason), SHIM_E_NOT_ATTACHED);
	assert_int_equal(shim_detach(dev, 9), SHIM_E_NOT_ATTACHED);
	assert_int_equal(shim_detach(dev, 7), 0);
	assert_int_equal(shim_detach(dev, SHIM_NO_PASID), 0);
	assert_int_equal(shim_detach(dev, 8), 0);
	assert_null(iommufd_pt_of(a)->hwpts);
	/* The kernel runs the IOMMU without, and says so when asked. */
	shim_dev_release(dev);
	d->pasid_bits = 0;
	assert_int_equal(shim_dev_bind_one(f->ctx, LARGE, f->reason, &dev), 0);
	assert_int_equal(shim_attach(dev, 7, a, f->reason), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_attach(dev, SHIM_NO_PASID, a, f->reason), 0);
	assert_int_equal(d->attached, iommufd_pt_of(a)->ioas);
	shim_dev_release(dev);
	/* With attachments of all sorts. */
	d->pasid_bits = 16;
	assert_int_equal(shim_dev_bind_one(f->ctx, LARGE, f->reason, &dev), 0);
	for (uint32_t pasid = 1; pasid < 4; pasid++)
		assert_int_equal(shim_attach(dev, pasid, a, f->reason), 0);
	shim_dev_release(dev);
	shim_pt_destroy(a);
	assert_int_equal(f->fake.contexts[0].bound, 1);
}

/* ---- memory, limits, the keeper ---- */

static void test_memory(void **state)
{
	struct fixture *f = *state;
	struct shim_mem *mem = NULL;

	assert_int_equal(shim_mem_register(f->ctx, -1, 0, K4, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f->ctx, 7, 1, K4, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f->ctx, 7, 0, K4 + 1, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f->ctx, 7, 0, 0, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f->ctx, 7, 0, K4, SHIM_EXEC, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f->ctx, 7, UINT64_MAX - K4 + 1, K4, RW, &mem),
			 SHIM_E_MEMORY);
	assert_null(mem);
	assert_int_equal(shim_mem_register(f->ctx, 7, K4, K4, RW, &mem), 0);
	shim_mem_unregister(mem);
	shim_mem_unregister(NULL);
}

static void test_ctx_limit(void **state)
{
	struct fixture *f = *state;
	struct shim_ctx *ctx = NULL;

	fake_arm(&f->fake, 1, KEEPER_E_LIMIT);
	assert_int_equal(shim_ctx_new(f->shim, "org", f->reason, &ctx), SHIM_E_LIMIT);
	assert_string_equal(f->reason, "for a reason");
	fake_arm(&f->fake, 1, KEEPER_E_UNSUPPORTED);
	assert_int_equal(shim_ctx_new(f->shim, "org", NULL, &ctx), SHIM_E_UNSUPPORTED);
	fake_arm(&f->fake, 1, -EPIPE);
	assert_int_equal(shim_ctx_new(f->shim, "org", f->reason, &ctx), -EPIPE);
	assert_null(ctx);
	shim_ctx_free(NULL);
	shim_dev_release(NULL);
	shim_pt_destroy(NULL);
}

/* It is away while things are given back, and comes again. */
static void test_keeper_is_away(void **state)
{
	struct fixture *f = *state;
	const char *both[] = {GROUP_A, GROUP_B};
	struct shim_dev *d[2], *dev2;
	struct shim_ctx *ctx;

	assert_int_equal(shim_ctx_new(f->shim, "org", NULL, &ctx), 0);
	assert_int_equal(shim_dev_bind(ctx, both, 2, f->reason, d), 0);
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV2, f->reason, &dev2), 0);
	f->fake.keeper_is_down = true;
	shim_ctx_free(ctx);
	shim_dev_release(dev2);
	assert_int_equal(shim_dev_is_free(f->shim, GROUP_A), -EPIPE);
	f->fake.keeper_is_down = false;
	assert_int_equal(shim_dev_is_free(f->shim, GROUP_A), 0);
	assert_int_equal(shim_dev_is_free(f->shim, GROUP_B), 0);
	assert_int_equal(shim_dev_is_free(f->shim, DEV2), 0);
	assert_null(iommufd_shim_of(f->shim)->debts);
}

/* A broker that was killed: the keeper has its context, a tenant the device. */
static int leave_behind(struct fixture *f)
{
	struct iommufd_sys sys = fake_sys(&f->fake);
	const char *address = DEV2;
	struct keeper_context_id id;
	struct iommufd_ioas_alloc ioas = {.size = sizeof(ioas)};
	struct vfio_cdev_bind bind = {.argsz = sizeof(bind)};
	struct vfio_cdev_attach attach = {.argsz = VFIO_CDEV_ATTACH_SIZE};
	struct iommufd_ioas_map_file file = {
		.size = sizeof(file),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
		.fd = 77,
		.length = K4,
		.iova = G1,
	};
	int fd, dev, tenant;

	assert_int_equal(sys.context_open(sys.user, "org", f->reason, &id, &fd), 0);
	assert_int_equal(sys.claim(sys.user, id, &address, 1, f->reason, &dev), 0);
	bind.iommufd = fd;
	assert_int_equal(sys.ioctl(sys.user, dev, VFIO_CDEV_BIND_IOMMUFD, &bind), 0);
	assert_int_equal(sys.ioctl(sys.user, fd, IOMMU_IOAS_ALLOC, &ioas), 0);
	file.ioas_id = attach.pt_id = ioas.out_ioas_id;
	assert_int_equal(sys.ioctl(sys.user, fd, IOMMU_IOAS_MAP_FILE, &file), 0);
	assert_int_equal(sys.ioctl(sys.user, dev, VFIO_CDEV_ATTACH_PT, &attach), 0);
	tenant = sys.dup(sys.user, dev);
	sys.close(sys.user, dev);
	sys.close(sys.user, fd);
	return tenant;
}

static void test_sweep(void **state)
{
	struct fixture *f = *state;
	struct shim_saved known, unreadable = {.n = 3};
	size_t ended = 77;
	int tenant;

	shim_ctx_save(f->ctx, &known);
	assert_int_equal(shim_attach(f->dev, SHIM_NO_PASID, pt_of(f, SHIM_FORMAT_VTDSS_3L), NULL),
			 0);
	assert_int_equal(shim_sweep(f->shim, &known, 1, &ended), 0);
	assert_int_equal(ended, 0);
	tenant = leave_behind(f);
	assert_true(fake_reaches(&f->fake, DEV2, G1));
	ended = 77;
	f->fake.keeper_is_down = true;
	assert_int_equal(shim_sweep(f->shim, &known, 1, &ended), -EPIPE);
	f->fake.keeper_is_down = false;
	assert_int_equal(shim_sweep(f->shim, &unreadable, 1, &ended), -EINVAL);
	assert_int_equal(ended, 77);
	assert_true(fake_reaches(&f->fake, DEV2, G1));
	assert_int_equal(shim_sweep(f->shim, &known, 1, &ended), 0);
	assert_int_equal(ended, 1);
	assert_false(fake_reaches(&f->fake, DEV2, G1));
	assert_int_equal(shim_dev_is_free(f->shim, DEV2), SHIM_E_DEVICE_BUSY);
	fake_tenant_close(&f->fake, tenant);
	assert_int_equal(shim_dev_is_free(f->shim, DEV2), 0);
	assert_int_equal(shim_sweep(f->shim, &known, 1, &ended), 0);
	assert_int_equal(ended, 0);
	/* What was known is as it was. */
	assert_int_equal(fake_device(&f->fake, DEV)->disturbed, 0);
	assert_true(fake_device(&f->fake, DEV)->attached);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_start),
		T(test_bind),
		T(test_bind_says_why_not),
		T(test_bind_in_a_lost_context),
		T(test_hw_info_contradicts),
		T(test_release_while_held),
		T(test_ctx_free_while_held),
		T(test_destroy_against_a_hostile_holder),
		T(test_create),
		T(test_width_is_promised),
		T(test_map),
		T(test_chunks),
		T(test_undo_fails),
		T(test_invalidate),
		T(test_attach),
		T(test_attach_errors),
		T(test_group),
		T(test_pasids),
		T(test_memory),
		T(test_ctx_limit),
		T(test_keeper_is_away),
		T(test_sweep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
