/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tables that mean harm: they lead to themselves and out of the parent, and change while
 * they are walked, in memory that goes away.  A device never reaches what the parent does
 * not map, a walk ends within its bound, and nothing crashes.  Run this under the thread
 * sanitizer too.  And, for what is not hostile: tables of real kernels as a tenant's.
 */

#include "tenant.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define DATA IOASID_SOURCE_DIR "/tests/data/page-tables/"

static uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* ---- the bound ---- */

/* Memory that answers whatever keeps the walk going, and counts. */
struct endless {
	uint64_t accesses;
	uint64_t entry;	 /* what is read */
	bool moving;	 /* an exchange always finds something else */
	uint64_t change; /* which bit differs then */
};

static int endless_load(const void *memory, uint64_t address, uint64_t *ret_entry)
{
	struct endless *e = (struct endless *)memory;

	e->accesses++;
	*ret_entry = e->entry;
	return 0;
}

static int endless_update(const void *memory, uint64_t address, uint64_t *expected, uint64_t wanted)
{
	struct endless *e = (struct endless *)memory;

	e->accesses++;
	if (!e->moving)
		return 0;
	*expected ^= e->change;
	return 1;
}

static void test_walks_are_bounded(void **state)
{
	const struct soft_format *format = &soft_format_x86_64_5l;
	struct soft_translation where;
	struct shim_fault fault;

	for (unsigned int n = 1; n <= SOFT_STAGES_MAX; n++) {
		static const uint64_t quiet[] = {5, 35, 215, 1295};
		static const uint64_t moving[] = {45, 540, 5985, 65880};
		struct soft_stage stages[SOFT_STAGES_MAX];
		struct endless e = {.entry = P | W | U | A | D, .change = 1ull << 9};

		for (unsigned int i = 0; i < n; i++)
			stages[i] = (struct soft_stage){
				.format = format,
				.env = {.output_bits = 52},
				.shape = {.levels = 5, .input_bits = 57, .root_bits = 9},
				.tables_in_next = i + 1 < n,
				.load = endless_load,
				.update = endless_update,
				.memory = &e,
			};
		/* Every table leads to the page at 0 and all bits are set: exactly that many. */
		assert_int_equal(soft_walk_bound(stages, n), quiet[n - 1]);
		assert_true(
			soft_walk(stages, n, 0x123, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
		assert_int_equal(e.accesses, quiet[n - 1]);
		/* Bits are to be set, and are, or somebody is always faster. */
		for (unsigned int i = 0; i < n; i++)
			stages[i].env.access_dirty = true;
		assert_int_equal(soft_walk_bound(stages, n), moving[n - 1]);
		e.entry = P | W | U;
		e.accesses = 0;
		assert_true(
			soft_walk(stages, n, 0x123, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
		assert_true(e.accesses > quiet[n - 1] && e.accesses <= moving[n - 1]);
		e.moving = true;
		e.accesses = 0;
		assert_false(
			soft_walk(stages, n, 0x123, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
		assert_int_equal(fault.cause, SHIM_FAULT_BAD_ENTRY);
		assert_true(e.accesses <= moving[n - 1]);
		/* The other one sets the very bits: that is no harm. */
		e.change = A | D;
		e.accesses = 0;
		assert_true(
			soft_walk(stages, n, 0x123, SHIM_WRITE | SOFT_USER, NULL, &where, &fault));
		assert_true(e.accesses <= moving[n - 1]);
	}
}

/* ---- beside those who change everything ---- */

#define MEMORY	 (16 * M2)
#define REACH	 (4 * M2) /* what the parent maps, to write to */
#define TO_READ	 M2	  /* and what it maps behind that, to read */
#define OUTSIDE	 0x5e	  /* what all other memory holds */
#define N_TABLES 64

struct attack {
	struct fixture f;
	struct tenant t[3];
	atomic_bool stop;
	atomic_ulong moved, faults, odd, leaked;
};

static void *run_rewriter(void *arg)
{
	struct attack *a = arg;
	uint64_t seed = 0x9e3779b97f4a7c15;

	while (!atomic_load(&a->stop)) {
		const struct tenant *t = &a->t[rnd(&seed) % 3];
		uint64_t table = rnd(&seed) % N_TABLES, target;
		uint64_t bits = rnd(&seed) & 0x8000000000000fff;

		switch (rnd(&seed) % 4) {
		case 0: /* itself, or another table */
			target = t->base + TABLES + rnd(&seed) % N_TABLES * K4;
			break;
		case 1: /* behind all that the parent maps, or its table */
			target = rnd(&seed) & 0x0000fffffffff000;
			break;
		default: /* any page of the memory, in the parent or not */
			target = t->base + rnd(&seed) % (MEMORY / K4) * K4;
		}
		atomic_store((_Atomic uint64_t *)(a->f.bytes + TABLES + table * K4 +
						  rnd(&seed) % 512 * 8),
			     target | bits | (rnd(&seed) % 4 ? 7 : 0));
	}
	return NULL;
}

struct hostile_device {
	pthread_t thread;
	struct attack *a;
	struct shim_dev *dev;
	uint32_t pasid;
};

static void *run_hostile(void *arg)
{
	struct hostile_device *h = arg;
	struct attack *a = h->a;
	uint64_t seed = 88172645463325252ull + h->pasid;
	uint8_t buf[3 * K4];

	while (!atomic_load(&a->stop)) {
		uint32_t access = rnd(&seed) % 3 ? SHIM_READ : SHIM_WRITE;
		uint64_t iova = rnd(&seed) & 0x00007fffffffffff;
		struct shim_fault fault = {0};
		size_t done = 0;

		/* What it writes is told from what must not be reached. */
		memset(buf, 0x11, sizeof(buf));
		if (shim_dma(h->dev, h->pasid, access, iova, buf, sizeof(buf), &done, &fault))
			atomic_fetch_add(&a->odd, 1);
		if ((done < sizeof(buf)) != (fault.cause != SHIM_FAULT_NONE) ||
		    fault.cause > SHIM_FAULT_PARENT_PERMISSION)
			atomic_fetch_add(&a->odd, 1);
		/* Whole pages of what lies outside: tables hold no such thing by chance. */
		for (size_t at = 0; access == SHIM_READ && at + 64 <= done; at += 64) {
			static const uint8_t outside[64] = {[0 ... 63] = OUTSIDE};

			if (!memcmp(buf + at, outside, 64)) {
				atomic_fetch_add(&a->leaked, 1);
				break;
			}
		}
		atomic_fetch_add(done ? &a->moved : &a->faults, 1);
	}
	return NULL;
}

/* All tables lead somewhere within the tenant's memory, so that much is reached. */
static void plant(struct attack *a, unsigned int i)
{
	struct tenant *t = &a->t[i];

	for (uint64_t table = 0; table < N_TABLES; table++)
		for (uint64_t n = 0; n < 512; n++)
			*(_Atomic uint64_t *)(a->f.bytes + TABLES + table * K4 + n * 8) =
				(t->base + TABLES + (table * 7 + n) % N_TABLES * K4) | 7;
}

static void test_rewritten_under_the_walk(void **state)
{
	struct attack *a = calloc(1, sizeof(*a));
	struct hostile_device devices[3] = {0};
	struct shim_pt *parent, *pts[3];
	struct shim_mem *spare = NULL;
	struct timespec end, now;
	uint64_t seed = 42;
	pthread_t rewriter;
	unsigned long rounds = 0;
	uint8_t *outside;
	int fd;

	assert_non_null(a);
	tenant_guard_arm();
	fixture_open(&a->f, NULL, 0, MEMORY);
	memset(a->f.bytes + REACH, OUTSIDE, MEMORY - REACH);
	memset(a->f.bytes + REACH, 0x22, TO_READ);
	/* A memory of the same context that is mapped nowhere. */
	fd = memfd_create("outside", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, M2), 0);
	outside = mmap(NULL, M2, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(outside != MAP_FAILED);
	memset(outside, OUTSIDE, M2);
	assert_int_equal(shim_mem_register(a->f.ctx, fd, 0, M2, RW, &spare), 0);
	parent = fixture_pt(&a->f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(&a->f, parent, BASE, REACH, 0, RW), 0);
	assert_int_equal(fixture_map(&a->f, parent, BASE + REACH, TO_READ, REACH, SHIM_READ), 0);
	for (unsigned int i = 0; i < 3; i++) {
		a->t[i] = (struct tenant){.f = &a->f, .base = BASE, .levels = 4};
		a->t[i].root = BASE + TABLES + i * K4;
		/* Two on the parent, the third on the second. */
		pts[i] = tenant_pt(&a->f, i == 1 ? SHIM_FORMAT_VTDSS_4L : SHIM_FORMAT_X86_64_4L,
				   i == 2 ? pts[1] : parent,
				   &(struct shim_table){.root = a->t[i].root});
		devices[i] = (struct hostile_device){.a = a, .dev = a->f.dev0, .pasid = i + 1};
		fixture_attach(a->f.dev0, i + 1, pts[i]);
		plant(a, i);
	}
	assert_int_equal(pthread_create(&rewriter, NULL, run_rewriter, a), 0);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&devices[i].thread, NULL, run_hostile, &devices[i]),
				 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 2;
	do {
		unsigned int i = (unsigned int)(rnd(&seed) % 3);
		uint64_t at = TABLES + rnd(&seed) % N_TABLES * K4;
		struct shim_walk walk;

		switch (rounds++ % 6) {
		case 0:
			assert_int_equal(shim_pt_walk(pts[i], rnd(&seed) & 0x7fffffffffff,
						      SHIM_WRITE, &walk),
					 0);
			assert_true(walk.n_levels <= SHIM_WALK_MAX);
			break;
		case 1: /* pages that the tenant gives back to the system */
			assert_int_equal(fallocate(a->f.fd,
						   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						   (off_t)at, K4),
					 0);
			break;
		case 2:
			assert_int_equal(shim_pt_invalidate(pts[i],
							    &(struct shim_invalidate){
								    .scope = SHIM_INVALIDATE_ALL},
							    1, &(size_t){0}),
					 0);
			break;
		case 3:
			tenant_bind(pts[i], BASE + rnd(&seed) % (MEMORY / K4) * K4, 0);
			break;
		case 4:
			tenant_bind(pts[i], a->t[i].root, 0);
			break;
		default: /* the parent unmaps what they walk in */
			assert_int_equal(fixture_unmap(parent, BASE, REACH), 0);
			assert_int_equal(fixture_map(&a->f, parent, BASE, REACH, 0, RW), 0);
			if (rounds % 64 == 0)
				plant(a, i);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec ||
		 (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec) ||
		 !atomic_load(&a->moved));
	atomic_store(&a->stop, true);
	pthread_join(rewriter, NULL);
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(devices[i].thread, NULL);
	assert_int_equal(atomic_load(&a->odd), 0);
	assert_int_equal(atomic_load(&a->leaked), 0);
	assert_true(atomic_load(&a->faults) > 0);
	for (uint64_t at = 0; at < M2; at++)
		if (outside[at] != OUTSIDE)
			fail_msg("byte %llu of memory that is mapped nowhere was written",
				 (unsigned long long)at);
	for (uint64_t at = REACH + TO_READ; at < MEMORY; at++)
		if (a->f.bytes[at] != OUTSIDE)
			fail_msg("byte %llu outside of the parent was written",
				 (unsigned long long)at);
	for (uint64_t at = REACH; at < REACH + TO_READ; at++)
		if (a->f.bytes[at] != 0x22)
			fail_msg("byte %llu, which the parent lets read, was written",
				 (unsigned long long)at);
	fixture_close(&a->f);
	munmap(outside, M2);
	close(fd);
	free(a);
}

/* The file ends before the tables do: each access to them raises SIGBUS, beside others. */
static void test_cut_under_the_walk(void **state)
{
	struct attack *a = calloc(1, sizeof(*a));
	struct hostile_device device = {0};
	struct shim_pt *parent, *pt;

	assert_non_null(a);
	tenant_guard_arm();
	fixture_open(&a->f, NULL, 0, MEMORY);
	parent = fixture_pt(&a->f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(&a->f, parent, BASE, MEMORY, 0, RW), 0);
	a->t[0] = (struct tenant){.f = &a->f, .base = BASE, .levels = 4};
	plant(a, 0);
	pt = tenant_pt(&a->f, SHIM_FORMAT_X86_64_4L, parent,
		       &(struct shim_table){.root = BASE + TABLES});
	device = (struct hostile_device){.a = a, .dev = a->f.dev0, .pasid = SHIM_NO_PASID};
	fixture_attach(a->f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(pthread_create(&device.thread, NULL, run_hostile, &device), 0);
	for (unsigned int i = 0; i < 200; i++) {
		assert_int_equal(ftruncate(a->f.fd, TABLES), 0);
		assert_int_equal(
			shim_pt_invalidate(pt,
					   &(struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL},
					   1, &(size_t){0}),
			0);
		assert_int_equal(ftruncate(a->f.fd, MEMORY), 0);
		plant(a, 0);
	}
	while (!atomic_load(&a->moved))
		plant(a, 0);
	atomic_store(&a->stop, true);
	pthread_join(device.thread, NULL);
	assert_int_equal(atomic_load(&a->odd), 0);
	assert_true(atomic_load(&a->faults) > 0);
	fixture_close(&a->f);
	free(a);
}

/* ---- tables of real kernels ---- */

static void load_tables(struct fixture *f, const char *folder)
{
	char path[512];
	uint64_t address;
	size_t n = 0;
	FILE *file;

	snprintf(path, sizeof(path), DATA "%s/pages.bin", folder);
	file = fopen(path, "rb");
	assert_non_null(file);
	for (; fread(&address, sizeof(address), 1, file) == 1; n++) {
		assert_true(address + K4 <= f->length);
		assert_int_equal(fread(f->bytes + address, K4, 1, file), 1);
	}
	fclose(file);
	assert_true(n > 100);
}

/*
 * Their physical addresses are the parent's addresses now, and what they lead to is where
 * the independent answers say, seen through the parent.
 */
static void agree(const char *folder, enum shim_format format, uint64_t root, uint32_t flags,
		  size_t expected)
{
	char path[512], line[512], pa[64], size[16], perms[16], tag[256];
	struct shim_pt *parent, *pt;
	size_t lines = 0, found = 0;
	unsigned long long va;
	struct fixture f;
	FILE *file;

	fixture_open(&f, NULL, 0, 16 * G1);
	load_tables(&f, folder);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_5L, NULL);
	assert_int_equal(fixture_map(&f, parent, 0, f.length, 0, RW), 0);
	pt = tenant_pt(&f, format, parent, &(struct shim_table){.root = root, .flags = flags});
	snprintf(path, sizeof(path), DATA "%s/translations.tsv", folder);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		struct shim_walk walk;
		uint64_t target;

		if (line[0] == '#')
			continue;
		assert_int_equal(
			sscanf(line, "%llx %63s %15s %15s %255s", &va, pa, size, perms, tag), 5);
		lines++;
		assert_int_equal(
			shim_pt_walk(pt, va, strchr(perms, 'r') ? SHIM_READ : SHIM_WRITE, &walk),
			0);
		if (!strcmp(pa, "FAULT")) {
			assert_int_not_equal(walk.fault.cause, SHIM_FAULT_NONE);
			continue;
		}
		target = strtoull(pa, NULL, 16);
		if (target >= f.length) {
			/* The guest's machine had wider addresses than this parent. */
			assert_int_equal(walk.fault.cause, target >> 48
								   ? SHIM_FAULT_OUTPUT_WIDTH
								   : SHIM_FAULT_PARENT_NOT_PRESENT);
			continue;
		}
		found++;
		assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
		assert_ptr_equal(walk.mem, f.mem);
		assert_true(walk.offset == target);
		assert_int_equal(walk.page_size, !strcmp(size, "4K")   ? K4
						 : !strcmp(size, "2M") ? M2
								       : G1);
		assert_int_equal(!!(walk.prot & SHIM_WRITE), strchr(perms, 'w') != NULL);
	}
	fclose(file);
	assert_int_equal(lines, expected);
	assert_true(found > expected / 2);
	fixture_close(&f);
}

static void test_tables_of_real_kernels(void **state)
{
	agree("x86_64-4level", SHIM_FORMAT_X86_64_4L, 0x102670000,
	      SHIM_TABLE_SUPERVISOR | SHIM_TABLE_WRITE_PROTECT, 1804);
	agree("vtd-legacy-ss-4level", SHIM_FORMAT_VTDSS_4L, 0x148e79000, 0, 2328);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_walks_are_bounded),
		cmocka_unit_test(test_rewritten_under_the_walk),
		cmocka_unit_test(test_cut_under_the_walk),
		cmocka_unit_test(test_tables_of_real_kernels),
	};

	tenant_guard_keep();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
