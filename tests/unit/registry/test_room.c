/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the file system is full: what is new is refused and changes nothing, what was promised
 * is kept, what gives back goes on, a compaction succeeds, and the last resort is told.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "registry/log_format.h"

#define SLACK 8192

/* A file system of so many bytes. */
static int limited(void *data, int fd, size_t offset, size_t length)
{
	size_t *left = data;

	if (length > *left)
		return -ENOSPC;
	if (fallocate(fd, 0, (off_t)offset, (off_t)length))
		return -errno;
	*left -= length;
	return 0;
}

static void memory_batch(uint64_t id, Ioasid__Registry__Batch *ret_batch)
{
	static Ioasid__Registry__Memory memory;
	static Ioasid__Registry__Memory *memories[] = {&memory};

	memory = (Ioasid__Registry__Memory)IOASID__REGISTRY__MEMORY__INIT;
	memory.id = id;
	memory.length = 1 << 20;
	memory.label = TEXT("a label of some length, as tenants like to give");
	*ret_batch = (Ioasid__Registry__Batch)IOASID__REGISTRY__BATCH__INIT;
	ret_batch->memories = memories;
	ret_batch->n_memories = 1;
}

static void drop_batch(uint64_t id, Ioasid__Registry__Batch *ret_batch)
{
	static Ioasid__Registry__Drop d;
	static Ioasid__Registry__Drop *drops[] = {&d};

	d = (Ioasid__Registry__Drop)IOASID__REGISTRY__DROP__INIT;
	d.memory = id;
	*ret_batch = (Ioasid__Registry__Batch)IOASID__REGISTRY__BATCH__INIT;
	ret_batch->drops = drops;
	ret_batch->n_drops = 1;
}

static void put_lease(struct fixture *f)
{
	LEASE(lease);
	BATCH(batch);

	lease.tenant = TEXT("org");
	batch.lease = &lease;
	put(f, 1, &batch);
}

static int try_put(struct fixture *f, uint64_t id)
{
	struct registry_room room = {0};
	BATCH(batch);
	int r;

	memory_batch(id, &batch);
	r = registry_room_take(f->registry, REGISTRY_GROWS, registry_batch_size(&batch), &room);
	if (!r)
		registry_append(f->registry, &room, 1, &batch);
	assert_int_equal(room.bytes, 0);
	return r;
}

static void drop_id(struct fixture *f, uint64_t id)
{
	struct registry_room room = {0};
	BATCH(batch);

	drop_batch(id, &batch);
	assert_int_equal(registry_room_take(f->registry, REGISTRY_RELEASES,
					    registry_batch_size(&batch), &room),
			 0);
	registry_append(f->registry, &room, 1, &batch);
}

/* Writes [from, to) as the snapshot and commits. */
static void compact(struct fixture *f, uint64_t from, uint64_t to)
{
	LEASE(lease);
	BATCH(batch);

	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	lease.tenant = TEXT("org");
	batch.lease = &lease;
	assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	for (uint64_t id = from; id < to; id++) {
		memory_batch(id, &batch);
		assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	}
	assert_int_equal(registry_commit(f->registry), 0);
}

static size_t n_memories(struct fixture *f)
{
	fixture_load(f);
	assert_int_equal(f->image->damaged, 0);
	assert_int_equal(f->image->n_leases, 1);
	assert_string_equal(f->image->leases[0].damage, "");
	return f->image->leases[0].n_memories;
}

static uint64_t fill(struct fixture *f)
{
	uint64_t n = 0;

	while (!try_put(f, n + 1))
		n++;
	assert_true(n > 100);
	assert_int_equal(n_memories(f), n);
	return n;
}

static void full_and_going_on(struct fixture *f, size_t *left)
{
	struct registry_stats before, after;
	uint64_t n, first = 1;

	put_lease(f);
	n = fill(f);
	registry_stats(f->registry, &before);
	assert_int_equal(before.refused, 1);
	assert_int_equal(try_put(f, n + 1), -ENOSPC);
	registry_stats(f->registry, &after);
	assert_int_equal(after.used, before.used);
	assert_int_equal(after.refused, 2);
	/* Giving back goes on, out of the slack, and a compaction follows when it is asked for. */
	for (unsigned round = 0; first < n; round++) {
		while (!registry_wants_compaction(f->registry) && first < n)
			drop_id(f, first++);
		registry_stats(f->registry, &after);
		assert_int_equal(after.stale, 0);
		assert_int_equal(n_memories(f), n + 1 - first);
		compact(f, first, n + 1);
		assert_int_equal(n_memories(f), n + 1 - first);
	}
	assert_int_equal(try_put(f, n + 1), 0);
	assert_int_equal(n_memories(f), 2);
	registry_stats(f->registry, &after);
	assert_true(after.compactions >= 1);
	if (left)
		assert_true(*left > 0);
}

static void full_by_the_hook(void **state)
{
	size_t left = 1 << 20;
	const struct registry_options options = {
		.slack = SLACK, .step = 1, .allocate = limited, .data = &left};

	fixture_start(*state, &options);
	full_and_going_on(*state, NULL);
}

static void full_on_a_small_tmpfs(void **state)
{
	struct fixture *f = *state;
	const struct registry_options options = {.slack = SLACK};

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", f->folder, "tmpfs", 0, "size=2m"))
		skip();
	fixture_start(f, &options);
	full_and_going_on(f, NULL);
	fixture_close(f);
	umount(f->folder);
}

/* What was promised before it was full is kept after. */
static void a_promise_is_kept(void **state)
{
	struct fixture *f = *state;
	size_t left = 1 << 20;
	const struct registry_options options = {
		.slack = SLACK, .step = 1, .allocate = limited, .data = &left};
	struct registry_room room = {0}, other = {0};
	struct registry_stats stats;
	BATCH(batch);
	size_t size;
	unsigned n = 0;

	fixture_start(f, &options);
	put_lease(f);
	memory_batch(1000000, &batch);
	size = registry_batch_size(&batch);
	while (!registry_room_take(f->registry, REGISTRY_GROWS, size, &room))
		n++;
	assert_true(n > 100);
	assert_int_equal(room.bytes, n * size);
	assert_int_equal(registry_room_take(f->registry, REGISTRY_GROWS, size, &other), -ENOSPC);
	assert_int_equal(other.bytes, 0);
	/* One back, one to be had, and no more: n and n + 1. */
	room.bytes -= size;
	other.bytes = size;
	registry_room_release(f->registry, &other);
	assert_int_equal(registry_room_take(f->registry, REGISTRY_GROWS, size, &other), 0);
	assert_int_equal(registry_room_take(f->registry, REGISTRY_GROWS, size, &other), -ENOSPC);
	registry_room_release(f->registry, &other);
	n--;
	/* All of it while a compaction goes on: both logs hold it, the new one twice. */
	left = 0;
	for (unsigned i = 0; i < n; i++) {
		if (!i)
			assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
		memory_batch(1000000 + i, &batch);
		registry_append(f->registry, &room, 1, &batch);
	}
	assert_int_equal(room.bytes, 0);
	for (unsigned i = 0; i < n; i++) {
		memory_batch(1000000 + i, &batch);
		assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	}
	{
		LEASE(lease);
		BATCH(last);

		lease.tenant = TEXT("org");
		last.lease = &lease;
		assert_int_equal(registry_append_new(f->registry, 1, &last), 0);
	}
	assert_int_equal(n_memories(f), n);
	assert_int_equal(registry_commit(f->registry), 0);
	assert_int_equal(n_memories(f), n);
	registry_stats(f->registry, &stats);
	assert_int_equal(stats.stale, 0);
}

/*
 * What is new while a compaction goes on is in the new log twice: as a change, and in the snapshot
 * that is written after it.  The snapshot is as large as can be: nothing was given back.
 */
static void both_and_the_snapshot(void **state)
{
	struct fixture *f = *state;
	size_t left = 1 << 20;
	const struct registry_options options = {
		.slack = SLACK, .step = 1, .allocate = limited, .data = &left};
	struct registry_stats stats;
	LEASE(lease);
	BATCH(batch);
	uint64_t n = 0, m;

	fixture_start(f, &options);
	put_lease(f);
	while (n < 1000)
		assert_int_equal(try_put(f, ++n), 0);
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	for (m = n; !try_put(f, m + 1); m++)
		;
	assert_true(m > n + 1000);
	left = 0;
	lease.tenant = TEXT("org");
	batch.lease = &lease;
	assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	for (uint64_t id = 1; id <= m; id++) {
		memory_batch(id, &batch);
		assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	}
	assert_int_equal(registry_commit(f->registry), 0);
	assert_int_equal(n_memories(f), m);
	registry_stats(f->registry, &stats);
	assert_int_equal(stats.stale, 0);
	assert_int_equal(stats.refused, 1);
}

/* A batch of many is room enough for as many batches of one. */
static void a_snapshot_may_cut_batches(void **state)
{
	struct fixture *f = *state;
	size_t left = 1 << 20;
	const struct registry_options options = {
		.slack = SLACK, .step = 1, .allocate = limited, .data = &left};
	Ioasid__Registry__Mapping mappings[64], *pointers[64];
	struct registry_room room = {0};
	BATCH(batch);
	uint64_t n = 0;

	fixture_start(f, &options);
	for (;;) {
		for (unsigned i = 0; i < 64; i++) {
			mappings[i] = (Ioasid__Registry__Mapping)IOASID__REGISTRY__MAPPING__INIT;
			mappings[i].ioasid = 1;
			mappings[i].iova = 4096 * ++n;
			mappings[i].length = 4096;
			pointers[i] = &mappings[i];
		}
		batch.mappings = pointers;
		batch.n_mappings = 64;
		if (registry_room_take(f->registry, REGISTRY_GROWS, registry_batch_size(&batch),
				       &room))
			break;
		registry_append(f->registry, &room, 1, &batch);
	}
	n -= 64;
	assert_true(n > 1000);
	left = 0;
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	batch.n_mappings = 1;
	for (uint64_t i = 1; i <= n; i++) {
		mappings[0].iova = 4096 * i;
		assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	}
	assert_int_equal(registry_commit(f->registry), 0);
}

/* The caller did not compact when it was asked to: told, confined, healed. */
static void the_last_resort(void **state)
{
	struct fixture *f = *state;
	size_t left = 1 << 20;
	const struct registry_options options = {
		.slack = SLACK, .step = 1, .allocate = limited, .data = &left};
	struct registry_stats stats;
	uint64_t n, dropped = 0;

	fixture_start(f, &options);
	put_whole_lease(f, 9);
	put_lease(f);
	n = 0;
	while (!try_put(f, 100 + n))
		n++;
	left = 0;
	do {
		drop_id(f, 100 + dropped++);
		registry_stats(f->registry, &stats);
	} while (!stats.stale && dropped < n);
	assert_int_equal(stats.stale, 1);
	assert_true(registry_wants_compaction(f->registry));
	drop_id(f, 100 + dropped++);
	fixture_load(f);
	assert_int_equal(f->image->damaged, 1);
	assert_false(f->image->lost);
	assert_non_null(strstr(lease_of(f->image, 1)->damage, "no space"));
	assert_string_equal(lease_of(f->image, 9)->damage, "");
	compact(f, 100 + dropped, 100 + n);
	registry_stats(f->registry, &stats);
	assert_int_equal(stats.stale, 0);
	assert_int_equal(n_memories(f), n - dropped);
	assert_false(registry_wants_compaction(f->registry));
}

/* A new log that lacks a change never becomes the log. */
static void a_new_log_that_lacks_one(void **state)
{
	struct fixture *f = *state;
	size_t left = 1 << 20;
	const struct registry_options options = {
		.slack = SLACK, .step = 1, .allocate = limited, .data = &left};
	struct registry_stats stats;
	LEASE(lease);
	BATCH(batch);
	uint64_t n, dropped = 0;

	fixture_start(f, &options);
	put_lease(f);
	n = fill(f);
	left = 0;
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	lease.tenant = TEXT("org");
	batch.lease = &lease;
	assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	for (uint64_t id = 1; id <= n; id++) {
		memory_batch(id, &batch);
		assert_int_equal(registry_append_new(f->registry, 1, &batch), 0);
	}
	for (unsigned i = 0; i < 2 * SLACK / 32; i++)
		drop_id(f, ++dropped);
	memory_batch(1, &batch);
	assert_int_equal(registry_append_new(f->registry, 1, &batch), -ENOSPC);
	assert_int_equal(registry_commit(f->registry), -ENOSPC);
	assert_true(registry_is_compacting(f->registry));
	registry_abandon(f->registry);
	registry_stats(f->registry, &stats);
	assert_true(stats.stale > 0);
	assert_int_equal(stats.compactions, 0);
	compact(f, dropped + 1, n + 1);
	assert_int_equal(n_memories(f), n - dropped);
	registry_stats(f->registry, &stats);
	assert_int_equal(stats.stale, 0);
}

/* More leases than the page can name: all of them. */
static void the_last_resort_of_many(void **state)
{
	struct fixture *f = *state;
	size_t left = 1 << 20;
	const struct registry_options options = {
		.slack = SLACK, .step = 1, .allocate = limited, .data = &left};
	struct registry_stats stats;
	BATCH(batch);

	fixture_start(f, &options);
	put_whole_lease(f, 9);
	left = 0;
	drop_batch(5, &batch);
	do {
		drop_id(f, 5);
		registry_stats(f->registry, &stats);
	} while (!stats.stale);
	for (uint64_t serial = 100; serial < 100 + 2 * LOG_STALE_MAX; serial++) {
		struct registry_room room = {0};

		assert_int_equal(registry_room_take(f->registry, REGISTRY_RELEASES,
						    registry_batch_size(&batch), &room),
				 0);
		registry_append(f->registry, &room, serial, &batch);
	}
	fixture_load(f);
	assert_true(f->image->lost);
	assert_true(*lease_of(f->image, 9)->damage);
}

static void no_space_to_begin(void **state)
{
	struct fixture *f = *state;
	size_t left = 0;
	const struct registry_options options = {
		.slack = SLACK, .step = 1, .allocate = limited, .data = &left};

	fixture_open(f, &options);
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), -ENOSPC);
	left = 1 << 20;
	assert_int_equal(registry_begin(f->registry, &test_boot, NULL), 0);
	left = 0;
	for (uint64_t id = 1;; id++) {
		BATCH(batch);
		int r;

		memory_batch(id, &batch);
		r = registry_append_new(f->registry, 1, &batch);
		if (!r)
			continue;
		assert_int_equal(r, -ENOSPC);
		break;
	}
	registry_abandon(f->registry);
	assert_int_equal(registry_load(f->folder, &f->image, &f->problem), REGISTRY_E_NONE);
}

/* What a compaction has made superfluous is given back to the file system. */
static void files_shrink(void **state)
{
	struct fixture *f = *state;
	const struct registry_options options = {.slack = SLACK};
	struct registry_stats before, after;

	fixture_start(f, &options);
	put_lease(f);
	for (uint64_t id = 1; id <= 100000; id++)
		assert_int_equal(try_put(f, id), 0);
	registry_stats(f->registry, &before);
	for (uint64_t id = 1; id < 100000; id++)
		drop_id(f, id);
	compact(f, 100000, 100001);
	registry_stats(f->registry, &after);
	assert_true(before.allocated > 10 << 20);
	assert_true(after.allocated < 1 << 20);
	assert_int_equal(try_put(f, 100001), 0);
	assert_int_equal(n_memories(f), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(full_by_the_hook),		  TEST(full_on_a_small_tmpfs),
		TEST(a_promise_is_kept),	  TEST(both_and_the_snapshot),
		TEST(a_snapshot_may_cut_batches), TEST(the_last_resort),
		TEST(a_new_log_that_lacks_one),	  TEST(the_last_resort_of_many),
		TEST(no_space_to_begin),	  TEST(files_shrink),
	};

	return cmocka_run_group_tests_name("registry room", tests, NULL, NULL);
}
