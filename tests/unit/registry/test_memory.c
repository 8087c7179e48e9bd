/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading where the n-th allocation fails, for every n: it says so, keeps nothing, and does not
 * take it for damage.
 */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>

static long countdown = -1;

static bool fails(void)
{
	return countdown >= 0 && !countdown--;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

static void every_allocation(void **state)
{
	struct fixture *f = *state;
	uint8_t *bytes;
	size_t size;
	long n = 0;

	fixture_start(f, NULL);
	/* So many that the table of leases grows, and the arena. */
	for (uint64_t serial = 1; serial <= 400; serial++) {
		LEASE(lease);
		BATCH(batch);

		lease.tenant = TEXT("org");
		batch.lease = &lease;
		put(f, serial, &batch);
	}
	put_whole_lease(f, 500);
	put_zero(f);
	bytes = log_read(f, "log", &size);
	for (;; n++) {
		int r;

		countdown = n;
		r = registry_load_bytes(bytes, size, &f->image, &f->problem);
		countdown = -1;
		if (!r)
			break;
		assert_int_equal(r, -ENOMEM);
		assert_null(f->image);
	}
	assert_true(n > 8);
	assert_int_equal(f->image->damaged, 0);
	assert_int_equal(f->image->n_leases, 401);
	free(bytes);
}

static void opening(void **state)
{
	struct fixture *f = *state;
	long n;
	int r = -ENOMEM;

	fixture_start(f, NULL);
	put_whole_lease(f, 1);
	fixture_close(f);
	for (n = 0; r; n++) {
		countdown = n;
		r = registry_open(f->folder, &f->registry, &f->image, &f->problem);
		countdown = -1;
		assert_true(!r || r == -ENOMEM);
		assert_true(!r == !!f->registry);
	}
	assert_true(n > 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(every_allocation), TEST(opening)};

	return cmocka_run_group_tests_name("registry memory", tests, NULL, NULL);
}
