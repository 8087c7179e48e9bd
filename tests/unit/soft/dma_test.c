/* SPDX-License-Identifier: Apache-2.0 */

/*
 * DMA threads beside a thread that maps, unmaps, attaches and detaches, and memory that
 * vanishes under a device.  Run these under the thread sanitizer as well.
 *
 * The promise under test: when unmap, detach or replace has returned, no byte moves by the
 * old translation any more, in either direction, also through nested tables.
 */

#include "fixture.h"

#include "soft/guard.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#define GOOD   0x11
#define POISON 0xee
#define ROUNDS 40
#define BUFFER (16 * 1024)

struct device_thread {
	pthread_t thread;
	struct shim_dev *dev;
	uint32_t pasid;
	uint32_t access;
	uint64_t iova;
	atomic_bool stop;
	atomic_ulong moved; /* DMAs that moved something */
	atomic_ulong blocked;
	atomic_ulong poisoned; /* bytes seen that were never mapped */
	atomic_ulong odd;      /* answers that make no sense */
};

static void *run_device(void *arg)
{
	struct device_thread *t = arg;
	uint8_t *buf = malloc(BUFFER);

	while (!atomic_load(&t->stop)) {
		struct shim_fault fault = {0};
		size_t done = 0;

		memset(buf, t->access == SHIM_WRITE ? POISON : 0, BUFFER);
		if (shim_dma(t->dev, t->pasid, t->access, t->iova, buf, BUFFER, &done, &fault)) {
			atomic_fetch_add(&t->odd, 1);
			continue;
		}
		if ((done < BUFFER) != (fault.cause != SHIM_FAULT_NONE) ||
		    (fault.cause != SHIM_FAULT_NONE && fault.cause != SHIM_FAULT_NOT_PRESENT &&
		     fault.cause != SHIM_FAULT_PARENT_NOT_PRESENT &&
		     fault.cause != SHIM_FAULT_NOT_ATTACHED))
			atomic_fetch_add(&t->odd, 1);
		atomic_fetch_add(done ? &t->moved : &t->blocked, 1);
		for (size_t i = 0; t->access == SHIM_READ && i < done; i++)
			if (buf[i] != GOOD) {
				atomic_fetch_add(&t->poisoned, 1);
				break;
			}
	}
	free(buf);
	return NULL;
}

static void start(struct device_thread *t, struct shim_dev *dev, uint32_t pasid, uint32_t access,
		  uint64_t iova)
{
	memset(t, 0, sizeof(*t));
	t->dev = dev;
	t->pasid = pasid;
	t->access = access;
	t->iova = iova;
	assert_int_equal(pthread_create(&t->thread, NULL, run_device, t), 0);
}

static void finish(struct device_thread *t)
{
	atomic_store(&t->stop, true);
	pthread_join(t->thread, NULL);
	assert_int_equal(atomic_load(&t->poisoned), 0);
	assert_int_equal(atomic_load(&t->odd), 0);
	/* It has met both states, else nothing was tested. */
	assert_true(atomic_load(&t->moved) > 0);
	assert_true(atomic_load(&t->blocked) > 0);
}

/* Until the device has moved something since. */
static void wait_moved(struct device_thread *t)
{
	unsigned long was = atomic_load(&t->moved);

	while (atomic_load(&t->moved) < was + 2)
		sched_yield();
}

/*
 * While the memory cannot be reached it is poisoned: a reader that gets through sees it.
 * What a writer leaves is poison too: it must not appear in memory that is out of reach.
 */
static void out_of_reach(struct fixture *f, size_t length)
{
	memset(f->bytes, 0x22, length);
	for (int i = 0; i < 2; i++)
		sched_yield();
	for (size_t i = 0; i < length; i++)
		if (f->bytes[i] != 0x22)
			fail_msg("byte %zu was written after the answer", i);
	memset(f->bytes, GOOD, length);
}

static void race_unmap(enum shim_format format, enum shim_format parent_format, bool change_parent)
{
	struct device_thread reader, writer;
	struct shim_pt *parent = NULL, *pt;
	struct fixture f;

	fixture_open(&f, NULL, 0, 2 * M2);
	memset(f.bytes, GOOD, 2 * M2);
	if (parent_format)
		parent = fixture_pt(&f, parent_format, NULL);
	pt = fixture_pt(&f, format, parent);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_attach(f.dev0, 5, pt);
	start(&reader, f.dev0, SHIM_NO_PASID, SHIM_READ, 3 * M2 + 256);
	start(&writer, f.dev0, 5, SHIM_WRITE, 5 * M2);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		uint64_t length = round % 3 ? M2 : 32 * K4;
		uint64_t offset = round % 2 ? 0 : K4;

		if (length + offset > M2)
			length -= offset;
		/* The reader's and the writer's share are never the same bytes. */
		if (!parent) {
			assert_int_equal(fixture_map(&f, pt, 3 * M2, length, offset, SHIM_READ), 0);
			assert_int_equal(fixture_map(&f, pt, 5 * M2, M2, M2, RW), 0);
		} else {
			assert_int_equal(fixture_map(&f, parent, 0, 2 * M2, 0, RW), 0);
			if (!round || !change_parent) {
				assert_int_equal(fixture_map_child(pt, 3 * M2, M2, 0, SHIM_READ),
						 0);
				assert_int_equal(fixture_map_child(pt, 5 * M2, M2, M2, RW), 0);
			}
		}
		wait_moved(&reader);
		wait_moved(&writer);
		if (!parent) {
			const struct shim_unmap unmaps[] = {{3 * M2, length}, {5 * M2, M2}};
			size_t done;

			assert_int_equal(shim_pt_unmap(pt, unmaps, 2, &done), 0);
		} else {
			if (!change_parent) {
				assert_int_equal(fixture_unmap(pt, 3 * M2, M2), 0);
				assert_int_equal(fixture_unmap(pt, 5 * M2, M2), 0);
				out_of_reach(&f, 2 * M2);
			}
			assert_int_equal(fixture_unmap(parent, 0, 2 * M2), 0);
		}
		out_of_reach(&f, 2 * M2);
	}
	finish(&reader);
	finish(&writer);
	fixture_close(&f);
}

static void test_unmap(void **state)
{
	race_unmap(SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_NONE, false);
	race_unmap(SHIM_FORMAT_VTDSS_5L, SHIM_FORMAT_NONE, false);
}

static void test_unmap_of_the_child(void **state)
{
	race_unmap(SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_VTDSS_4L, false);
}

static void test_unmap_of_the_parent(void **state)
{
	race_unmap(SHIM_FORMAT_X86_64_5L, SHIM_FORMAT_VTDSS_4L, true);
}

static void test_detach_and_replace(void **state)
{
	struct device_thread reader, writer;
	struct shim_pt *good, *empty;
	char reason[SHIM_REASON_MAX];
	struct fixture f;

	fixture_open(&f, NULL, 0, 2 * M2);
	memset(f.bytes, GOOD, 2 * M2);
	good = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	empty = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, NULL);
	assert_int_equal(fixture_map(&f, good, 0, 2 * M2, 0, RW), 0);
	start(&reader, f.dev0, SHIM_NO_PASID, SHIM_READ, 0);
	start(&writer, f.dev0, 77, SHIM_WRITE, M2);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		fixture_attach(f.dev0, SHIM_NO_PASID, good);
		fixture_attach(f.dev0, 77, good);
		wait_moved(&reader);
		wait_moved(&writer);
		if (round % 2) {
			assert_int_equal(shim_replace(f.dev0, SHIM_NO_PASID, empty, reason), 0);
			assert_int_equal(shim_replace(f.dev0, 77, empty, reason), 0);
			out_of_reach(&f, 2 * M2);
		}
		assert_int_equal(shim_detach(f.dev0, SHIM_NO_PASID), 0);
		assert_int_equal(shim_detach(f.dev0, 77), 0);
		out_of_reach(&f, 2 * M2);
	}
	finish(&reader);
	finish(&writer);
	fixture_close(&f);
}

/*
 * Replace is atomic: a device that goes on all the time never meets a moment without an
 * attachment, only the old table or the new one.
 */
static void test_replace_has_no_gap(void **state)
{
	struct device_thread reader;
	struct shim_pt *pt[2];
	char reason[SHIM_REASON_MAX];
	struct fixture f;

	fixture_open(&f, NULL, 0, 2 * M2);
	memset(f.bytes, GOOD, 2 * M2);
	for (int i = 0; i < 2; i++) {
		pt[i] = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
		assert_int_equal(fixture_map(&f, pt[i], 0, M2, (uint64_t)i * M2, RW), 0);
	}
	fixture_attach(f.dev0, SHIM_NO_PASID, pt[0]);
	start(&reader, f.dev0, SHIM_NO_PASID, SHIM_READ, 0);
	for (unsigned int round = 1; round < 4 * ROUNDS; round++) {
		assert_int_equal(shim_replace(f.dev0, SHIM_NO_PASID, pt[round % 2], reason), 0);
		if (round % 16 == 0)
			wait_moved(&reader);
	}
	assert_int_equal(atomic_load(&reader.blocked), 0);
	assert_int_equal(shim_detach(f.dev0, SHIM_NO_PASID), 0);
	while (!atomic_load(&reader.blocked))
		sched_yield();
	finish(&reader);
	fixture_close(&f);
}

/* Contexts do not wait for each other, and share the IOTLB without harm. */
struct context_thread {
	pthread_t thread;
	struct shim *shim;
	const char *address;
	uint8_t value;
	int fd;
	unsigned long wrong;
};

static void *run_context(void *arg)
{
	struct context_thread *t = arg;
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_VTDSS_4L};

	for (unsigned int round = 0; round < ROUNDS / 4; round++) {
		struct shim_ctx *ctx;
		struct shim_dev *dev;
		struct shim_mem *mem;
		struct shim_pt *pt;

		if (shim_ctx_new(t->shim, "org", NULL, &ctx) ||
		    shim_dev_bind_one(ctx, t->address, NULL, &dev) ||
		    shim_mem_register(ctx, t->fd, 0, M2, RW, &mem) ||
		    shim_pt_create(ctx, &spec, NULL, &pt) ||
		    shim_attach(dev, SHIM_NO_PASID, pt, NULL)) {
			t->wrong++;
			break;
		}
		for (uint64_t i = 0; i < 64; i++) {
			struct shim_map map = {.iova = i * K4,
					       .length = K4,
					       .mem = mem,
					       .offset = i * K4,
					       .prot = RW};
			struct shim_unmap unmap = {i * K4, K4};
			struct shim_fault fault;
			uint8_t buf[64];
			size_t done;

			t->wrong += shim_pt_map(pt, &map, 1, NULL) != 0;
			shim_dma(dev, SHIM_NO_PASID, SHIM_READ, i * K4, buf, sizeof(buf), &done,
				 &fault);
			t->wrong +=
				done != sizeof(buf) || buf[0] != t->value || buf[63] != t->value;
			if (i % 2)
				t->wrong += shim_pt_unmap(pt, &unmap, 1, &done) != 0;
			shim_dma(dev, SHIM_NO_PASID, SHIM_READ, i * K4, buf, 1, &done, &fault);
			t->wrong += done != (i % 2 ? 0 : 1);
		}
		shim_ctx_free(ctx);
	}
	return NULL;
}

static void test_contexts_beside_each_other(void **state)
{
	static const char *const addresses[] = {"0000:01:00.0", "0000:02:00.0", "0000:03:00.0"};
	struct shim *shim = fixture_shim(NULL, 0);
	struct context_thread threads[3] = {0};

	for (int i = 0; i < 3; i++) {
		struct context_thread *t = &threads[i];
		uint8_t *bytes;

		t->shim = shim;
		t->address = addresses[i];
		t->value = (uint8_t)(40 + i);
		t->fd = memfd_create("memory", MFD_CLOEXEC);
		assert_int_equal(ftruncate(t->fd, M2), 0);
		bytes = mmap(NULL, M2, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd, 0);
		assert_true(bytes != MAP_FAILED);
		memset(bytes, t->value, M2);
		munmap(bytes, M2);
		assert_int_equal(pthread_create(&t->thread, NULL, run_context, t), 0);
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i].thread, NULL);
		assert_int_equal(threads[i].wrong, 0);
		close(threads[i].fd);
	}
	assert_int_equal(soft_tables_used(&soft_shim_of(shim)->tables), 0);
	shim_free(shim);
}

/* A flush waits for one chunk at most, however much DMA there is. */
static void test_writers_do_not_starve(void **state)
{
	struct device_thread readers[3];
	struct timespec before, after;
	struct shim_pt *pt;
	struct fixture f;

	fixture_open(&f, NULL, 0, 2 * M2);
	memset(f.bytes, GOOD, 2 * M2);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(fixture_map(&f, pt, 0, M2, 0, RW), 0);
	for (int i = 0; i < 3; i++)
		start(&readers[i], f.dev0, SHIM_NO_PASID, SHIM_READ, 0);
	for (int i = 0; i < 3; i++)
		wait_moved(&readers[i]);
	clock_gettime(CLOCK_MONOTONIC, &before);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(fixture_map(&f, pt, M2, M2, M2, RW), 0);
		assert_int_equal(fixture_unmap(pt, M2, M2), 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &after);
	/* Without preference for writers this does not end at all. */
	assert_true(after.tv_sec - before.tv_sec < 20);
	assert_int_equal(fixture_unmap(pt, 0, M2), 0);
	for (int i = 0; i < 3; i++) {
		while (!atomic_load(&readers[i].blocked))
			sched_yield();
		finish(&readers[i]);
	}
	fixture_close(&f);
}

/* ---- memory that goes away ---- */

static struct sigaction guard_bus, guard_segv;

/* cmocka puts handlers of its own in place before each test. */
static void use_guard(void)
{
	sigaction(SIGBUS, &guard_bus, NULL);
	sigaction(SIGSEGV, &guard_segv, NULL);
}

static void test_memory_that_vanished(void **state)
{
	static uint8_t buf[2 * M2];
	struct shim_fault fault;
	struct shim_pt *pt;
	struct fixture f;

	use_guard();
	fixture_open(&f, NULL, 0, 2 * M2);
	memset(f.bytes, GOOD, 2 * M2);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(fixture_map(&f, pt, 0, 2 * M2, 0, RW), 0);
	/* A page and a half behind the first large page: the rest has no memory. */
	assert_int_equal(ftruncate(f.fd, (off_t)(M2 + 2 * K4)), 0);
	assert_int_equal(
		fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, 100, buf, 2 * M2 - 100, &fault),
		M2 + 2 * K4 - 100);
	assert_int_equal(fault.cause, SHIM_FAULT_MEMORY_ERROR);
	assert_true(fault.address == M2 + 2 * K4);
	assert_int_equal(fault.stage, 0);
	assert_int_equal(buf[M2 + 2 * K4 - 101], GOOD);
	memset(buf, 0x33, sizeof(buf));
	assert_int_equal(
		fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, K4, buf, 2 * M2 - K4, &fault),
		M2 + K4);
	assert_int_equal(fault.cause, SHIM_FAULT_MEMORY_ERROR);
	assert_int_equal(f.bytes[K4 - 1], GOOD);
	assert_int_equal(f.bytes[K4], 0x33);
	assert_int_equal(f.bytes[M2 + 2 * K4 - 1], 0x33);
	/* Again and again: the guard is not used up. */
	for (int i = 0; i < 1000; i++)
		fixture_expect_fault(f.dev0, i % 2 ? SHIM_READ : SHIM_WRITE, 2 * M2 - 1,
				     SHIM_FAULT_MEMORY_ERROR);
	assert_int_equal(ftruncate(f.fd, 2 * M2), 0);
	fixture_expect_byte(f.dev0, 2 * M2 - 1, 0);
	fixture_close(&f);
}

/* Huge pages that the system may not have: it says so at the first touch. */
static void test_hugetlb(void **state)
{
	struct shim_map map = {.length = 2 * M2, .prot = RW};
	struct shim_fault fault;
	struct shim_mem *mem;
	struct shim_pt *pt;
	struct fixture f;
	uint8_t byte = 0;
	size_t done;
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | (21u << MFD_HUGE_SHIFT));

	if (fd < 0 || ftruncate(fd, 8 * M2)) {
		print_message("this kernel has no 2M huge pages\n");
		skip();
	}
	use_guard();
	fixture_open(&f, NULL, 0, M2);
	assert_int_equal(shim_mem_register(f.ctx, fd, 0, M2 + K4, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f.ctx, fd, K4, M2, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f.ctx, fd, 2 * M2, 2 * M2, RW, &mem), 0);
	assert_int_equal(soft_mem_of(mem)->piece.start % M2, 0);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	map.mem = mem;
	assert_int_equal(shim_pt_map(pt, &map, 1, NULL), 0);
	done = fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, M2, &byte, 1, &fault);
	assert_int_equal(fault.cause, done ? SHIM_FAULT_NONE : SHIM_FAULT_MEMORY_ERROR);
	close(fd);
	fixture_close(&f);
}

/* A table that leads out of all memory is contained as well. */
static void test_output_without_memory(void **state)
{
	struct shim_fault fault;
	struct shim_pt *pt;
	struct fixture f;
	uint64_t *leaf, was;
	uint8_t byte;

	use_guard();
	fixture_open(&f, NULL, 0, M2);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(fixture_map(&f, pt, 0, K4, 0, RW), 0);
	leaf = soft_table_entries(&soft_shim_of(f.shim)->tables, soft_pt_of(pt)->root);
	for (int i = 0; i < 3; i++)
		leaf = soft_table_entries(&soft_shim_of(f.shim)->tables,
					  *leaf & 0x000ffffffffff000ull);
	was = *leaf;
	/* Unregistered space; a page table; beyond the window. */
	for (int i = 0; i < 3; i++) {
		*leaf = i == 0	 ? (was + 32 * M2)
			: i == 1 ? soft_pt_of(pt)->root | 3
				 : 1ull << 45 | 3;
		assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, 0, &byte, 1, &fault),
				 0);
		assert_int_equal(fault.cause, SHIM_FAULT_MEMORY_ERROR);
		assert_int_equal(
			shim_pt_invalidate(pt,
					   &(struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL},
					   1, &(size_t){0}),
			0);
	}
	*leaf = was;
	fixture_close(&f);
}

static sigjmp_buf foreign_out;
static volatile sig_atomic_t foreign_faults;

static void on_foreign(int signal)
{
	foreign_faults++;
	siglongjmp(foreign_out, 1);
}

/* main() set this handler before the guard's, which came on top of it. */
static void test_foreign_faults_are_passed_on(void **state)
{
	volatile uint8_t *bytes;
	int fd = memfd_create("foreign", MFD_CLOEXEC);
	struct fixture f;

	use_guard();
	fixture_open(&f, NULL, 0, M2);
	bytes = mmap(NULL, K4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(bytes != MAP_FAILED);
	for (int i = 1; i <= 3; i++) {
		if (!sigsetjmp(foreign_out, 1)) {
			bytes[0] = 1; /* beyond the end of an empty file */
			fail_msg("no fault");
		}
		assert_int_equal(foreign_faults, i);
		fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_ATTACHED);
	}
	munmap((void *)bytes, K4);
	close(fd);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unmap),
		cmocka_unit_test(test_unmap_of_the_child),
		cmocka_unit_test(test_unmap_of_the_parent),
		cmocka_unit_test(test_detach_and_replace),
		cmocka_unit_test(test_replace_has_no_gap),
		cmocka_unit_test(test_contexts_beside_each_other),
		cmocka_unit_test(test_writers_do_not_starve),
		cmocka_unit_test(test_memory_that_vanished),
		cmocka_unit_test(test_hugetlb),
		cmocka_unit_test(test_output_without_memory),
		cmocka_unit_test(test_foreign_faults_are_passed_on),
	};

	signal(SIGBUS, on_foreign);
	if (soft_guard_init())
		return 1;
	sigaction(SIGBUS, NULL, &guard_bus);
	sigaction(SIGSEGV, NULL, &guard_segv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
