/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every call to the kernel and to the keeper, in a sequence that uses all of the contract, is
 * made to fail with every errno that the interface documents for it.  What failed must have
 * changed nothing; after the context's end nothing may be left; and the same sequence must
 * then succeed on the same shim.
 */

#include "fake.h"

#include <errno.h>
#include <stdio.h>

#define K4 (UINT64_C(1) << 12)
#define G1 (UINT64_C(1) << 30)
#define RW (SHIM_READ | SHIM_WRITE)

#define LARGE "0000:81:00.0"

/* What a step saw: 0, or the first error.  Steps check what a failure must leave alone. */
struct run {
	struct fake *fake;
	struct shim *shim;
	struct shim_ctx *ctx;
	int tenant_fd;
	const char *step;
};

static int map_all_or_none(struct run *run, struct shim_pt *pt, const struct shim_map *maps,
			   size_t n)
{
	size_t before = fake_areas(run->fake);
	uint64_t bytes = shim_pt_table_bytes(pt);
	uint64_t bound = bytes + shim_pt_map_bound(pt, maps, n);
	int r = shim_pt_map(pt, maps, n, NULL);

	assert_true(shim_pt_table_bytes(pt) <= bound);
	if (r) {
		assert_int_equal(fake_areas(run->fake), before);
		assert_int_equal(shim_pt_table_bytes(pt), bytes);
	}
	return r;
}

#define STEP(call)                                                                                 \
	do {                                                                                       \
		int r_;                                                                            \
		run->step = #call;                                                                 \
		r_ = (call);                                                                       \
		if (r_)                                                                            \
			return r_;                                                                 \
	} while (0)

/* What is bound is told to the hardware, or nothing has changed. */
static int bind(struct run *run, struct shim_pt *pt, uint64_t root)
{
	struct shim_table table = {.root = root};
	uint64_t before = fake_hwpt(run->fake, LARGE, 9)->data.pgtbl_addr, now;
	int r = shim_pt_bind_table(pt, root ? &table : NULL, NULL);

	/* Where moving back fails too, it is attached no more. */
	if (!fake_hwpt(run->fake, LARGE, 9)) {
		assert_int_equal(r, -EIO);
		return r;
	}
	now = fake_hwpt(run->fake, LARGE, 9)->data.pgtbl_addr;
	assert_int_equal(now, r ? before : root);
	return r;
}

static int tenants_tables(struct run *run, struct shim_dev *large, struct shim_mem *mem)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL,
				    .format = SHIM_FORMAT_KERNEL_CHOSEN,
				    .dirty_tracking = true};
	struct shim_map map = {.iova = 0, .length = K4, .mem = mem, .prot = RW};
	struct shim_invalidate all = {.scope = SHIM_INVALIDATE_ALL};
	struct shim_report report;
	struct shim_pt *parent, *child;
	uint8_t bitmap = 0;
	size_t n;

	STEP(shim_pt_create(run->ctx, &spec, NULL, &parent));
	STEP(map_all_or_none(run, parent, &map, 1));
	spec = (struct shim_pt_spec){.kind = SHIM_KIND_USER,
				     .format = SHIM_FORMAT_X86_64_4L,
				     .parent = parent,
				     .faults = true};
	STEP(shim_pt_create(run->ctx, &spec, NULL, &child));
	STEP(shim_attach(large, 9, child, NULL));
	STEP(shim_attach(large, 10, parent, NULL));
	STEP(bind(run, child, 0x1000));
	STEP(shim_pt_track_dirty(parent, true, true));
	STEP(bind(run, child, 0x2000));
	STEP(shim_pt_invalidate(child, &all, 1, &n));
	STEP(shim_pt_read_dirty(parent, 0, K4, 12, true, &bitmap));
	fake_request_page(run->fake, LARGE, 9, 3, 0, true);
	STEP(shim_ctx_read_reports(run->ctx, &report, 1, &n));
	assert_int_equal(n, 1);
	STEP(shim_ctx_answer(run->ctx, report.cookie, true));
	STEP(bind(run, child, 0));
	STEP(shim_detach(large, 9));
	run->step = "ends";
	shim_pt_destroy(child);
	STEP(shim_detach(large, 10));
	run->step = "ends";
	shim_pt_destroy(parent);
	return 0;
}

static int sequence(struct run *run)
{
	static const char *const addresses[] = {"0000:03:01.0", "0000:03:02.0"};
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	char reason[SHIM_REASON_MAX] = "";
	struct shim_dev *group[2] = {0}, *large = NULL;
	struct shim_pt *a, *b;
	struct shim_mem *mem;
	struct shim_map maps[2];
	struct shim_unmap unmaps[2];
	size_t done;

	STEP(shim_ctx_new(run->shim, "org", reason, &run->ctx));
	STEP(shim_dev_bind(run->ctx, addresses, 2, reason, group));
	STEP(shim_dev_bind_one(run->ctx, "0000:81:00.0", reason, &large));
	STEP(shim_mem_register(run->ctx, 77, 0, G1, RW, &mem));
	STEP(shim_pt_create(run->ctx, &spec, reason, &a));
	STEP(shim_pt_create(run->ctx, &spec, reason, &b));
	maps[0] = (struct shim_map){.iova = 0, .length = K4, .mem = mem, .prot = RW};
	maps[1] = (struct shim_map){
		.iova = G1, .length = G1 / 2 + K4, .mem = mem, .prot = RW, .offset = K4};
	STEP(shim_attach(group[0], SHIM_NO_PASID, a, reason));
	STEP(map_all_or_none(run, a, maps, 2));
	STEP(shim_attach(group[1], SHIM_NO_PASID, a, reason));
	STEP(map_all_or_none(run, b, maps, 1));
	STEP(shim_attach(large, SHIM_NO_PASID, a, reason));
	STEP(shim_attach(large, 5, b, reason));
	STEP(shim_replace(large, 5, a, reason));
	STEP(shim_replace(large, SHIM_NO_PASID, b, reason));
	STEP(shim_detach(group[1], SHIM_NO_PASID));
	STEP(shim_replace(group[0], SHIM_NO_PASID, b, reason));
	STEP(shim_dev_fd(group[0], &run->tenant_fd));
	unmaps[0] = (struct shim_unmap){G1, G1 / 2 + K4};
	unmaps[1] = (struct shim_unmap){0, K4};
	STEP(shim_pt_unmap(a, unmaps, 2, &done));
	assert_int_equal(done, 2);
	STEP(shim_detach(large, 5));
	STEP(tenants_tables(run, large, mem));
	run->step = "ends";
	shim_pt_destroy(a);
	shim_dev_release(large);
	shim_dev_release(group[1]);
	return 0;
}

/* One run, and the end of what it made. */
static int run_once(struct fake *fake, struct shim *shim, struct run *ret_run)
{
	struct run run = {.fake = fake, .shim = shim, .tenant_fd = -1};
	int r = sequence(&run);

	shim_ctx_free(run.ctx);
	/* Revoked, whoever holds a descriptor. */
	assert_int_equal(fake_areas(fake), 0);
	assert_false(fake_reaches(fake, "0000:03:01.0", 0));
	if (run.tenant_fd >= 0)
		fake_tenant_close(fake, run.tenant_fd);
	*ret_run = run;
	return r;
}

static void expect_empty(struct fake *fake, struct shim *shim)
{
	/* The keeper looks again, and is asked again what it did not take back. */
	for (size_t i = 0; i < fake->n_devices; i++)
		assert_int_equal(shim_dev_is_free(shim, fake->devices[i].address), 0);
	assert_null(iommufd_shim_of(shim)->debts);
	fake_expect_empty(fake);
}

static const int kernel_errors[] = {
	-ENOMEM, -EINVAL,     -EOPNOTSUPP, -E2BIG,  -EOVERFLOW, -EBUSY, -EPERM,
	-EEXIST, -EADDRINUSE, -EBADF,	   -EFAULT, -ENODEV,	-EIO,	-ENOENT,
};
static const int keeper_errors[] = {
	KEEPER_E_NOT_FOUND,   KEEPER_E_BUSY, KEEPER_E_FORBIDDEN, KEEPER_E_GROUP, KEEPER_E_LIMIT,
	KEEPER_E_UNSUPPORTED, -EPIPE,	     -ECONNREFUSED,	 -EPROTO,
};

struct sweep {
	struct fake fake;
	struct fake_tree tree;
	struct shim *shim;
};

static int setup(void **state)
{
	struct sweep *s = calloc(1, sizeof(*s));
	struct iommufd_problem problem;
	struct iommufd_sys sys;

	assert_non_null(s);
	fake_init(&s->fake);
	fake_device(&s->fake, LARGE)->keeper.pri = true;
	fake_tree_standard(&s->tree);
	sys = fake_sys(&s->fake);
	assert_int_equal(
		iommufd_shim_new_on(&sys, &iommufd_backend_vfio, s->tree.root, &s->shim, &problem),
		0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct sweep *s = *state;

	shim_free(s->shim);
	fake_tree_free(&s->tree);
	free(s);
	return 0;
}

/* Whether the interface can answer this request with this error, and mean it. */
static bool documented(unsigned long request, int error)
{
	bool to_keeper = request == FAKE_KEEPER || request == FAKE_RELEASE;

	if (to_keeper !=
	    (error > 0 || error == -EPIPE || error == -ECONNREFUSED || error == -EPROTO))
		return false;
	/* "There is no such thing" of what is there would be a lie. */
	if (request == IOMMU_DESTROY || request == IOMMU_IOAS_UNMAP)
		return error != -ENOENT;
	if (request == FAKE_RELEASE)
		return error != KEEPER_E_NOT_FOUND;
	return true;
}

/* Calls that are made again, or that only say what is possible: the step can still succeed. */
static bool may_be_made_good(unsigned long request)
{
	return request == IOMMU_DESTROY || request == IOMMU_IOAS_UNMAP ||
	       request == IOMMU_GET_HW_INFO || request == IOMMU_HWPT_ALLOC ||
	       request == VFIO_CDEV_ATTACH_PT || request == VFIO_CDEV_DETACH_PT ||
	       request == FAKE_RELEASE;
}

static void sweep_one(struct sweep *s, uint64_t nth, int error)
{
	struct run run;
	int r;

	fake_arm(&s->fake, nth, error);
	r = run_once(&s->fake, s->shim, &run);
	if (!s->fake.failed)
		fail_msg("call %llu was not made", (unsigned long long)nth);
	assert_true(r || may_be_made_good(s->fake.failed));
	fake_disarm(&s->fake);
	expect_empty(&s->fake, s->shim);
	r = run_once(&s->fake, s->shim, &run);
	if (r)
		fail_msg("after call %llu failed with %d: %s: %d", (unsigned long long)nth, error,
			 run.step, r);
	expect_empty(&s->fake, s->shim);
}

static unsigned sweep_errors(struct sweep *s, const int *errors, size_t n_errors)
{
	unsigned long trace[FAKE_TRACE];
	unsigned tried = 0;
	struct run run;
	uint64_t calls;

	/* Up to the call that fails, all runs are like the first. */
	fake_disarm(&s->fake);
	assert_int_equal(run_once(&s->fake, s->shim, &run), 0);
	calls = s->fake.calls;
	assert_true(calls < FAKE_TRACE);
	memcpy(trace, s->fake.trace, sizeof(trace));
	expect_empty(&s->fake, s->shim);
	for (uint64_t nth = 1; nth <= calls; nth++)
		for (size_t i = 0; i < n_errors; i++)
			if (documented(trace[nth], errors[i])) {
				sweep_one(s, nth, errors[i]);
				tried++;
			}
	return tried;
}

static void test_each_call_fails(void **state)
{
	unsigned tried = sweep_errors(*state, kernel_errors,
				      sizeof(kernel_errors) / sizeof(kernel_errors[0]));

	tried += sweep_errors(*state, keeper_errors,
			      sizeof(keeper_errors) / sizeof(keeper_errors[0]));
	print_message("%u failures\n", tried);
	assert_true(tried > 500);
}

/* From some call on the keeper is away; when it is back, everything is given back. */
static void test_keeper_goes_away(void **state)
{
	struct sweep *s = *state;
	struct run run;
	uint64_t calls;

	for (int kind = 0; kind < 2; kind++) {
		unsigned long only = kind ? FAKE_RELEASE : FAKE_KEEPER;

		fake_disarm(&s->fake);
		s->fake.only = only;
		assert_int_equal(run_once(&s->fake, s->shim, &run), 0);
		calls = s->fake.calls;
		for (uint64_t nth = 1; nth <= calls; nth++) {
			s->fake.only = only;
			s->fake.forever = true;
			fake_arm(&s->fake, nth, -EPIPE);
			(void)run_once(&s->fake, s->shim, &run);
			fake_disarm(&s->fake);
			expect_empty(&s->fake, s->shim);
			assert_int_equal(run_once(&s->fake, s->shim, &run), 0);
			expect_empty(&s->fake, s->shim);
		}
	}
}

/* A kernel that refuses one kind of call for good: no crash, and no memory reachable. */
static void test_one_request_fails_for_good(void **state)
{
	static const unsigned long requests[] = {
		IOMMU_DESTROY,	  IOMMU_IOAS_ALLOC,    IOMMU_IOAS_ALLOW_IOVAS, IOMMU_IOAS_MAP_FILE,
		IOMMU_HWPT_ALLOC, VFIO_CDEV_ATTACH_PT, VFIO_CDEV_DETACH_PT,    IOMMU_GET_HW_INFO,
	};
	struct sweep *s = *state;
	struct run run;

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		s->fake.only = requests[i];
		s->fake.forever = true;
		fake_arm(&s->fake, 1, -EIO);
		(void)run_once(&s->fake, s->shim, &run);
		fake_disarm(&s->fake);
		/* Closing ends what no call would. */
		expect_empty(&s->fake, s->shim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_call_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keeper_goes_away, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_request_fails_for_good, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
