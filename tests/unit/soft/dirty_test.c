/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Accessed and dirty bits: which entries get them, what their setting needs, and that no
 * write is lost between two reads of what is dirty.  Run this under the thread sanitizer too.
 */

#include "tenant.h"

#include <pthread.h>
#include <sched.h>

static const enum shim_format formats[] = {
	SHIM_FORMAT_X86_64_4L,
	SHIM_FORMAT_X86_64_5L,
	SHIM_FORMAT_VTDSS_4L,
	SHIM_FORMAT_VTDSS_5L,
};
#define N_FORMATS (sizeof(formats) / sizeof(formats[0]))

#define BITMAP 4096 /* bytes: 32768 pages */

static struct shim_pt *create(struct fixture *f, struct shim_pt_spec spec)
{
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *pt = NULL;
	int r = shim_pt_create(f->ctx, &spec, reason, &pt);

	if (r)
		fail_msg("%d: %s", r, reason);
	return pt;
}

static struct shim_pt *tracked_pt(struct fixture *f, enum shim_format format)
{
	return create(f, (struct shim_pt_spec){
				 .kind = SHIM_KIND_KERNEL,
				 .format = format,
				 .dirty_tracking = true,
				 .devices = &f->dev0,
				 .n_devices = 1,
			 });
}

static void write_byte(struct shim_dev *dev, uint64_t iova)
{
	struct shim_fault fault;
	uint8_t byte = 0xd1;

	assert_int_equal(fixture_dma(dev, SHIM_NO_PASID, SHIM_WRITE, iova, &byte, 1, &fault), 1);
}

/* Bits of a range of 4 KiB pages, as a number. */
static uint64_t dirty(struct shim_pt *pt, uint64_t iova, unsigned int pages, bool clear)
{
	uint64_t bits = 0;

	assert_true(pages <= 64);
	assert_int_equal(shim_pt_read_dirty(pt, iova, pages * K4, 12, clear, (uint8_t *)&bits), 0);
	return bits;
}

/* ---- the bits themselves ---- */

static void test_tenants_bits(void **state)
{
	struct shim_pt *parent, *pt;
	struct tenant t;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(&f, parent, BASE, f.length, 0, RW), 0);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | P | W | U);
	tenant_set(&t, 1, 0x6000, (BASE + 0x9000) | P | U);
	pt = create(&f, (struct shim_pt_spec){
				.kind = SHIM_KIND_USER,
				.format = SHIM_FORMAT_X86_64_4L,
				.parent = parent,
				.table = &(struct shim_table){.root = t.root},
			});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	/* A look changes nothing. */
	assert_int_equal(shim_pt_walk(pt, 0x5000, SHIM_WRITE, &(struct shim_walk){0}), 0);
	for (unsigned int level = 1; level <= 4; level++)
		assert_int_equal(*tenant_entry(&t, level, 0x5000) & (A | D | EA), 0);
	fixture_expect_byte(f.dev0, 0x5000, 0);
	for (unsigned int level = 1; level <= 4; level++)
		assert_int_equal(*tenant_entry(&t, level, 0x5000) & (A | D | EA), A);
	/* Its neighbour was not used. */
	assert_int_equal(*tenant_entry(&t, 1, 0x6000) & (A | D), 0);
	/* The translation is cached from the read; the write still sets D, in the leaf only. */
	write_byte(f.dev0, 0x5000);
	assert_int_equal(*tenant_entry(&t, 1, 0x5000) & (A | D), A | D);
	for (unsigned int level = 2; level <= 4; level++)
		assert_int_equal(*tenant_entry(&t, level, 0x5000) & D, 0);
	/* A write that is refused leaves no D. */
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0x6000, SHIM_FAULT_PERMISSION);
	assert_int_equal(*tenant_entry(&t, 1, 0x6000) & (A | D), 0);
	tenant_bind(pt, t.root, SHIM_TABLE_EXTENDED_ACCESS);
	fixture_expect_byte(f.dev0, 0x6000, 0);
	assert_int_equal(*tenant_entry(&t, 1, 0x6000) & (A | D | EA), A | EA);
	assert_int_equal(*tenant_entry(&t, 4, 0x6000) & (A | D | EA), A | EA);
	fixture_close(&f);
}

/* An IOMMU that keeps no such bits leaves them alone; second-stage tables keep them if asked. */
static void test_who_keeps_them(void **state)
{
	struct shim_pt *parent, *pt;
	struct tenant t;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(&f, parent, BASE, f.length, 0, RW), 0);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | P | W | U);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = t.root});
	fixture_attach(f.dev1, SHIM_NO_PASID, pt);
	write_byte(f.dev1, 0x5000);
	assert_int_equal(*tenant_entry(&t, 1, 0x5000) & (A | D), 0);
	for (int asked = 0; asked < 2; asked++) {
		t = tenant_new(&f, BASE, SHIM_FORMAT_VTDSS_4L, TABLES + (1 + asked) * M2);
		tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | SS_R | SS_W);
		pt = create(&f, (struct shim_pt_spec){
					.kind = SHIM_KIND_USER,
					.format = SHIM_FORMAT_VTDSS_4L,
					.parent = parent,
					.dirty_tracking = asked,
					.devices = &f.dev0,
					.n_devices = 1,
					.table = &(struct shim_table){.root = t.root},
				});
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		write_byte(f.dev0, 0x5000);
		assert_int_equal(*tenant_entry(&t, 1, 0x5000) & (SS_A | SS_D),
				 asked ? SS_A | SS_D : 0);
		assert_int_equal(*tenant_entry(&t, 4, 0x5000) & (SS_A | SS_D), asked ? SS_A : 0);
		assert_int_equal(shim_detach(f.dev0, SHIM_NO_PASID), 0);
	}
	fixture_close(&f);
}

static void test_update_needs_the_parents_write(void **state)
{
	struct shim_pt *parent, *pt;
	struct shim_fault fault;
	struct shim_walk walk;
	struct tenant t;
	struct fixture f;
	uint8_t byte = 0;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	/* Tables lie where the parent only lets read. */
	assert_int_equal(fixture_map(&f, parent, BASE, M2, 0, RW), 0);
	assert_int_equal(fixture_map(&f, parent, BASE + M2, M2, M2, SHIM_READ), 0);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, M2);
	tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | P | W | U);
	pt = create(&f, (struct shim_pt_spec){
				.kind = SHIM_KIND_USER,
				.format = SHIM_FORMAT_X86_64_4L,
				.parent = parent,
				.devices = &f.dev0,
				.n_devices = 1,
				.table = &(struct shim_table){.root = t.root},
			});
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	for (unsigned int level = 4; level; level--) {
		assert_int_equal(
			fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, 0x5000, &byte, 1, &fault), 0);
		assert_int_equal(fault.cause, SHIM_FAULT_PARENT_PERMISSION);
		assert_int_equal(fault.stage, 2);
		/* What a device would meet says the walk, too. */
		assert_int_equal(shim_pt_walk(pt, 0x5000, SHIM_READ, &walk), 0);
		assert_int_equal(walk.fault.cause, SHIM_FAULT_PARENT_PERMISSION);
		*tenant_entry(&t, level, 0x5000) |= A;
	}
	fixture_expect_byte(f.dev0, 0x5000, 0);
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0x5000, SHIM_FAULT_PARENT_PERMISSION);
	*tenant_entry(&t, 1, 0x5000) |= D;
	write_byte(f.dev0, 0x5000);
	fixture_close(&f);
}

/* ---- what is dirty ---- */

static void test_pages(void **state)
{
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct shim_pt *pt;
		struct fixture f;
		uint8_t bits[4] = {0x80, 0, 0, 0};

		fixture_open(&f, NULL, 0, 8 * M2);
		pt = tracked_pt(&f, formats[i]);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		assert_int_equal(fixture_map(&f, pt, 0x10000, 16 * K4, 0, RW), 0);
		write_byte(f.dev0, 0x11000);
		assert_int_equal(shim_pt_read_dirty(pt, 0x10000, K4, 12, false, bits),
				 SHIM_E_UNSUPPORTED); /* not switched on */
		assert_int_equal(shim_pt_track_dirty(pt, true, false), 0);
		assert_int_equal(dirty(pt, 0x10000, 16, false), 0);
		fixture_expect_byte(f.dev0, 0x12000, 0);
		assert_int_equal(dirty(pt, 0x10000, 16, false), 0);
		write_byte(f.dev0, 0x12000);
		write_byte(f.dev0, 0x1f000);
		assert_int_equal(dirty(pt, 0x10000, 16, false), 1u << 2 | 1u << 15);
		assert_int_equal(dirty(pt, 0x12000, 13, true), 1);
		assert_int_equal(dirty(pt, 0x10000, 16, false), 1u << 15);
		/* The write permission that was cached is gone with the bit. */
		write_byte(f.dev0, 0x12000);
		assert_int_equal(dirty(pt, 0x10000, 16, true), 1u << 2 | 1u << 15);
		assert_int_equal(dirty(pt, 0x10000, 16, true), 0);
		/* What is mapped while tracking begins clean. */
		assert_int_equal(fixture_map(&f, pt, 0x20000, 2 * K4, 0x20000, RW), 0);
		assert_int_equal(dirty(pt, 0x20000, 2, false), 0);
		write_byte(f.dev0, 0x21000);
		assert_int_equal(dirty(pt, 0x20000, 2, false), 2);
		/* Pieces of 64 KiB; bits that are set stay. */
		assert_int_equal(shim_pt_read_dirty(pt, 0x10000, 0x20000, 16, false, bits), 0);
		assert_int_equal(bits[0], 0x82);
		assert_int_equal(shim_pt_track_dirty(pt, false, false), 0);
		assert_int_equal(shim_pt_track_dirty(pt, true, false), 0);
		assert_int_equal(dirty(pt, 0x20000, 2, false), 0);
		assert_int_equal(shim_pt_read_dirty(pt, 0x10001, K4, 12, false, bits),
				 SHIM_E_RANGE);
		assert_int_equal(shim_pt_read_dirty(pt, 0, K4, 11, false, bits), SHIM_E_RANGE);
		assert_int_equal(shim_pt_read_dirty(pt, 0, 0, 12, false, bits), SHIM_E_RANGE);
		assert_int_equal(shim_pt_read_dirty(pt, 1ull << 60, K4, 12, false, bits),
				 SHIM_E_RANGE);
		fixture_close(&f);
	}
}

static void test_large_page(void **state)
{
	for (size_t i = 0; i < N_FORMATS; i++) {
		uint8_t bits[BITMAP] = {0};
		struct shim_pt *pt;
		struct fixture f;

		fixture_open(&f, NULL, 0, 8 * M2);
		pt = tracked_pt(&f, formats[i]);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		assert_int_equal(fixture_map(&f, pt, G1, 4 * M2, 0, RW), 0);
		assert_int_equal(shim_pt_track_dirty(pt, true, false), 0);
		write_byte(f.dev0, G1 + M2 + 0x7000);
		assert_int_equal(shim_pt_read_dirty(pt, G1, 4 * M2, 12, false, bits), 0);
		for (unsigned int n = 0; n < 2048; n++)
			assert_int_equal(bits[n / 8] >> n % 8 & 1, n >= 512 && n < 1024);
		/* A part of it is told dirty, and cleans nothing that somebody else asks for. */
		assert_true(dirty(pt, G1 + M2 + 0x10000, 64, true) == UINT64_MAX);
		assert_true(dirty(pt, G1 + 2 * M2 - K4, 2, true) == 1);
		memset(bits, 0, sizeof(bits));
		assert_int_equal(shim_pt_read_dirty(pt, G1, 4 * M2, 21, true, bits), 0);
		assert_int_equal(bits[0], 2);
		memset(bits, 0, sizeof(bits));
		assert_int_equal(shim_pt_read_dirty(pt, G1, 4 * M2, 21, true, bits), 0);
		assert_int_equal(bits[0], 0);
		fixture_close(&f);
	}
}

/* Through a child, the parent's page is written; a device without such bits is refused. */
static void test_by_a_child(void **state)
{
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *parent, *pt, *child;
	struct tenant t;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = tracked_pt(&f, SHIM_FORMAT_VTDSS_4L);
	for (uint64_t at = 0; at < 4 * M2; at += K4)
		assert_int_equal(fixture_map(&f, parent, BASE + at, K4, at, RW), 0);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	tenant_set(&t, 1, 0x5000, (BASE + 0x8000) | P | W | U);
	pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, parent, &(struct shim_table){.root = t.root});
	child = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, parent);
	assert_int_equal(fixture_map_child(child, 0x5000, K4, BASE + 0x9000, RW), 0);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_attach(f.dev0, 3, child);
	assert_int_equal(shim_pt_track_dirty(parent, true, false), 0);
	for (int round = 0; round < 3; round++) {
		struct shim_fault fault;
		uint8_t byte = 0;

		fixture_expect_byte(f.dev0, 0x5000, round ? 0xd1 : 0);
		assert_int_equal(fixture_dma(f.dev0, 3, SHIM_READ, 0x5000, &byte, 1, &fault), 1);
		assert_int_equal(dirty(parent, BASE, 16, true), 0);
		write_byte(f.dev0, 0x5000);
		assert_int_equal(fixture_dma(f.dev0, 3, SHIM_WRITE, 0x5000, &byte, 1, &fault), 1);
		assert_int_equal(dirty(parent, BASE, 16, true), 3u << 8);
		/* The tenant's own tables were written too, where bits were set. */
		assert_int_equal(dirty(parent, BASE + TABLES, 4, true), round ? 0 : 15);
	}
	assert_int_equal(shim_attach(f.dev1, SHIM_NO_PASID, pt, reason), SHIM_E_INCOMPATIBLE);
	assert_non_null(strstr(reason, "dirty"));
	fixture_close(&f);
}

static void test_of_a_tenants_table(void **state)
{
	struct shim_pt *parent, *pt;
	struct tenant t;
	struct fixture f;
	uint8_t bits = 0;

	fixture_open(&f, NULL, 0, 8 * M2);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(&f, parent, BASE, f.length, 0, RW), 0);
	t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);
	for (uint64_t i = 0; i < 16; i++)
		tenant_set(&t, 1, 0x10000 + i * K4, (BASE + i * K4) | P | W | U | (i == 4 ? D : 0));
	pt = create(&f, (struct shim_pt_spec){
				.kind = SHIM_KIND_USER,
				.format = SHIM_FORMAT_X86_64_4L,
				.parent = parent,
				.dirty_tracking = true,
				.table = &(struct shim_table){.root = t.root},
			});
	/* Made for every IOMMU there is, one of which keeps no bits. */
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(shim_pt_track_dirty(pt, true, false), 0);
	assert_int_equal(*tenant_entry(&t, 1, 0x14000) & D, 0);
	fixture_expect_byte(f.dev0, 0x11000, 0);
	assert_int_equal(dirty(pt, 0x10000, 16, false), 0);
	write_byte(f.dev0, 0x11000);
	write_byte(f.dev0, 0x1f000);
	assert_int_equal(dirty(pt, 0x10000, 16, false), 1u << 1 | 1u << 15);
	assert_int_equal(dirty(pt, 0x10000, 16, true), 1u << 1 | 1u << 15);
	assert_int_equal(*tenant_entry(&t, 1, 0x11000) & (A | D), A);
	write_byte(f.dev0, 0x11000);
	assert_int_equal(dirty(pt, 0x10000, 16, true), 1u << 1);
	/* A table that leads to itself ends, too: each level is 512 tables. */
	for (uint64_t i = 256; i < 512; i++)
		*tenant_at(&t, t.root + i * 8) = t.root | P | W | U;
	assert_int_equal(shim_pt_read_dirty(pt, 0xffff800000000000, 1ull << 46, 46, false, &bits),
			 SHIM_E_LIMIT);
	assert_int_equal(dirty(pt, 0x10000, 16, true), 0);
	fixture_close(&f);
}

/* ---- beside a device that writes ---- */

#define WRITER_PAGES 64

struct writer {
	pthread_t thread;
	struct shim_dev *dev;
	uint64_t iova;
	atomic_bool stop;
	atomic_ulong writes;
	atomic_ulong refused;
};

static void *run_writer(void *arg)
{
	struct writer *w = arg;
	uint32_t seed = 1;

	for (uint64_t n = 1; !atomic_load(&w->stop); n++) {
		struct shim_fault fault;
		uint64_t at, seen;
		size_t done;

		seed = seed * 1664525 + 1013904223;
		at = w->iova + (seed >> 8) % WRITER_PAGES * K4;
		/* Sometimes read first, so that a clean translation is cached. */
		if (seed & 0x80)
			shim_dma(w->dev, SHIM_NO_PASID, SHIM_READ, at, &seen, sizeof(seen), &done,
				 &fault);
		shim_dma(w->dev, SHIM_NO_PASID, SHIM_WRITE, at, &n, sizeof(n), &done, &fault);
		atomic_fetch_add(done == sizeof(n) ? &w->writes : &w->refused, 1);
	}
	return NULL;
}

/*
 * What migration does: copy the pages that are dirty, again and again.  When the writer has
 * stopped, one round more must make the copy equal; a write that is lost shows.
 */
static void copy_beside_writer(enum shim_format format, bool large, bool user)
{
	static _Atomic uint64_t copy[WRITER_PAGES];
	struct writer w = {0}, second = {0};
	struct shim_pt *pt, *watched;
	uint64_t pages = 0, rounds;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	memset(copy, 0, sizeof(copy));
	watched = tracked_pt(&f, format);
	pt = watched;
	for (uint64_t at = 0; at < 4 * M2; at += large ? M2 : K4)
		assert_int_equal(fixture_map(&f, watched, BASE + at, large ? M2 : K4, at, RW), 0);
	w.iova = BASE;
	if (user) {
		struct tenant t = tenant_new(&f, BASE, SHIM_FORMAT_X86_64_4L, TABLES);

		for (uint64_t i = 0; i < WRITER_PAGES; i++)
			tenant_set(&t, 1, i * K4, (BASE + i * K4) | P | W | U);
		pt = tenant_pt(&f, SHIM_FORMAT_X86_64_4L, watched,
			       &(struct shim_table){.root = t.root});
		w.iova = 0;
	}
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(shim_dev_bind_one(f.ctx, DEV0_MORE, NULL, &second.dev), 0);
	fixture_attach(second.dev, SHIM_NO_PASID, pt);
	assert_int_equal(shim_pt_track_dirty(watched, true, false), 0);
	w.dev = f.dev0;
	second.iova = w.iova;
	assert_int_equal(pthread_create(&w.thread, NULL, run_writer, &w), 0);
	assert_int_equal(pthread_create(&second.thread, NULL, run_writer, &second), 0);
	for (rounds = 0; rounds < 300 || atomic_load(&w.writes) < 5000; rounds++) {
		uint64_t bits;

		if (rounds % 16 == 0)
			sched_yield();
		bits = 0;
		if (large) {
			uint8_t byte = 0;

			assert_int_equal(shim_pt_read_dirty(watched, BASE, M2, 21, true, &byte), 0);
			bits = byte ? UINT64_MAX : 0;
		} else {
			bits = dirty(watched, BASE, WRITER_PAGES, true);
		}
		for (uint64_t i = 0; i < WRITER_PAGES; i++)
			if (bits >> i & 1) {
				copy[i] = *(_Atomic uint64_t *)(f.bytes + i * K4);
				pages++;
			}
	}
	atomic_store(&w.stop, true);
	atomic_store(&second.stop, true);
	pthread_join(w.thread, NULL);
	pthread_join(second.thread, NULL);
	assert_int_equal(atomic_load(&w.refused) + atomic_load(&second.refused), 0);
	{
		uint8_t bits[8] = {0}, byte = 0;

		if (large)
			assert_int_equal(shim_pt_read_dirty(watched, BASE, M2, 21, true, &byte), 0);
		else
			assert_int_equal(shim_pt_read_dirty(watched, BASE, WRITER_PAGES * K4, 12,
							    true, bits),
					 0);
		for (uint64_t i = 0; i < WRITER_PAGES; i++)
			if (byte || bits[i / 8] >> i % 8 & 1)
				copy[i] = *(_Atomic uint64_t *)(f.bytes + i * K4);
	}
	for (uint64_t i = 0; i < WRITER_PAGES; i++)
		if (copy[i] != *(_Atomic uint64_t *)(f.bytes + i * K4))
			fail_msg("a write to page %llu was lost", (unsigned long long)i);
	assert_true(pages > 0);
	fixture_close(&f);
}

static void test_no_write_is_lost(void **state)
{
	for (size_t i = 0; i < N_FORMATS; i++) {
		copy_beside_writer(formats[i], false, false);
		copy_beside_writer(formats[i], true, false);
	}
	copy_beside_writer(SHIM_FORMAT_VTDSS_4L, false, true);
	copy_beside_writer(SHIM_FORMAT_X86_64_4L, false, true);
}

/* ---- recoverable faults ---- */

static void test_recoverable(void **state)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_X86_64_4L};
	struct shim_pt *pts[2];
	struct shim_fault fault;
	struct fixture f;
	uint8_t buf[2 * K4];

	fixture_open(&f, NULL, 0, 8 * M2);
	for (int i = 0; i < 2; i++) {
		spec.faults = i;
		pts[i] = create(&f, spec);
		assert_int_equal(fixture_map(&f, pts[i], 0, K4, 0, SHIM_READ), 0);
	}
	for (int dev = 0; dev < 2; dev++) {
		for (int i = 0; i < 2; i++) {
			struct shim_dev *d = dev ? f.dev1 : f.dev0;
			bool expected = i && !dev; /* soft1 has no page requests */

			fixture_attach(d, SHIM_NO_PASID, pts[i]);
			/* The second page is missing; the first one has moved. */
			assert_int_equal(
				fixture_dma(d, SHIM_NO_PASID, SHIM_READ, 0, buf, 2 * K4, &fault),
				K4);
			assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
			assert_int_equal(fault.recoverable, expected);
			assert_int_equal(
				fixture_dma(d, SHIM_NO_PASID, SHIM_WRITE, 0, buf, 1, &fault), 0);
			assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
			assert_int_equal(fault.recoverable, expected);
			/* No entry would help. */
			assert_int_equal(fixture_dma(d, SHIM_NO_PASID, SHIM_READ, 1ull << 55, buf,
						     1, &fault),
					 0);
			assert_int_equal(fault.cause, SHIM_FAULT_NON_CANONICAL);
			assert_false(fault.recoverable);
			assert_int_equal(shim_detach(d, SHIM_NO_PASID), 0);
		}
	}
	/* An answer, and it goes on from where it was. */
	fixture_attach(f.dev0, SHIM_NO_PASID, pts[1]);
	assert_int_equal(fixture_map(&f, pts[1], K4, K4, K4, SHIM_READ), 0);
	assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, K4, buf, K4, &fault), K4);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tenants_bits),
		cmocka_unit_test(test_who_keeps_them),
		cmocka_unit_test(test_update_needs_the_parents_write),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_large_page),
		cmocka_unit_test(test_by_a_child),
		cmocka_unit_test(test_of_a_tenants_table),
		cmocka_unit_test(test_no_write_is_lost),
		cmocka_unit_test(test_recoverable),
	};

	tenant_guard_keep();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
