/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The restore of a context, call by call: what is found, what is gone, what is refused, and
 * that failing calls can be made again.  What a killed broker leaves is in crash_test.c.
 */

#include "book.h"

#include "fail/fail.h"

#include <errno.h>
#include <stdio.h>

enum { A, B, C };

struct fixture {
	struct book *book;
	struct fake_tree tree;
	struct broker broker;
	int tenant; /* DEV's fd, or -1 */
};

static struct fake *fake_of(struct fixture *f)
{
	return &f->book->fake;
}

static struct fake_device *device(struct fixture *f, unsigned dev)
{
	return fake_device(fake_of(f), book_addresses[dev]);
}

static int setup(void **state)
{
	static const struct book_mapping maps[] = {{0, K4}, {G1, G1 / 2 + K4}};
	struct fixture *f = calloc(1, sizeof(*f));
	struct broker *b;

	assert_non_null(f);
	f->book = book_new();
	f->tenant = -1;
	fake_tree_standard(&f->tree);
	b = &f->broker;
	broker_start(b, f->book, &f->tree);
	assert_int_equal(broker_open(b), 0);
	assert_int_equal(broker_claim(b, DEV, 1), 0);
	assert_int_equal(broker_claim(b, GROUP_A, 2), 0);
	assert_int_equal(broker_claim(b, LARGE, 1), 0);
	for (unsigned pt = A; pt <= C; pt++)
		assert_int_equal(broker_alloc(b, pt), 0);
	assert_int_equal(broker_map(b, A, maps, 2, NULL), 0);
	assert_int_equal(broker_map(b, B, maps, 1, NULL), 0);
	assert_int_equal(broker_attach(b, DEV, SHIM_NO_PASID, A), 0);
	assert_int_equal(broker_attach(b, GROUP_A, SHIM_NO_PASID, B), 0);
	assert_int_equal(broker_attach(b, GROUP_B, SHIM_NO_PASID, B), 0);
	assert_int_equal(broker_attach(b, LARGE, SHIM_NO_PASID, A), 0);
	assert_int_equal(broker_attach(b, LARGE, 5, A), 0);
	assert_int_equal(broker_attach(b, LARGE, 6, B), 0);
	assert_int_equal(broker_attach(b, LARGE, 7, A), 0);
	book_note_disturbed(f->book);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;

	fake_disarm(fake_of(f));
	if (b->ctx)
		broker_close(b);
	if (f->tenant >= 0)
		fake_tenant_close(fake_of(f), f->tenant);
	for (unsigned i = 0; i < BOOK_DEVICES; i++)
		assert_int_equal(shim_dev_is_free(b->shim, book_addresses[i]), 0);
	fake_expect_empty(fake_of(f));
	shim_free(b->shim);
	fake_tree_free(&f->tree);
	book_free(f->book);
	free(f);
	return 0;
}

/* The broker ends, and there is another one that has restored nothing. */
static void restart(struct fixture *f)
{
	broker_stop(&f->broker);
	broker_start(&f->broker, f->book, &f->tree);
}

static void test_full(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct shim_unmap nothing = {2 * G1, K4};
	const struct iommufd_pt *a;
	size_t done;

	restart(f);
	assert_int_equal(broker_restore(b), 0);
	assert_int_equal(b->strays, 0);
	broker_check(b);
	book_check_undisturbed(f->book, BOOK_DEVICES);
	/* Three attachments share a table of hardware. */
	a = iommufd_pt_of(b->pts[A]);
	assert_int_equal(a->n_attached, 4);
	assert_non_null(a->hwpts);
	assert_null(a->hwpts->next);
	assert_int_equal(a->hwpts->n_attached, 3);
	/* The contract is that of any context again. */
	assert_int_equal(shim_detach(b->devs[LARGE], 9), SHIM_E_NOT_ATTACHED);
	assert_int_equal(shim_pt_unmap(b->pts[A], &nothing, 1, &done), SHIM_E_NO_MAPPING);
	assert_int_equal(shim_attach(b->devs[DEV], SHIM_NO_PASID, b->pts[B], NULL),
			 SHIM_E_ATTACHED);
	assert_int_equal(broker_detach(b, LARGE, 5), 0);
	assert_int_equal(broker_detach(b, LARGE, 7), 0);
	assert_non_null(a->hwpts);
	assert_int_equal(broker_detach(b, LARGE, SHIM_NO_PASID), 0);
	assert_null(a->hwpts);
	broker_check(b);
	book_check_undisturbed(f->book, LARGE);
}

/* Nothing at all happens to what is there before the record is complete, or when it is left. */
static void test_restore_is_passive(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct fake before;

	restart(f);
	before = *fake_of(f);
	assert_int_equal(shim_ctx_restore(b->shim, "org", &f->book->ctx, &b->ctx), 0);
	assert_int_equal(shim_dev_restore(b->ctx, book_addresses[DEV], &f->book->devs[DEV].saved,
					  &b->devs[DEV]),
			 0);
	shim_ctx_leave(b->ctx);
	b->ctx = NULL;
	assert_memory_equal(before.contexts, fake_of(f)->contexts, sizeof(before.contexts));
	assert_memory_equal(before.devices, fake_of(f)->devices, sizeof(before.devices));
	assert_int_equal(broker_restore(b), 0);
	broker_check(b);
}

static void test_leave(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(shim_dev_fd(f->broker.devs[DEV], &f->tenant), 0);
	broker_stop(&f->broker);
	book_check_undisturbed(f->book, BOOK_DEVICES);
	assert_true(fake_reaches(fake_of(f), book_addresses[DEV], G1));
	assert_false(fake_of(f)->contexts[0].open);
	assert_true(fake_of(f)->contexts[0].kept);
	assert_int_equal(device(f, DEV)->fds, 1);
	assert_int_equal(device(f, LARGE)->fds, 0);
	shim_ctx_leave(NULL);
	broker_start(&f->broker, f->book, &f->tree);
	assert_int_equal(broker_restore(&f->broker), 0);
	broker_check(&f->broker);
}

static void test_gone(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct book *book = f->book;
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	struct shim_saved other_ctx, table = book->pts[C].saved, dev = book->devs[DEV].saved;
	struct shim_ctx *ctx = NULL;
	struct shim_dev *d = NULL;
	struct shim_pt *pt = NULL;

	/* A context, a device and a table that end before it is asked for them. */
	assert_int_equal(shim_ctx_new(b->shim, "org", NULL, &ctx), 0);
	shim_ctx_save(ctx, &other_ctx);
	shim_ctx_free(ctx);
	ctx = NULL;
	assert_int_equal(broker_free(b, C), 0);
	assert_int_equal(broker_release(b, DEV), 0);
	restart(f);
	assert_int_equal(shim_ctx_restore(b->shim, "org", &other_ctx, &ctx), SHIM_E_GONE);
	assert_null(ctx);
	assert_int_equal(shim_ctx_restore(b->shim, "org", &book->ctx, &b->ctx), 0);
	assert_int_equal(shim_dev_restore(b->ctx, book_addresses[DEV], &dev, &d), SHIM_E_GONE);
	assert_int_equal(shim_dev_restore(b->ctx, "0000:99:00.0", &dev, &d), SHIM_E_NO_DEVICE);
	/* Claimed, and another device's id. */
	dev = book->devs[LARGE].saved;
	dev.bytes[1] = 60;
	assert_int_equal(shim_dev_restore(b->ctx, book_addresses[LARGE], &dev, &d), SHIM_E_GONE);
	assert_int_equal(device(f, LARGE)->fds, 0);
	assert_int_equal(shim_pt_restore(b->ctx, &spec, &table, &pt), SHIM_E_GONE);
	/* A device's id is no table's. */
	table.bytes[1] = book->devs[LARGE].saved.bytes[1];
	assert_int_equal(shim_pt_restore(b->ctx, &spec, &table, &pt), SHIM_E_GONE);
	assert_null(d);
	assert_null(pt);
	shim_ctx_leave(b->ctx);
	b->ctx = NULL;
	assert_int_equal(broker_restore(b), 0);
	broker_check(b);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct book *book = f->book;
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	struct shim_pt_spec user = {.kind = SHIM_KIND_USER};
	const struct shim_saved *saved = &book->attachments[0].saved;
	struct shim_map map = {.iova = UINT64_C(1) << 50, .length = K4, .mem = b->mem, .prot = RW};
	struct shim_unmap range = {.iova = 1, .length = K4};
	struct shim_saved s = {0};
	struct shim_ctx *ctx = NULL;
	struct shim_dev *dev = NULL;
	struct shim_pt *pt = NULL;

	/* Each kind is refused where another is meant, and with a byte less or more. */
	assert_int_equal(shim_ctx_restore(b->shim, "org", &s, &ctx), -EINVAL);
	s = book->ctx;
	s.n--;
	assert_int_equal(shim_ctx_restore(b->shim, "org", &s, &ctx), -EINVAL);
	assert_int_equal(shim_ctx_restore(b->shim, "org", saved, &ctx), -EINVAL);
	assert_int_equal(shim_dev_restore(b->ctx, book_addresses[DEV2], saved, &dev), -EINVAL);
	s = book->devs[DEV].saved;
	memset(&s.bytes[1], 0, 4);
	assert_int_equal(shim_dev_restore(b->ctx, book_addresses[DEV2], &s, &dev), -EINVAL);
	memset(&s.bytes[1], 0xff, 4);
	assert_int_equal(shim_dev_restore(b->ctx, book_addresses[DEV2], &s, &dev), -EINVAL);
	s = book->pts[A].saved;
	assert_int_equal(shim_pt_restore(b->ctx, &user, &s, &pt), -EINVAL);
	s.n++;
	assert_int_equal(shim_pt_restore(b->ctx, &spec, &s, &pt), -EINVAL);
	s.n--;
	s.bytes[5] = _SHIM_FORMAT_MAX;
	assert_int_equal(shim_pt_restore(b->ctx, &spec, &s, &pt), -EINVAL);
	s = book->pts[A].saved;
	s.bytes[6] = 12;
	assert_int_equal(shim_pt_restore(b->ctx, &spec, &s, &pt), -EINVAL);
	s.bytes[6] = 64;
	assert_int_equal(shim_pt_restore(b->ctx, &spec, &s, &pt), -EINVAL);
	s = (struct shim_saved){.n = saved->n, .bytes = {'a', 0xff, 0xff, 0xff, 0xff}};
	assert_int_equal(shim_attach_restore(b->devs[LARGE], 9, b->pts[A], &s), -EINVAL);
	s.n--;
	assert_int_equal(shim_attach_restore(b->devs[LARGE], 9, b->pts[A], &s), -EINVAL);
	assert_int_equal(shim_attach_restore(b->devs[DEV], SHIM_NO_PASID, b->pts[A], saved),
			 SHIM_E_ATTACHED);
	assert_int_equal(shim_pt_restore_map(b->pts[A], &map, 1), SHIM_E_RANGE);
	assert_int_equal(shim_pt_undo_map(b->pts[A], &range, 1), SHIM_E_RANGE);
	assert_null(ctx);
	assert_null(dev);
	assert_null(pt);
	/* Nothing is saved of what is not attached. */
	shim_attach_save(b->devs[LARGE], 9, &s);
	assert_int_equal(s.n, 0);
	/* Of another context. */
	assert_int_equal(shim_ctx_new(b->shim, "org", NULL, &ctx), 0);
	assert_int_equal(shim_pt_create(ctx, &spec, NULL, &pt), 0);
	assert_int_equal(shim_attach_restore(b->devs[LARGE], 9, pt, saved), -EINVAL);
	shim_ctx_free(ctx);
	broker_check(b);
}

/* An attach that was cut short is recorded as if it had been, and detached. */
static void test_attach_that_may_have_been(void **state)
{
	static const struct shim_saved nothing = {0};
	struct fixture *f = *state;
	struct broker *b = &f->broker;

	for (unsigned was = 0; was < 2; was++) {
		if (was)
			assert_int_equal(shim_attach(b->devs[LARGE], 9, b->pts[C], NULL), 0);
		restart(f);
		assert_int_equal(broker_restore(b), 0);
		iommufd_ctx_of(b->ctx)->restoring = true;
		assert_int_equal(shim_attach_restore(b->devs[LARGE], 9, b->pts[C], &nothing), 0);
		assert_int_equal(shim_detach(b->devs[LARGE], 9), 0);
		assert_int_equal(shim_ctx_restored(b->ctx, &b->strays), 0);
		assert_int_equal(b->strays, was);
		broker_check(b);
		book_check_undisturbed(f->book, was ? LARGE : BOOK_DEVICES);
	}
}

/* What a device is not refused for a second time, and what is kept of a table. */
static void test_promises_are_kept(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN, .input_bits = 37};
	struct shim_pt *pt;

	spec.enforce_snoop = true;
	assert_int_equal(shim_pt_create(b->ctx, &spec, NULL, &pt), 0);
	f->book->pts[3].there = true;
	shim_pt_save(pt, &f->book->pts[3].saved);
	device(f, DEV)->cap ^= 1;
	restart(f);
	assert_int_equal(broker_restore(b), 0);
	assert_true(iommufd_pt_of(b->pts[3])->snoop);
	assert_int_equal(iommufd_pt_of(b->pts[3])->input_bits, 37);
	assert_int_equal(iommufd_pt_of(b->pts[3])->format, SHIM_FORMAT_KERNEL_CHOSEN);
	broker_check(b);
	book_check_undisturbed(f->book, BOOK_DEVICES);
}

/* Every call of a restore fails once; it is made again, and nobody notices. */
static void test_calls_fail(void **state)
{
	static const int errors[] = {-EIO, -ENOMEM, -EPIPE};
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct fake *fake = fake_of(f);
	unsigned n_failed = 0;
	uint64_t calls;

	restart(f);
	fake_arm(fake, 0, 0);
	assert_int_equal(broker_restore(b), 0);
	calls = fake->calls;
	assert_true(calls > 20);
	for (uint64_t nth = 1; nth <= calls; nth++)
		for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
			restart(f);
			fake_arm(fake, nth, errors[i]);
			if (broker_restore(b)) {
				n_failed++;
				fake_disarm(fake);
				restart(f);
				assert_int_equal(broker_restore(b), 0);
			}
			fake_disarm(fake);
			broker_check(b);
			book_check_undisturbed(f->book, BOOK_DEVICES);
		}
	/* What empties and destroys is made again by itself. */
	assert_true(n_failed > 60);
}

/* The last step fails at each of its calls, and is made again. */
static void test_last_step_is_made_again(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct fake *fake = fake_of(f);
	struct iommufd_ioas_alloc stray = {.size = sizeof(stray)};
	struct iommufd_ctx *ctx;
	size_t strays;
	uint64_t n;

	for (n = 1;; n++) {
		restart(f);
		assert_int_equal(broker_restore(b), 0);
		ctx = iommufd_ctx_of(b->ctx);
		ctx->restoring = true;
		assert_int_equal(iommufd_call(ctx, IOMMU_IOAS_ALLOC, &stray), 0);
		fake_arm(fake, n, -EIO);
		strays = 77;
		if (shim_ctx_restored(b->ctx, &strays)) {
			assert_int_equal(strays, 77);
			assert_true(ctx->restoring);
			assert_int_equal(shim_ctx_restored(b->ctx, &strays), 0);
		}
		assert_int_equal(strays, 1);
		assert_false(ctx->restoring);
		broker_check(b);
		book_check_undisturbed(f->book, BOOK_DEVICES);
		if (!fake->failed)
			break;
		fake_disarm(fake);
	}
	assert_true(n > 100);
}

/* Unplugged while the broker was away: the rest is restored. */
static void test_device_vanishes(void **state)
{
	struct fixture *f = *state;

	restart(f);
	fake_of(f)->only = VFIO_CDEV_ATTACH_PT;
	fake_arm(fake_of(f), 2, -ENODEV);
	assert_int_equal(broker_restore(&f->broker), 0);
	assert_int_equal(fake_of(f)->failed, VFIO_CDEV_ATTACH_PT);
	broker_check(&f->broker);
}

/* A holder has moved its device to another table of the lease while the broker was away. */
static void test_hostile_holder(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;

	assert_int_equal(shim_dev_fd(b->devs[DEV], &f->tenant), 0);
	broker_stop(b);
	assert_int_equal(
		fake_tenant_attach(fake_of(f), device(f, DEV), device(f, GROUP_A)->attached), 0);
	assert_false(fake_reaches(fake_of(f), book_addresses[DEV], G1));
	broker_start(b, f->book, &f->tree);
	assert_int_equal(broker_restore(b), 0);
	broker_check(b);
	assert_true(fake_reaches(fake_of(f), book_addresses[DEV], G1));
	book_check_undisturbed(f->book, DEV);
}

/* A claim that no record has ends as one, though somebody holds the device attached. */
static void test_surplus_claim_that_is_held(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;

	assert_int_equal(shim_dev_fd(b->devs[DEV], &f->tenant), 0);
	broker_stop(b);
	f->book->devs[DEV].there = false;
	f->book->attachments[0].there = false;
	broker_start(b, f->book, &f->tree);
	assert_int_equal(broker_restore(b), 0);
	assert_int_equal(b->strays, 1);
	assert_int_equal(device(f, DEV)->attached, 0);
	assert_int_equal(shim_dev_is_free(b->shim, book_addresses[DEV]), SHIM_E_DEVICE_BUSY);
	fake_tenant_close(fake_of(f), f->tenant);
	f->tenant = -1;
	assert_int_equal(shim_dev_is_free(b->shim, book_addresses[DEV]), 0);
	broker_check(b);
	book_check_undisturbed(f->book, DEV);
}

/* Ended with hardly anything restored, and a device that is held. */
static void test_closed_in_the_middle(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	const struct fake_context *c = &fake_of(f)->contexts[0];
	size_t n = 0;

	assert_int_equal(shim_dev_fd(b->devs[DEV], &f->tenant), 0);
	restart(f);
	assert_int_equal(shim_ctx_restore(b->shim, "org", &f->book->ctx, &b->ctx), 0);
	assert_int_equal(shim_pt_restore(b->ctx, &spec, &f->book->pts[B].saved, &b->pts[B]), 0);
	broker_close(b);
	assert_false(fake_reaches(fake_of(f), book_addresses[DEV], 0));
	assert_int_equal(fake_areas(fake_of(f)), 0);
	assert_int_equal(device(f, DEV)->attached, 0);
	/* Its holder finds nothing to attach it to. */
	for (size_t i = 0; i < FAKE_OBJECTS; i++)
		n += c->objects[i].type != FAKE_NONE;
	assert_int_equal(n, 1);
	assert_ptr_equal(device(f, DEV)->bound, c);
}

/* The same with PASIDs, which nobody can name: what they reach is empty. */
static void test_closed_with_unknown_pasids(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;

	assert_int_equal(shim_dev_fd(b->devs[LARGE], &f->tenant), 0);
	restart(f);
	assert_int_equal(shim_ctx_restore(b->shim, "org", &f->book->ctx, &b->ctx), 0);
	broker_close(b);
	assert_int_equal(device(f, LARGE)->attached, 0);
	assert_int_not_equal(device(f, LARGE)->pts[0], 0);
	assert_int_equal(fake_areas(fake_of(f)), 0);
}

/* The last table of a kind was replaced and is gone; its id went to another one. */
static void test_id_is_given_again(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct book_attachment old;
	const struct iommufd_pt *pt;

	for (unsigned way = 0; way < 2; way++) {
		struct book_attachment *a = &f->book->attachments[5];

		assert_int_equal(a->pasid, 6);
		old = *a;
		assert_int_equal(broker_replace(b, LARGE, 6, C), 0);
		/* Its result was not written down. */
		*a = old;
		f->book->intent =
			(struct book_intent){.call = CALL_REPLACE, .dev = LARGE, .pasid = 6};
		restart(f);
		b->replaces_back = way;
		assert_int_equal(broker_restore(b), 0);
		broker_check(b);
		pt = iommufd_pt_of(b->pts[B]);
		assert_non_null(pt->hwpts);
		assert_null(pt->hwpts->next);
		assert_false(pt->hwpts->gone);
		assert_null(iommufd_pt_of(b->pts[C])->hwpts);
		book_check_undisturbed(f->book, LARGE);
	}
}

/* Saved long ago: meanwhile the id is a table's, a device's, or another IOASID's. */
static void test_id_is_something_else(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct book_attachment *a = &f->book->attachments[5];
	const struct shim_saved others[] = {
		f->book->pts[C].saved,
		f->book->devs[DEV].saved,
		f->book->attachments[4].saved,
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		assert_int_equal(a->pasid, 6);
		memcpy(&a->saved.bytes[1], &others[i].bytes[1], 4);
		restart(f);
		assert_int_equal(broker_restore(b), 0);
		broker_check(b);
		assert_int_equal(b->strays, 1);
		book_check_undisturbed(f->book, LARGE);
	}
}

/* More is mapped than is known: that is not forgotten. */
static void test_broken_table(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct book_mapping twice[] = {{4 * G1, K4}, {4 * G1, K4}}, one = {8 * G1, K4};

	fake_of(f)->only = IOMMU_IOAS_UNMAP;
	fake_of(f)->forever = true;
	fake_arm(fake_of(f), 1, -EBUSY);
	assert_int_equal(broker_map(b, C, twice, 2, NULL), -EIO);
	fake_disarm(fake_of(f));
	shim_pt_save(b->pts[C], &f->book->pts[C].saved);
	restart(f);
	assert_int_equal(broker_restore(b), 0);
	assert_int_equal(broker_map(b, C, &one, 1, NULL), -EIO);
	assert_int_equal(broker_map(b, B, &one, 1, NULL), 0);
	assert_int_equal(broker_free(b, C), 0);
	broker_check(b);
}

/* The wrapper for tests hands everything through, and each call can fail. */
static void test_fail_shim(void **state)
{
	struct fixture *f = *state;
	struct broker *b = &f->broker;
	struct shim_unmap nothing[] = {{4 * G1, K4}, {8 * G1, K4}};
	uint64_t calls, n;

	restart(f);
	assert_int_equal(fail_shim_new(b->shim, &b->shim), 0);
	assert_true(shim_restores(b->shim));
	fail_shim_arm(b->shim, 0, 0);
	assert_int_equal(broker_restore(b), 0);
	calls = fail_shim_calls(b->shim);
	/* sweep, ctx, 4 devices, memory, 3 tables with maps, 7 attachments, the last step. */
	assert_int_equal(calls, 1 + 1 + 4 + 1 + 6 + 7 + 1);
	for (n = 1; n <= calls; n++) {
		restart(f);
		assert_int_equal(fail_shim_new(b->shim, &b->shim), 0);
		fail_shim_arm(b->shim, n, -ECHILD);
		/* The memory's failure is a failed assertion of the book's. */
		if (n == 7)
			continue;
		assert_int_equal(broker_restore(b), -ECHILD);
		assert_true(fail_shim_fired(b->shim));
	}
	restart(f);
	assert_int_equal(fail_shim_new(b->shim, &b->shim), 0);
	assert_int_equal(broker_restore(b), 0);
	fail_shim_arm(b->shim, 1, -ECHILD);
	iommufd_ctx_of(b->ctx)->restoring = true;
	assert_int_equal(shim_pt_undo_map(b->pts[A], nothing, 2), -ECHILD);
	assert_int_equal(shim_pt_undo_map(b->pts[A], nothing, 2), 0);
	iommufd_ctx_of(b->ctx)->restoring = false;
	broker_check(b);
	book_check_undisturbed(f->book, BOOK_DEVICES);
}

/* ---- a shim whose objects end with the broker ---- */

static unsigned n_freed;

static void plain_ctx_free(struct shim_ctx *ctx)
{
	n_freed++;
}

static void test_shim_without(void **state)
{
	static const struct shim_ops ops = {.ctx_free = plain_ctx_free};
	struct shim shim = {.ops = &ops};
	struct shim_ctx ctx = {.shim = &shim}, *found = NULL;
	struct shim_pt pt = {.shim = &shim}, *found_pt = NULL;
	struct shim_dev dev = {.shim = &shim}, *found_dev = NULL;
	struct shim_saved saved = {.n = 5};
	size_t n = 77;

	assert_false(shim_restores(&shim));
	shim_ctx_save(&ctx, &saved);
	assert_int_equal(saved.n, 0);
	shim_dev_save(&dev, &saved);
	shim_pt_save(&pt, &saved);
	shim_attach_save(&dev, SHIM_NO_PASID, &saved);
	assert_int_equal(saved.n, 0);
	assert_int_equal(shim_ctx_restore(&shim, "org", &saved, &found), SHIM_E_GONE);
	assert_int_equal(shim_dev_restore(&ctx, "0000:00:03.0", &saved, &found_dev), SHIM_E_GONE);
	assert_int_equal(shim_pt_restore(&ctx, NULL, &saved, &found_pt), SHIM_E_GONE);
	assert_int_equal(shim_pt_restore_map(&pt, NULL, 0), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_attach_restore(&dev, 1, &pt, &saved), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_pt_undo_map(&pt, NULL, 0), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_ctx_restored(&ctx, &n), SHIM_E_UNSUPPORTED);
	assert_int_equal(n, 77);
	assert_int_equal(shim_sweep(&shim, NULL, 0, &n), 0);
	assert_int_equal(n, 0);
	shim_ctx_leave(&ctx);
	assert_int_equal(n_freed, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_full),
		T(test_restore_is_passive),
		T(test_leave),
		T(test_gone),
		T(test_refused),
		T(test_attach_that_may_have_been),
		T(test_promises_are_kept),
		T(test_calls_fail),
		T(test_last_step_is_made_again),
		T(test_device_vanishes),
		T(test_hostile_holder),
		T(test_surplus_claim_that_is_held),
		T(test_closed_in_the_middle),
		T(test_closed_with_unknown_pasids),
		T(test_id_is_given_again),
		T(test_id_is_something_else),
		T(test_broken_table),
		T(test_fail_shim),
		cmocka_unit_test(test_shim_without),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
