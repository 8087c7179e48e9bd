/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contexts that are given to a process, on the model of the kernel: what the shim does to them,
 * and what it leaves alone.
 */

#include "fake.h"

#include <errno.h>
#include <limits.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define K4    (UINT64_C(1) << 12)
#define BYTES (UINT64_C(64) << 20)
#define DEV   "0000:00:03.0"
#define DEV2  "0000:01:00.0"

struct fixture {
	struct fake fake;
	struct fake_tree tree;
	struct shim *shim;
	int holder; /* as a pidfd of what has ended: readable */
	char reason[SHIM_REASON_MAX];
};

static void shim_start(struct fixture *f)
{
	struct iommufd_problem problem = {0};
	struct iommufd_sys sys = fake_sys(&f->fake);

	if (iommufd_shim_new_on(&sys, &iommufd_backend_vfio, f->tree.root, &f->shim, &problem))
		fail_msg("%s", problem.message);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	fake_init(&f->fake);
	fake_tree_standard(&f->tree);
	f->holder = eventfd(1, EFD_CLOEXEC);
	assert_true(f->holder >= 0);
	shim_start(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	fake_disarm(&f->fake);
	assert_int_equal(shim_dev_is_free(f->shim, DEV), 0);
	assert_int_equal(shim_dev_is_free(f->shim, DEV2), 0);
	fake_expect_empty(&f->fake);
	shim_free(f->shim);
	close(f->holder);
	fake_tree_free(&f->tree);
	free(f);
	return 0;
}

/* A context with DEV, as its holder has it. */
struct given {
	struct shim_ctx *ctx;
	struct shim_dev *dev;
	int context;
	int device;
};

static int give(struct fixture *f, struct given *ret_given)
{
	struct given g = {.context = -1, .device = -1};
	int r = shim_ctx_new_delegated(f->shim, "org", f->holder, 1000, BYTES, f->reason, &g.ctx);

	if (r)
		return r;
	r = shim_dev_bind_one(g.ctx, DEV, f->reason, &g.dev);
	if (!r)
		r = shim_ctx_fd(g.ctx, &g.context);
	if (!r)
		r = shim_dev_fd(g.dev, &g.device);
	if (r) {
		shim_ctx_free(g.ctx);
		if (g.context >= 0)
			fake_holder_closes(&f->fake, g.context);
		return r;
	}
	*ret_given = g;
	return 0;
}

static void holder_exits(struct fixture *f, const struct given *g)
{
	fake_tenant_close(&f->fake, g->device);
	fake_holder_closes(&f->fake, g->context);
}

/* The device is the holder's to bind, and the context empty. */
static void test_given(void **state)
{
	struct fixture *f = *state;
	struct fake_device *d = fake_device(&f->fake, DEV);
	struct shim_ctx *plain;
	struct given g;
	int fd = -7;

	assert_int_equal(give(f, &g), 0);
	assert_true(d->claimed && !d->bound);
	assert_int_equal(f->fake.contexts[0].locks, BYTES);
	assert_int_equal(f->fake.contexts[0].opener, 1000);
	fake_holder_maps(&f->fake, g.context, DEV, K4);
	assert_true(fake_reaches(&f->fake, DEV, K4));
	/* Others are not given away. */
	assert_int_equal(shim_ctx_new(f->shim, "org", f->reason, &plain), 0);
	assert_int_equal(shim_ctx_fd(plain, &fd), SHIM_E_UNSUPPORTED);
	assert_int_equal(fd, -7);
	shim_ctx_free(plain);

	assert_int_equal(shim_holder_end(f->shim, "org", f->holder, f->reason), 0);
	assert_int_equal(f->fake.n_ended, 1);
	holder_exits(f, &g);
	shim_ctx_free(g.ctx);
	assert_int_equal(shim_dev_is_free(f->shim, DEV), 0);
}

/* Somebody whom nobody could end: no DMA when it is freed, and no other gets the device. */
static void test_holder_goes_on(void **state)
{
	struct fixture *f = *state;
	struct shim_ctx *other;
	struct shim_dev *dev;
	struct given g;
	uint32_t ioas;

	assert_int_equal(give(f, &g), 0);
	ioas = fake_holder_maps(&f->fake, g.context, DEV, K4);
	fake_holder_maps(&f->fake, g.context, DEV, 8 * K4);
	shim_ctx_free(g.ctx);
	assert_false(fake_reaches(&f->fake, DEV, K4));
	assert_false(fake_reaches(&f->fake, DEV, 8 * K4));
	/* What was there is gone: it cannot go back to it. */
	assert_int_equal(fake_areas(&f->fake), 0);
	assert_int_equal(fake_tenant_attach(&f->fake, fake_device(&f->fake, DEV), ioas), -ENOENT);
	assert_int_equal(shim_dev_is_free(f->shim, DEV), SHIM_E_DEVICE_BUSY);
	/* It fills it again: what it reaches is its own memory. */
	fake_holder_maps(&f->fake, g.context, DEV, K4);
	assert_int_equal(shim_ctx_new(f->shim, "org/two", f->reason, &other), 0);
	assert_int_equal(shim_dev_bind_one(other, DEV, f->reason, &dev), SHIM_E_DEVICE_BUSY);
	holder_exits(f, &g);
	assert_int_equal(shim_dev_is_free(f->shim, DEV), 0);
	assert_int_equal(shim_dev_bind_one(other, DEV, f->reason, &dev), 0);
	shim_ctx_free(other);
}

/* It attaches again before each object is destroyed: what cannot be destroyed is empty. */
static void test_hostile_holder(void **state)
{
	struct fixture *f = *state;
	struct given g;

	assert_int_equal(give(f, &g), 0);
	f->fake.hostile_pt = fake_holder_maps(&f->fake, g.context, DEV, K4);
	f->fake.hostile = fake_device(&f->fake, DEV);
	f->fake.hostile_times = UINT_MAX;
	shim_ctx_free(g.ctx);
	f->fake.hostile = NULL;
	assert_int_equal(fake_device(&f->fake, DEV)->attached, f->fake.hostile_pt);
	assert_false(fake_reaches(&f->fake, DEV, K4));
	assert_int_equal(fake_areas(&f->fake), 0);
	assert_int_equal(shim_dev_is_free(f->shim, DEV), SHIM_E_DEVICE_BUSY);
	holder_exits(f, &g);
}

/* Given back alone, bound or not. */
static void test_release(void **state)
{
	for (unsigned bound = 0; bound < 2; bound++) {
		struct fixture *f = *state;
		struct shim_dev *second;
		struct given g;

		assert_int_equal(give(f, &g), 0);
		assert_int_equal(shim_dev_bind_one(g.ctx, DEV2, f->reason, &second), 0);
		if (bound)
			fake_holder_maps(&f->fake, g.context, DEV, K4);
		shim_dev_release(g.dev);
		assert_false(fake_reaches(&f->fake, DEV, K4));
		assert_int_equal(shim_dev_is_free(f->shim, DEV), SHIM_E_DEVICE_BUSY);
		fake_tenant_close(&f->fake, g.device);
		assert_int_equal(shim_dev_is_free(f->shim, DEV), 0);
		shim_ctx_free(g.ctx);
		fake_holder_closes(&f->fake, g.context);
		assert_int_equal(shim_dev_is_free(f->shim, DEV2), 0);
	}
}

static void test_keeper_refuses(void **state)
{
	static const struct {
		int status, error;
	} answers[] = {
		{KEEPER_E_FORBIDDEN, SHIM_E_REFUSED},
		{KEEPER_E_NOT_FOUND, SHIM_E_GONE},
		{KEEPER_E_UNSUPPORTED, SHIM_E_UNSUPPORTED},
		{KEEPER_E_BUSY, SHIM_E_UNSUPPORTED},
		{-EIO, -EIO},
	};

	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		struct fixture *f = *state;
		struct shim_ctx *ctx = NULL;

		f->fake.delegate_status = answers[i].status;
		assert_int_equal(
			shim_ctx_new_delegated(f->shim, "org", f->holder, 1000, 1, f->reason, &ctx),
			answers[i].error);
		assert_null(ctx);
		assert_int_equal(shim_holder_end(f->shim, "org", f->holder, f->reason),
				 answers[i].error);
		if (answers[i].status > 0)
			assert_string_equal(f->reason, "for a reason");
		assert_int_equal(f->fake.n_ended, 0);
		fake_expect_empty(&f->fake);
		f->fake.delegate_status = 0;
	}
}

/* A broker that is started anew finds it, and touches nothing. */
static void test_restart(void **state)
{
	for (unsigned bound = 0; bound < 2; bound++) {
		struct fixture *f = *state;
		struct fake_device *d = fake_device(&f->fake, DEV);
		struct shim_saved ctx_saved, dev_saved, wrong;
		struct shim_ctx *ctx;
		struct shim_dev *dev;
		size_t strays = 77;
		struct given g;
		int fd = -1;

		assert_int_equal(give(f, &g), 0);
		if (bound)
			fake_holder_maps(&f->fake, g.context, DEV, K4);
		shim_ctx_save(g.ctx, &ctx_saved);
		shim_dev_save(g.dev, &dev_saved);
		shim_ctx_leave(g.ctx);
		shim_free(f->shim);
		d->disturbed = 0;

		shim_start(f);
		assert_int_equal(shim_ctx_restore(f->shim, "org", &ctx_saved, &ctx), 0);
		wrong = dev_saved;
		wrong.bytes[0] = 'd';
		assert_int_equal(shim_dev_restore(ctx, DEV, &wrong, &dev), -EINVAL);
		assert_int_equal(shim_dev_restore(ctx, DEV, &dev_saved, &dev), 0);
		assert_int_equal(shim_ctx_restored(ctx, &strays), 0);
		assert_int_equal(strays, 0);
		assert_int_equal(d->disturbed, 0);
		assert_int_equal(fake_reaches(&f->fake, DEV, K4), bound);
		/* A sweep knows it. */
		assert_int_equal(shim_sweep(f->shim, &ctx_saved, 1, &strays), 0);
		assert_int_equal(fake_reaches(&f->fake, DEV, K4), bound);
		assert_int_equal(shim_ctx_fd(ctx, &fd), 0);
		shim_ctx_free(ctx);
		assert_false(fake_reaches(&f->fake, DEV, K4));
		holder_exits(f, &g);
		assert_int_equal(shim_dev_is_free(f->shim, DEV), 0);
	}
}

/* One whose end comes before its restore is complete. */
static void test_end_while_restoring(void **state)
{
	struct fixture *f = *state;
	struct shim_saved saved;
	struct shim_ctx *ctx;
	struct given g;

	assert_int_equal(give(f, &g), 0);
	fake_holder_maps(&f->fake, g.context, DEV, K4);
	shim_ctx_save(g.ctx, &saved);
	shim_ctx_leave(g.ctx);
	assert_int_equal(shim_ctx_restore(f->shim, "org", &saved, &ctx), 0);
	shim_ctx_free(ctx);
	assert_false(fake_reaches(&f->fake, DEV, K4));
	assert_int_equal(shim_dev_is_free(f->shim, DEV), SHIM_E_DEVICE_BUSY);
	holder_exits(f, &g);
}

/* No registry knows it: emptied, and the device is nobody's until its holder lets go. */
static void test_sweep(void **state)
{
	struct fixture *f = *state;
	size_t ended = 0;
	struct given g;

	assert_int_equal(give(f, &g), 0);
	fake_holder_maps(&f->fake, g.context, DEV, K4);
	shim_ctx_leave(g.ctx);
	assert_int_equal(shim_sweep(f->shim, NULL, 0, &ended), 0);
	assert_int_equal(ended, 1);
	assert_false(fake_reaches(&f->fake, DEV, K4));
	assert_int_equal(shim_dev_is_free(f->shim, DEV), SHIM_E_DEVICE_BUSY);
	holder_exits(f, &g);
}

/* Each call that can fail, does; nothing is left. */
static void test_each_call_fails(void **state)
{
	static const int errors[] = {-EIO, -ENOMEM, -EMFILE};
	struct fixture *f = *state;
	unsigned n_failed = 0;

	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		for (uint64_t nth = 1;; nth++) {
			struct given g;
			int r;

			fake_arm(&f->fake, nth, errors[i]);
			r = give(f, &g);
			fake_disarm(&f->fake);
			if (!r) {
				holder_exits(f, &g);
				shim_ctx_free(g.ctx);
				break;
			}
			n_failed++;
			assert_int_equal(r, errors[i]);
			assert_int_equal(shim_dev_is_free(f->shim, DEV), 0);
			fake_expect_empty(&f->fake);
		}
	/* Open, delegate, claim, two descriptors. */
	assert_true(n_failed >= 3 * 5);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_given),
		T(test_hostile_holder),
		T(test_holder_goes_on),
		T(test_release),
		T(test_keeper_refuses),
		T(test_restart),
		T(test_end_while_restoring),
		T(test_sweep),
		T(test_each_call_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
