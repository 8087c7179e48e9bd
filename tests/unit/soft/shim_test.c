/* SPDX-License-Identifier: Apache-2.0 */

/* The operations of the contract, on the software IOMMU, from one thread. */

#include "fixture.h"

#include "fail/fail.h"

#include <fcntl.h>
#include <stdio.h>

static const enum shim_format formats0[] = {SHIM_FORMAT_X86_64_4L, SHIM_FORMAT_X86_64_5L,
					    SHIM_FORMAT_VTDSS_4L, SHIM_FORMAT_VTDSS_5L};

#define FOREACH_FORMAT(format) for (size_t i_ = 0; i_ < 4 && (format = formats0[i_], true); i_++)

/* ---- inventory ---- */

static void test_inventory(void **state)
{
	struct shim *shim = fixture_shim(NULL, 0);
	const struct shim_device_info *info;
	size_t n = shim_device_count(shim), n_host = 0, n_group13 = 0, n_soft1 = 0;

	assert_int_equal(n, 8);
	assert_null(shim_device_info(shim, n));
	for (size_t i = 0; i < n; i++) {
		info = shim_device_info(shim, i);
		assert_true(info->caps.n_formats >= 3);
		assert_int_equal(info->caps.n_reserved, 1);
		assert_int_equal(info->caps.reserved[0].start, 0xfee00000);
		assert_int_equal(info->caps.reserved[0].last, 0xfeefffff);
		assert_string_equal(info->caps.kind_absent[SHIM_KIND_KERNEL], "");
		assert_string_equal(info->caps.kind_absent[SHIM_KIND_USER], "");
		n_host += info->host_use[0] != 0;
		n_group13 += info->group == 13;
		if (!strcmp(info->iommu, "soft1")) {
			n_soft1++;
			assert_int_equal(info->caps.pasid_bits, 0);
			assert_false(info->caps.snoop_control);
			assert_false(info->caps.dirty_tracking);
			assert_false(info->caps.recoverable_faults);
		} else {
			assert_int_equal(info->caps.pasid_bits, 20);
			assert_true(info->caps.snoop_control);
			assert_true(info->caps.dirty_tracking);
			assert_true(info->caps.recoverable_faults);
			assert_true(info->caps.formats[0].access_dirty);
		}
	}
	assert_int_equal(n_host, 1);
	assert_int_equal(n_group13, 2);
	assert_int_equal(n_soft1, 3);
	shim_free(shim);
}

static void test_bind(void **state)
{
	struct shim *shim = fixture_shim(NULL, 0);
	struct shim_ctx *a, *b;
	struct shim_dev *dev, *other = NULL;

	assert_int_equal(shim_ctx_new(shim, "org", NULL, &a), 0);
	assert_int_equal(shim_ctx_new(shim, "org", NULL, &b), 0);
	assert_int_equal(shim_dev_bind_one(a, "0000:99:00.0", NULL, &other), SHIM_E_NO_DEVICE);
	assert_int_equal(shim_dev_bind_one(a, "", NULL, &other), SHIM_E_NO_DEVICE);
	/* Policy may give away what the host uses: that is not the shim's to refuse. */
	assert_int_equal(shim_dev_bind_one(a, DEV_HOST, NULL, &other), 0);
	shim_dev_release(other);
	other = NULL;
	assert_int_equal(shim_dev_bind_one(a, DEV0, NULL, &dev), 0);
	assert_int_equal(shim_dev_bind_one(a, DEV0, NULL, &other), SHIM_E_DEVICE_BUSY);
	assert_int_equal(shim_dev_bind_one(b, DEV0, NULL, &other), SHIM_E_DEVICE_BUSY);
	assert_null(other);
	shim_dev_release(dev);
	assert_int_equal(shim_dev_bind_one(b, DEV0, NULL, &other), 0);
	shim_ctx_free(b);
	assert_int_equal(shim_dev_bind_one(a, DEV0, NULL, &dev), 0);
	shim_ctx_free(a);
	shim_free(shim);
}

/* ---- memory ---- */

static void test_memory_refused(void **state)
{
	struct shim_mem *mem = NULL;
	struct fixture f;
	char path[64];
	int fd, ends[2];

	fixture_open(&f, NULL, 0, M2);
	assert_int_equal(shim_mem_register(f.ctx, f.fd, 0, 0, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f.ctx, f.fd, 1, K4, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f.ctx, f.fd, 0, K4 + 1, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f.ctx, f.fd, -K4, 2 * K4, RW, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f.ctx, f.fd, 0, K4, 0, &mem), SHIM_E_MEMORY);
	assert_int_equal(shim_mem_register(f.ctx, -1, 0, K4, RW, &mem), SHIM_E_MEMORY);
	/* More than there is physical space. */
	assert_int_equal(shim_mem_register(f.ctx, f.fd, 0, 64 * G1, RW, &mem), -ENOMEM);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(shim_mem_register(f.ctx, ends[0], 0, K4, SHIM_READ, &mem), SHIM_E_MEMORY);
	close(ends[0]);
	close(ends[1]);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f.fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(shim_mem_register(f.ctx, fd, 0, K4, RW, &mem), SHIM_E_MEMORY);
	assert_null(mem);
	assert_int_equal(shim_mem_register(f.ctx, fd, 0, K4, SHIM_READ, &mem), 0);
	close(fd);
	shim_mem_unregister(mem);
	fixture_close(&f);
}

static void test_memory_space_is_used_again(void **state)
{
	struct shim_mem *mem[64] = {0};
	struct fixture f;
	int fd;

	fixture_open(&f, NULL, 0, M2);
	fd = memfd_create("large", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)(64 * G1)), 0);
	/* 56 GiB of 64 are for memory: pieces of many sizes must find their way round. */
	for (unsigned int round = 0; round < 2000; round++) {
		unsigned int i = (round * 7919) % 64;
		uint64_t length = K4 << (round % 19);

		shim_mem_unregister(mem[i]);
		mem[i] = NULL;
		assert_int_equal(shim_mem_register(f.ctx, fd, 0, length, RW, &mem[i]), 0);
		for (unsigned int k = 0; k < 64; k++) {
			struct soft_piece *x = &soft_mem_of(mem[i])->piece, *y;

			if (k == i || !mem[k])
				continue;
			y = &soft_mem_of(mem[k])->piece;
			assert_true(x->start + x->length <= y->start ||
				    y->start + y->length <= x->start);
		}
	}
	close(fd);
	fixture_close(&f);
}

/* ---- creation and attachment ---- */

static int create(struct fixture *f, struct shim_pt_spec *spec, struct shim_dev *dev, char *reason)
{
	struct shim_pt *pt = NULL;
	int r;

	spec->devices = &dev;
	spec->n_devices = dev ? 1 : 0;
	reason[0] = '\0';
	r = shim_pt_create(f->ctx, spec, reason, &pt);
	shim_pt_destroy(pt);
	assert_true((r != 0) == (reason[0] != '\0'));
	return r;
}

static void test_create_refused(void **state)
{
	char reason[SHIM_REASON_MAX];
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_X86_64_5L};
	struct fixture f;

	fixture_open(&f, NULL, 0, M2);
	assert_int_equal(create(&f, &spec, f.dev0, reason), 0);
	assert_int_equal(create(&f, &spec, f.dev1, reason), SHIM_E_INCOMPATIBLE);
	assert_non_null(strstr(reason, DEV1));
	assert_non_null(strstr(reason, "x86_64-5l"));
	spec.format = SHIM_FORMAT_VTDSS_4L;
	spec.enforce_snoop = true;
	assert_int_equal(create(&f, &spec, f.dev0, reason), 0);
	assert_int_equal(create(&f, &spec, f.dev1, reason), SHIM_E_INCOMPATIBLE);
	assert_non_null(strstr(reason, "snoop"));
	spec.enforce_snoop = false;
	spec.input_bits = 49;
	assert_int_equal(create(&f, &spec, NULL, reason), SHIM_E_INCOMPATIBLE);
	spec.input_bits = 12;
	assert_int_equal(create(&f, &spec, NULL, reason), SHIM_E_INCOMPATIBLE);
	spec.input_bits = 13;
	assert_int_equal(create(&f, &spec, NULL, reason), 0);
	spec.input_bits = 48;
	assert_int_equal(create(&f, &spec, NULL, reason), 0);
	spec.dirty_tracking = true;
	assert_int_equal(create(&f, &spec, f.dev0, reason), 0);
	assert_int_equal(create(&f, &spec, f.dev1, reason), SHIM_E_INCOMPATIBLE);
	assert_non_null(strstr(reason, "dirty"));
	spec.dirty_tracking = false;
	/* A device that cannot ask for pages may share the table with those that can. */
	spec.faults = true;
	assert_int_equal(create(&f, &spec, f.dev0, reason), 0);
	assert_int_equal(create(&f, &spec, f.dev1, reason), 0);
	spec.faults = false;
	for (int format = 0; format <= _SHIM_FORMAT_MAX; format++) {
		spec.format = (enum shim_format)format;
		spec.input_bits = 0;
		assert_int_equal(create(&f, &spec, NULL, reason),
				 soft_format_find(spec.format) ? 0 : SHIM_E_UNSUPPORTED);
	}
	spec.format = SHIM_FORMAT_VTDSS_4L;
	for (int kind = 2; kind <= _SHIM_KIND_MAX; kind++) {
		spec.kind = (enum shim_kind)kind;
		assert_int_equal(create(&f, &spec, NULL, reason), SHIM_E_UNSUPPORTED);
	}
	assert_non_null(strstr(reason, "not built"));
	fixture_close(&f);
}

static void test_attach_rules(void **state)
{
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt_spec snoop = {
		.kind = SHIM_KIND_KERNEL,
		.format = SHIM_FORMAT_VTDSS_4L,
		.enforce_snoop = true,
	};
	struct shim_pt *five, *four, *snooped, *child;
	struct fixture f;

	fixture_open(&f, NULL, 0, M2);
	five = fixture_pt(&f, SHIM_FORMAT_VTDSS_5L, NULL);
	four = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	child = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, five);
	assert_int_equal(shim_pt_create(f.ctx, &snoop, reason, &snooped), 0);

	assert_int_equal(shim_attach(f.dev1, SHIM_NO_PASID, five, reason), SHIM_E_INCOMPATIBLE);
	assert_non_null(strstr(reason, DEV1));
	/* What a table is nested on counts as well. */
	assert_int_equal(shim_attach(f.dev1, SHIM_NO_PASID, child, reason), SHIM_E_INCOMPATIBLE);
	assert_non_null(strstr(reason, "vtdss-5l"));
	assert_int_equal(shim_attach(f.dev1, SHIM_NO_PASID, snooped, reason), SHIM_E_INCOMPATIBLE);
	assert_int_equal(shim_attach(f.dev1, 1, four, reason), SHIM_E_UNSUPPORTED);
	assert_int_equal(shim_attach(f.dev0, 1u << 20, four, reason), SHIM_E_INCOMPATIBLE);
	assert_int_equal(shim_detach(f.dev0, (1u << 20) - 1), SHIM_E_NOT_ATTACHED);
	assert_int_equal(shim_attach(f.dev0, (1u << 20) - 1, four, reason), 0);
	assert_int_equal(shim_attach(f.dev0, (1u << 20) - 1, five, reason), SHIM_E_ATTACHED);
	assert_int_equal(shim_detach(f.dev0, (1u << 20) - 1), 0);

	assert_int_equal(shim_replace(f.dev1, SHIM_NO_PASID, four, reason), SHIM_E_NOT_ATTACHED);
	assert_int_equal(shim_detach(f.dev1, SHIM_NO_PASID), SHIM_E_NOT_ATTACHED);
	assert_int_equal(shim_attach(f.dev1, SHIM_NO_PASID, four, reason), 0);
	assert_int_equal(shim_attach(f.dev1, SHIM_NO_PASID, four, reason), SHIM_E_ATTACHED);
	/* A replacement that fails leaves the old one in place. */
	assert_int_equal(fixture_map(&f, four, 0, K4, 0, RW), 0);
	f.bytes[5] = 0x5a;
	fixture_expect_byte(f.dev1, 5, 0x5a);
	assert_int_equal(shim_replace(f.dev1, SHIM_NO_PASID, five, reason), SHIM_E_INCOMPATIBLE);
	fixture_expect_byte(f.dev1, 5, 0x5a);
	assert_int_equal(shim_detach(f.dev1, SHIM_NO_PASID), 0);
	fixture_expect_fault(f.dev1, SHIM_READ, 5, SHIM_FAULT_NOT_ATTACHED);
	fixture_close(&f);
}

static void test_many_pasids(void **state)
{
	char reason[SHIM_REASON_MAX];
	struct shim_pt *pt[2];
	struct shim_fault fault;
	struct fixture f;
	uint8_t byte;

	fixture_open(&f, NULL, 0, M2);
	for (int i = 0; i < 2; i++) {
		pt[i] = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, NULL);
		assert_int_equal(fixture_map(&f, pt[i], 0, K4, (uint64_t)i * K4, RW), 0);
		f.bytes[(uint64_t)i * K4] = (uint8_t)(10 + i);
	}
	/* 997 is prime: the PASIDs are spread over all of 20 bits. */
	for (uint32_t i = 0; i < 1000; i++)
		fixture_attach(f.dev0, i * 997 % (1u << 20), pt[i % 2]);
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t pasid = i * 997 % (1u << 20);

		assert_int_equal(fixture_dma(f.dev0, pasid, SHIM_READ, 0, &byte, 1, &fault), 1);
		assert_int_equal(byte, 10 + i % 2);
		assert_int_equal(fixture_dma(f.dev0, pasid + 1, SHIM_READ, 0, &byte, 1, &fault), 0);
		assert_int_equal(fault.cause, SHIM_FAULT_NOT_ATTACHED);
	}
	/* A PASID is no other's, nor the RID's. */
	fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_ATTACHED);
	assert_int_equal(shim_replace(f.dev0, 997, pt[0], reason), 0);
	assert_int_equal(fixture_dma(f.dev0, 997, SHIM_READ, 0, &byte, 1, &fault), 1);
	assert_int_equal(byte, 10);
	for (uint32_t i = 0; i < 1000; i += 3)
		assert_int_equal(shim_detach(f.dev0, i * 997 % (1u << 20)), 0);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(
			fixture_dma(f.dev0, i * 997 % (1u << 20), SHIM_READ, 0, &byte, 1, &fault),
			i % 3 != 0);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(shim_detach(f.dev0, i * 997 % (1u << 20)),
				 i % 3 ? 0 : SHIM_E_NOT_ATTACHED);
	assert_null(soft_dev_of(f.dev0)->pasids.root);
	shim_pt_destroy(pt[0]);
	shim_pt_destroy(pt[1]);
	fixture_close(&f);
}

/* ---- map, unmap ---- */

static void test_map_refused(void **state)
{
	struct fixture f;
	struct shim_pt *x86, *ss, *child, *narrow;
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_KERNEL,
		.format = SHIM_FORMAT_VTDSS_4L,
		.input_bits = 40,
	};
	struct shim_mem *readonly;
	struct shim_map map;
	uint64_t half = 1ull << 47;

	fixture_open(&f, NULL, 0, 4 * M2);
	x86 = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, NULL);
	ss = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	child = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, ss);
	assert_int_equal(shim_pt_create(f.ctx, &spec, NULL, &narrow), 0);
	assert_int_equal(shim_mem_register(f.ctx, f.fd, 0, M2, SHIM_READ, &readonly), 0);

	assert_int_equal(fixture_map(&f, x86, 0, 0, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, 1, K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, 0, K4 - 1, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, 0, K4, 1, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, half - K4, 2 * K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, half, K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, -K4, 2 * K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, ss, 2 * half - K4, 2 * K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, ss, 2 * half, K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, narrow, 1ull << 40, K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, 0, 4 * M2 + K4, 0, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, 0, 2 * K4, 4 * M2 - K4, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map(&f, x86, 0, K4, -K4, RW), SHIM_E_RANGE);
	/* What the format cannot say: no write without read, no execute. */
	assert_int_equal(fixture_map(&f, x86, 0, K4, 0, SHIM_WRITE), SHIM_E_UNSUPPORTED);
	assert_int_equal(fixture_map(&f, ss, 0, K4, 0, RW | SHIM_EXEC), SHIM_E_UNSUPPORTED);
	assert_int_equal(fixture_map(&f, x86, 0, K4, 0, 0), -EINVAL);
	assert_int_equal(fixture_map(&f, x86, 0, K4, 0, RW | 8), -EINVAL);
	map = (struct shim_map){.length = K4, .mem = readonly, .prot = RW};
	assert_int_equal(shim_pt_map(x86, &map, 1, NULL), -EACCES);
	map = (struct shim_map){.length = K4, .prot = RW};
	assert_int_equal(shim_pt_map(x86, &map, 1, NULL), SHIM_E_UNSUPPORTED);
	assert_int_equal(fixture_map(&f, child, 0, K4, 0, RW), SHIM_E_UNSUPPORTED);
	assert_int_equal(fixture_map_child(child, 0, K4, 2 * half, RW), SHIM_E_RANGE);
	assert_int_equal(fixture_map_child(child, 0, K4, 1, RW), SHIM_E_RANGE);
	assert_int_equal(shim_pt_table_bytes(x86) + shim_pt_table_bytes(ss) +
				 shim_pt_table_bytes(child) + shim_pt_table_bytes(narrow),
			 0);
	/* Right at the edges it works. */
	assert_int_equal(fixture_map(&f, x86, half - K4, K4, 0, RW), 0);
	assert_int_equal(fixture_map(&f, x86, -half, K4, 0, RW), 0);
	assert_int_equal(fixture_map(&f, x86, -K4, K4, 4 * M2 - K4, SHIM_READ | SHIM_EXEC), 0);
	assert_int_equal(fixture_map(&f, ss, 2 * half - K4, K4, 0, SHIM_WRITE), 0);
	assert_int_equal(fixture_map(&f, narrow, (1ull << 40) - K4, K4, 0, RW), 0);
	assert_int_equal(fixture_map_child(child, 0, K4, 2 * half - K4, RW), 0);
	fixture_close(&f);
}

static void test_map_is_all_or_none(void **state)
{
	enum shim_format format;

	/* Out of tables after every possible number of them. */
	FOREACH_FORMAT(format)
	{
		bool fitted = false;

		for (uint64_t limit = 1; !fitted; limit++) {
			struct shim_map maps[4];
			struct shim_pt *pt;
			struct fixture f;
			uint64_t bytes;
			int r;

			fixture_open(&f, NULL, limit, 8 * M2);
			pt = fixture_pt(&f, format, NULL);
			fixture_attach(f.dev0, SHIM_NO_PASID, pt);
			if (fixture_map(&f, pt, 100 * G1, K4, 0, RW)) {
				assert_true(limit < 5);
				fixture_close(&f);
				continue;
			}
			bytes = shim_pt_table_bytes(pt);
			for (int i = 0; i < 4; i++)
				maps[i] = (struct shim_map){
					.iova = (uint64_t)i * 40 * G1,
					.length = 3 * M2,
					.mem = f.mem,
					.offset = K4,
					.prot = RW,
				};
			assert_true(shim_pt_map_bound(pt, maps, 4) >= 12 * K4);
			r = shim_pt_map(pt, maps, 4, NULL);
			fitted = !r;
			for (int i = 0; i < 4; i++) {
				if (!r)
					fixture_expect_byte(f.dev0, maps[i].iova, 0);
				else
					fixture_expect_fault(f.dev0, SHIM_READ, maps[i].iova,
							     SHIM_FAULT_NOT_PRESENT);
			}
			if (r) {
				assert_int_equal(r, -ENOMEM);
				assert_int_equal(shim_pt_table_bytes(pt), bytes);
			}
			fixture_expect_byte(f.dev0, 100 * G1, 0);
			fixture_close(&f);
		}
	}
}

static void test_overlap_changes_nothing(void **state)
{
	enum shim_format format;

	FOREACH_FORMAT(format)
	{
		struct shim_map maps[3] = {0};
		struct shim_pt *pt;
		struct fixture f;
		uint64_t bytes;

		fixture_open(&f, NULL, 0, 8 * M2);
		pt = fixture_pt(&f, format, NULL);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		assert_int_equal(fixture_map(&f, pt, 64 * M2, M2, 0, RW), 0);
		bytes = shim_pt_table_bytes(pt);
		for (int i = 0; i < 3; i++)
			maps[i] = (struct shim_map){
				.iova = (62 + (uint64_t)i) * M2,
				.length = M2,
				.mem = f.mem,
				.offset = M2,
				.prot = RW,
			};
		assert_int_equal(shim_pt_map(pt, maps, 3, NULL), SHIM_E_OVERLAP);
		assert_int_equal(shim_pt_table_bytes(pt), bytes);
		fixture_expect_fault(f.dev0, SHIM_READ, 62 * M2, SHIM_FAULT_NOT_PRESENT);
		fixture_expect_fault(f.dev0, SHIM_READ, 63 * M2, SHIM_FAULT_NOT_PRESENT);
		fixture_expect_byte(f.dev0, 64 * M2, 0);
		/* Entries that meet each other, within one call. */
		maps[2].iova = 63 * M2;
		assert_int_equal(shim_pt_map(pt, maps, 3, NULL), SHIM_E_OVERLAP);
		assert_int_equal(shim_pt_table_bytes(pt), bytes);
		fixture_close(&f);
	}
}

static void test_unmap_in_order(void **state)
{
	enum shim_format format;

	FOREACH_FORMAT(format)
	{
		const struct shim_unmap unmaps[] = {{0, M2}, {G1, K4}, {5 * G1, K4}, {7 * G1, K4}};
		struct shim_pt *pt;
		struct fixture f;
		size_t done = 99;

		fixture_open(&f, NULL, 0, 8 * M2);
		pt = fixture_pt(&f, format, NULL);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		assert_int_equal(fixture_map(&f, pt, 0, M2, 0, RW), 0);
		assert_int_equal(fixture_map(&f, pt, G1, K4, 0, RW), 0);
		assert_int_equal(fixture_map(&f, pt, 7 * G1, K4, 0, RW), 0);
		for (int i = 0; i < 4; i++)
			if (i != 2)
				fixture_expect_byte(f.dev0, unmaps[i].iova, 0);
		/* The third is not mapped: two are done, the fourth stays. */
		assert_int_equal(shim_pt_unmap(pt, unmaps, 4, &done), SHIM_E_NO_MAPPING);
		assert_int_equal(done, 2);
		fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_PRESENT);
		fixture_expect_fault(f.dev0, SHIM_READ, G1, SHIM_FAULT_NOT_PRESENT);
		fixture_expect_byte(f.dev0, 7 * G1, 0);
		/* No part of a page, nothing beyond the space, not twice. */
		assert_int_equal(fixture_map(&f, pt, 0, M2, 0, RW), 0);
		assert_int_equal(fixture_unmap(pt, 0, K4), SHIM_E_NO_MAPPING);
		assert_int_equal(fixture_unmap(pt, 0, 2 * M2), SHIM_E_NO_MAPPING);
		assert_int_equal(fixture_unmap(pt, 0, 0), SHIM_E_NO_MAPPING);
		assert_int_equal(fixture_unmap(pt, 1ull << 60, K4), SHIM_E_NO_MAPPING);
		assert_int_equal(fixture_unmap(pt, 0, M2), 0);
		assert_int_equal(fixture_unmap(pt, 0, M2), SHIM_E_NO_MAPPING);
		assert_int_equal(fixture_unmap(pt, 7 * G1, K4), 0);
		assert_int_equal(shim_pt_table_bytes(pt), 0);
		fixture_close(&f);
	}
}

/* Random arrays of maps: the bound holds, the bytes agree, and all of it comes back. */
static void test_random_through_the_shim(void **state)
{
	enum { SLOTS = 32 };
	enum shim_format format;

	srandom(4711);
	FOREACH_FORMAT(format)
	{
		struct {
			uint64_t iova, length, offset;
		} live[SLOTS] = {0};
		struct shim_pt *pt;
		struct fixture f;

		fixture_open(&f, NULL, 0, 16 * M2);
		for (uint64_t i = 0; i < 16 * M2; i += K4)
			memcpy(&f.bytes[i], &i, sizeof(i));
		pt = fixture_pt(&f, format, NULL);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		for (unsigned int step = 0; step < 3000; step++) {
			unsigned int i = (unsigned int)random() % SLOTS;
			/* Each slot has its own 32M of input: no two overlap. */
			uint64_t base = i * 16 * M2 + (i % 3) * 64 * G1;

			if (live[i].length) {
				assert_int_equal(fixture_unmap(pt, live[i].iova, live[i].length),
						 0);
				fixture_expect_fault(f.dev0, SHIM_READ, live[i].iova,
						     SHIM_FAULT_NOT_PRESENT);
				live[i].length = 0;
			} else {
				uint64_t align = random() % 2 ? M2 : K4;
				uint64_t before = shim_pt_table_bytes(pt), bound;
				struct shim_map map = {.mem = f.mem, .prot = RW};

				map.offset = (uint64_t)random() % (8 * M2) & -align;
				map.length = ((uint64_t)random() % (6 * M2) & -align) + align;
				map.iova = base + ((uint64_t)random() % (8 * M2) & -align);
				bound = shim_pt_map_bound(pt, &map, 1);
				assert_int_equal(shim_pt_map(pt, &map, 1, NULL), 0);
				assert_true(shim_pt_table_bytes(pt) - before <= bound);
				live[i].iova = map.iova;
				live[i].length = map.length;
				live[i].offset = map.offset;
			}
			i = (unsigned int)random() % SLOTS;
			if (live[i].length) {
				uint64_t at = (uint64_t)random() % live[i].length & -K4, got = 1;
				struct shim_fault fault;
				struct shim_walk walk;

				assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ,
							     live[i].iova + at, &got, sizeof(got),
							     &fault),
						 sizeof(got));
				assert_int_equal(got, live[i].offset + at);
				assert_int_equal(
					shim_pt_walk(pt, live[i].iova + at + 9, SHIM_WRITE, &walk),
					0);
				assert_ptr_equal(walk.mem, f.mem);
				assert_int_equal(walk.offset, live[i].offset + at + 9);
			}
		}
		for (unsigned int i = 0; i < SLOTS; i++)
			if (live[i].length)
				assert_int_equal(fixture_unmap(pt, live[i].iova, live[i].length),
						 0);
		assert_int_equal(shim_pt_table_bytes(pt), 0);
		fixture_close(&f);
	}
}

/* ---- DMA ---- */

static void test_dma_bytes_and_faults(void **state)
{
	enum shim_format format;

	FOREACH_FORMAT(format)
	{
		static uint8_t buf[3 * M2], back[3 * M2];
		struct shim_fault fault;
		struct shim_pt *pt;
		struct fixture f;
		size_t done = 5;

		fixture_open(&f, NULL, 0, 4 * M2);
		pt = fixture_pt(&f, format, NULL);
		fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_ATTACHED);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		/* Physically backwards: page after page goes elsewhere. */
		for (uint64_t i = 0; i < 512; i++)
			assert_int_equal(
				fixture_map(&f, pt, M2 + i * K4, K4, 2 * M2 - (i + 1) * K4, RW), 0);
		assert_int_equal(fixture_map(&f, pt, 2 * M2, M2, 2 * M2, SHIM_READ), 0);
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = (uint8_t)(i * 31 + (i >> 12));
		/* Write what is writable: 2M less 100 bytes, then the fault. */
		assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, M2 + 100, buf,
					     2 * M2, &fault),
				 M2 - 100);
		assert_int_equal(fault.cause, SHIM_FAULT_PERMISSION);
		assert_true(fault.address == 2 * M2);
		assert_int_equal(fault.stage, 1);
		assert_int_equal(fault.level, 2);
		for (uint64_t i = 0; i < M2 - 100; i++) {
			uint64_t page = (i + 100) / K4, at = 2 * M2 - (page + 1) * K4;

			if (f.bytes[at + (i + 100) % K4] != buf[i])
				fail_msg("byte %llu", (unsigned long long)i);
		}
		memset(&f.bytes[2 * M2], 0x77, M2);
		assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, M2 + 100, back,
					     3 * M2, &fault),
				 2 * M2 - 100);
		assert_int_equal(fault.cause, SHIM_FAULT_NOT_PRESENT);
		assert_true(fault.address == 3 * M2);
		assert_memory_equal(back, buf, M2 - 100);
		assert_int_equal(back[M2 - 100], 0x77);
		assert_int_equal(back[2 * M2 - 101], 0x77);
		/* Nothing to do is nothing done; a strange access is no access. */
		assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, 0, buf, 0, &fault),
				 0);
		assert_int_equal(shim_dma(f.dev0, SHIM_NO_PASID, RW, M2, buf, 1, &done, &fault),
				 -EINVAL);
		assert_int_equal(
			shim_dma(f.dev0, SHIM_NO_PASID, SHIM_EXEC, M2, buf, 1, &done, &fault),
			-EINVAL);
		assert_int_equal(done, 5);
		fixture_close(&f);
	}
}

static void test_dma_edges(void **state)
{
	uint8_t buf[64] = {0};
	struct shim_fault fault;
	struct shim_pt *x86, *ss;
	struct fixture f;

	fixture_open(&f, NULL, 0, 4 * M2);
	x86 = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, NULL);
	ss = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, x86);
	fixture_attach(f.dev1, SHIM_NO_PASID, ss);
	/* Over the top of a canonical space, which is the top of all addresses. */
	assert_int_equal(fixture_map(&f, x86, -K4, K4, 0, RW), 0);
	assert_int_equal(fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, -16, buf, 64, &fault), 16);
	assert_int_equal(fault.cause, SHIM_FAULT_ADDRESS_WIDTH);
	/* Into the hole. */
	assert_int_equal(fixture_map(&f, x86, (1ull << 47) - K4, K4, 0, RW), 0);
	assert_int_equal(
		fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, (1ull << 47) - 16, buf, 64, &fault),
		16);
	assert_int_equal(fault.cause, SHIM_FAULT_NON_CANONICAL);
	/* Beyond the width of a second stage. */
	assert_int_equal(fixture_map(&f, ss, (1ull << 48) - K4, K4, 0, SHIM_WRITE), 0);
	assert_int_equal(
		fixture_dma(f.dev1, SHIM_NO_PASID, SHIM_WRITE, (1ull << 48) - 16, buf, 64, &fault),
		16);
	assert_int_equal(fault.cause, SHIM_FAULT_ADDRESS_WIDTH);
	assert_true(fault.address == 1ull << 48);
	/* Write-only is legal there, and is not readable. */
	fixture_expect_fault(f.dev1, SHIM_READ, (1ull << 48) - 1, SHIM_FAULT_PERMISSION);
	/* The MSI window, from below, inside, its last byte and behind it. */
	assert_int_equal(fixture_map(&f, ss, 0xfedff000, K4, 0, RW), 0);
	assert_int_equal(fixture_map(&f, ss, 0xfee00000, M2, 0, RW), 0);
	assert_int_equal(fixture_dma(f.dev1, SHIM_NO_PASID, SHIM_READ, 0xfedffff0, buf, 64, &fault),
			 16);
	assert_int_equal(fault.cause, SHIM_FAULT_RESERVED_RANGE);
	assert_true(fault.address == 0xfee00000);
	fixture_expect_fault(f.dev1, SHIM_WRITE, 0xfeefffff, SHIM_FAULT_RESERVED_RANGE);
	fixture_expect_byte(f.dev1, 0xfef00000, 0);
	fixture_close(&f);
}

static void test_walk_names_the_memory(void **state)
{
	struct shim_walk walk;
	struct shim_pt *pt;
	struct fixture f;

	fixture_open(&f, NULL, 0, 4 * M2);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(shim_pt_walk(pt, 0x1234, SHIM_READ, &walk), 0);
	assert_int_equal(walk.fault.cause, SHIM_FAULT_NOT_PRESENT);
	assert_int_equal(walk.n_levels, 0);
	assert_int_equal(fixture_map(&f, pt, M2, M2, M2, SHIM_READ), 0);
	assert_int_equal(fixture_map(&f, pt, 2 * M2, K4, 0, RW), 0);
	assert_int_equal(shim_pt_walk(pt, M2 + 0x1234, SHIM_READ, &walk), 0);
	assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
	assert_int_equal(walk.n_levels, 3);
	assert_string_equal(walk.levels[0].decoded, "table");
	assert_string_equal(walk.levels[2].decoded, "page 2M R");
	assert_int_equal(walk.levels[2].index, 1);
	assert_int_equal(walk.page_size, M2);
	assert_int_equal(walk.prot, SHIM_READ);
	assert_ptr_equal(walk.mem, f.mem);
	assert_int_equal(walk.offset, M2 + 0x1234);
	assert_int_equal(shim_pt_walk(pt, 2 * M2, SHIM_WRITE, &walk), 0);
	assert_string_equal(walk.levels[3].decoded, "page 4K RW");
	assert_int_equal(shim_pt_walk(pt, M2, SHIM_WRITE, &walk), 0);
	assert_int_equal(walk.fault.cause, SHIM_FAULT_PERMISSION);
	assert_int_equal(shim_pt_walk(pt, 0, SHIM_READ, &walk), 0);
	assert_string_equal(walk.levels[walk.n_levels - 1].decoded, "not present");
	assert_int_equal(shim_pt_walk(pt, 0, 0, &walk), -EINVAL);
	fixture_close(&f);
}

/* ---- nesting ---- */

static void test_nesting(void **state)
{
	static const enum shim_format stack[] = {SHIM_FORMAT_VTDSS_5L, SHIM_FORMAT_VTDSS_4L,
						 SHIM_FORMAT_X86_64_5L, SHIM_FORMAT_X86_64_4L};
	struct shim_pt *pt[4] = {0};
	struct shim_pt_spec deeper = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_VTDSS_4L};
	char reason[SHIM_REASON_MAX];
	struct shim_walk walk;
	struct fixture f;

	fixture_open(&f, NULL, 0, 8 * M2);
	for (int i = 0; i < 4; i++)
		pt[i] = fixture_pt(&f, stack[i], i ? pt[i - 1] : NULL);
	deeper.parent = pt[3];
	assert_int_equal(shim_pt_create(f.ctx, &deeper, reason, &pt[0]), SHIM_E_UNSUPPORTED);
	assert_non_null(strstr(reason, "4 deep"));

	/* Children first: the parent need not be mapped yet. */
	assert_int_equal(fixture_map_child(pt[3], 3 * M2, M2, 5 * M2, RW), 0);
	assert_int_equal(fixture_map_child(pt[2], 5 * M2, 2 * K4, 9 * M2, RW), 0);
	assert_int_equal(fixture_map_child(pt[1], 8 * M2, 2 * M2, 20 * M2, RW), 0);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt[3]);
	fixture_expect_fault(f.dev0, SHIM_READ, 3 * M2, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_int_equal(fixture_map(&f, pt[0], 20 * M2, 2 * M2, 2 * M2, RW), 0);
	/* 3M -> 5M -> 9M -> 21M -> memory at 3M. */
	f.bytes[3 * M2 + 0x123] = 0x42;
	fixture_expect_byte(f.dev0, 3 * M2 + 0x123, 0x42);
	assert_int_equal(shim_pt_walk(pt[3], 3 * M2 + 0x123, SHIM_READ, &walk), 0);
	assert_ptr_equal(walk.mem, f.mem);
	assert_int_equal(walk.offset, 3 * M2 + 0x123);
	assert_int_equal(walk.page_size, K4);
	assert_int_equal(walk.levels[walk.n_levels - 1].stage, 4);
	fixture_expect_fault(f.dev0, SHIM_READ, 3 * M2 + 2 * K4, SHIM_FAULT_PARENT_NOT_PRESENT);

	/* Any ancestor's change reaches the child at once, though its entry was cached. */
	assert_int_equal(fixture_unmap(pt[0], 20 * M2, 2 * M2), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 3 * M2 + 0x123, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_int_equal(fixture_map(&f, pt[0], 20 * M2, 2 * M2, 4 * M2, SHIM_READ), 0);
	f.bytes[5 * M2 + 0x123] = 0x43;
	fixture_expect_byte(f.dev0, 3 * M2 + 0x123, 0x43);
	fixture_expect_fault(f.dev0, SHIM_WRITE, 3 * M2 + 0x123, SHIM_FAULT_PARENT_PERMISSION);
	assert_int_equal(fixture_unmap(pt[1], 8 * M2, 2 * M2), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 3 * M2 + 0x123, SHIM_FAULT_PARENT_NOT_PRESENT);
	assert_int_equal(fixture_map_child(pt[1], 8 * M2, 2 * M2, 20 * M2, RW), 0);
	fixture_expect_byte(f.dev0, 3 * M2 + 0x123, 0x43);
	assert_int_equal(fixture_unmap(pt[2], 5 * M2, 2 * K4), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 3 * M2 + 0x123, SHIM_FAULT_PARENT_NOT_PRESENT);
	/* A table with children does not go away under them. */
	shim_pt_destroy(pt[2]);
	assert_int_equal(fixture_map_child(pt[2], 5 * M2, 2 * K4, 9 * M2, RW), 0);
	fixture_expect_byte(f.dev0, 3 * M2 + 0x123, 0x43);
	fixture_close(&f);
}

/*
 * A parent that enforces snooping has bit 11 in its leaves, which is reserved where there is
 * no snoop control: a walk of a child that was made for less must not judge them by that.
 */
static void test_nesting_on_what_can_do_more(void **state)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_VTDSS_4L};
	char reason[SHIM_REASON_MAX];
	struct shim_pt *parent, *child;
	struct shim_walk walk;
	struct fixture f;

	fixture_open(&f, NULL, 0, M2);
	spec.enforce_snoop = true;
	spec.devices = &f.dev0;
	spec.n_devices = 1;
	assert_int_equal(shim_pt_create(f.ctx, &spec, reason, &parent), 0);
	spec = (struct shim_pt_spec){
		.kind = SHIM_KIND_KERNEL,
		.format = SHIM_FORMAT_VTDSS_4L,
		.parent = parent,
	};
	assert_int_equal(shim_pt_create(f.ctx, &spec, reason, &child), 0);
	assert_int_equal(fixture_map(&f, parent, 0, 4 * K4, 0, RW), 0);
	assert_int_equal(fixture_map_child(child, M2, K4, 2 * K4, RW), 0);
	assert_int_equal(shim_pt_walk(child, M2 + 0x10, SHIM_READ, &walk), 0);
	assert_int_equal(walk.fault.cause, SHIM_FAULT_NONE);
	assert_int_equal(walk.offset, 2 * K4 + 0x10);
	f.bytes[2 * K4 + 0x10] = 0x44;
	fixture_attach(f.dev0, SHIM_NO_PASID, child);
	fixture_expect_byte(f.dev0, M2 + 0x10, 0x44);
	fixture_close(&f);
}

/* ---- caches ---- */

/* The entry of the lowest level for an address, behind the shim's back. */
static uint64_t *leaf_of(struct shim_pt *table, uint64_t iova)
{
	struct soft_pt *pt = soft_pt_of(table);
	const struct soft_tables *tables = &soft_shim_of(table->shim)->tables;
	const struct soft_format *format = soft_format_find(pt->format);
	unsigned int level = pt->shape.levels;
	uint64_t at = pt->root;

	for (; level > 1; level--)
		at = soft_table_entries(tables,
					at)[soft_shape_index(format, &pt->shape, level, iova)] &
		     0x000ffffffffff000ull;
	return &soft_table_entries(tables, at)[soft_shape_index(format, &pt->shape, 1, iova)];
}

static int invalidate(struct shim_pt *pt, struct shim_invalidate entry)
{
	size_t done = 99;
	int r = shim_pt_invalidate(pt, &entry, 1, &done);

	assert_int_equal(done, r ? 0 : 1);
	return r;
}

static void test_iotlb_is_stale(void **state)
{
	enum shim_format format;

	FOREACH_FORMAT(format)
	{
		uint64_t *leaf[3], was[3];
		struct shim_pt *pt, *other;
		struct fixture f;

		fixture_open(&f, NULL, 0, 4 * M2);
		pt = fixture_pt(&f, format, NULL);
		other = fixture_pt(&f, format, NULL);
		fixture_attach(f.dev0, SHIM_NO_PASID, pt);
		fixture_attach(f.dev0, 7, other);
		for (uint64_t i = 0; i < 3; i++) {
			f.bytes[i * K4] = (uint8_t)(1 + i);
			assert_int_equal(fixture_map(&f, pt, i * K4, K4, i * K4, RW), 0);
			assert_int_equal(fixture_map(&f, other, i * K4, K4, i * K4, RW), 0);
			fixture_expect_byte(f.dev0, i * K4, (uint8_t)(1 + i));
			leaf[i] = leaf_of(pt, i * K4);
			was[i] = *leaf[i];
			*leaf[i] = 0;
		}
		/* The tables say no, the walk says no, the device still gets through. */
		for (uint64_t i = 0; i < 3; i++) {
			struct shim_walk walk;

			assert_int_equal(shim_pt_walk(pt, i * K4, SHIM_READ, &walk), 0);
			assert_int_equal(walk.fault.cause, SHIM_FAULT_NOT_PRESENT);
			fixture_expect_byte(f.dev0, i * K4, (uint8_t)(1 + i));
		}
		/* Not this page, not this table. */
		assert_int_equal(invalidate(pt,
					    (struct shim_invalidate){
						    .scope = SHIM_INVALIDATE_RANGE,
						    .iova = 3 * K4,
						    .length = K4,
					    }),
				 0);
		assert_int_equal(
			invalidate(other, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}),
			0);
		for (uint64_t i = 0; i < 3; i++)
			fixture_expect_byte(f.dev0, i * K4, (uint8_t)(1 + i));
		/* The middle page, named by one byte of it. */
		assert_int_equal(invalidate(pt,
					    (struct shim_invalidate){
						    .scope = SHIM_INVALIDATE_RANGE,
						    .iova = K4 + 77,
						    .length = 1,
						    .leaf = true,
					    }),
				 0);
		fixture_expect_byte(f.dev0, 0, 1);
		fixture_expect_fault(f.dev0, SHIM_READ, K4, SHIM_FAULT_NOT_PRESENT);
		fixture_expect_byte(f.dev0, 2 * K4, 3);
		/* A PASID that this table is not attached at; then everything. */
		assert_int_equal(invalidate(pt,
					    (struct shim_invalidate){
						    .scope = SHIM_INVALIDATE_PASID,
						    .pasid = 7,
					    }),
				 0);
		fixture_expect_byte(f.dev0, 0, 1);
		assert_int_equal(
			invalidate(pt, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), 0);
		fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_PRESENT);
		fixture_expect_fault(f.dev0, SHIM_READ, 2 * K4, SHIM_FAULT_NOT_PRESENT);
		/* Absence is not cached. */
		for (uint64_t i = 0; i < 3; i++) {
			*leaf[i] = was[i];
			fixture_expect_byte(f.dev0, i * K4, (uint8_t)(1 + i));
		}
		fixture_close(&f);
	}
}

static void test_stale_permission_is_walked(void **state)
{
	struct shim_pt *pt;
	struct fixture f;
	uint64_t *leaf;

	fixture_open(&f, NULL, 0, M2);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(fixture_map(&f, pt, 0, K4, 0, SHIM_READ), 0);
	fixture_expect_byte(f.dev0, 0, 0);
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0, SHIM_FAULT_PERMISSION);
	/* Granting more needs no invalidation; taking away does. */
	leaf = leaf_of(pt, 0);
	*leaf |= 2;
	{
		struct shim_fault fault;
		uint8_t byte = 9;

		assert_int_equal(
			fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, 0, &byte, 1, &fault), 1);
		*leaf &= ~2ull;
		assert_int_equal(
			fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_WRITE, 0, &byte, 1, &fault), 1);
	}
	assert_int_equal(invalidate(pt, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), 0);
	fixture_expect_fault(f.dev0, SHIM_WRITE, 0, SHIM_FAULT_PERMISSION);
	fixture_close(&f);
}

static void test_iotlb_is_finite(void **state)
{
	const uint64_t pages = 4096; /* the IOTLB of soft0 has 1024 entries */
	uint64_t stale = 0;
	struct shim_pt *pt;
	struct fixture f;

	fixture_open(&f, NULL, 0, pages * K4);
	pt = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	for (uint64_t i = 0; i < pages; i++)
		assert_int_equal(fixture_map(&f, pt, i * K4, K4, (pages - 1 - i) * K4, RW), 0);
	for (uint64_t i = 0; i < pages; i++)
		fixture_expect_byte(f.dev0, i * K4, 0);
	for (uint64_t i = 0; i < pages; i++)
		*leaf_of(pt, i * K4) = 0;
	for (uint64_t i = 0; i < pages; i++) {
		struct shim_fault fault;
		uint8_t byte;

		stale += fixture_dma(f.dev0, SHIM_NO_PASID, SHIM_READ, i * K4, &byte, 1, &fault);
	}
	assert_true(stale > 0 && stale <= 1024);
	fixture_close(&f);
}

static void test_invalidate_refused(void **state)
{
	struct shim_invalidate array[3] = {
		{.scope = SHIM_INVALIDATE_ALL},
		{.scope = SHIM_INVALIDATE_RANGE, .iova = K4, .length = 0},
		{.scope = SHIM_INVALIDATE_ALL},
	};
	struct shim_invalidate entry = {.scope = SHIM_INVALIDATE_RANGE};
	struct shim_pt *pt;
	struct fixture f;
	size_t done = 99;

	fixture_open(&f, NULL, 0, M2);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(shim_pt_invalidate(pt, array, 3, &done), SHIM_E_RANGE);
	assert_int_equal(done, 1);
	assert_int_equal(shim_pt_invalidate(pt, array, 0, &done), 0);
	assert_int_equal(done, 0);
	entry.iova = UINT64_MAX;
	entry.length = 2;
	assert_int_equal(invalidate(pt, entry), SHIM_E_RANGE);
	entry.iova = 1ull << 48;
	assert_int_equal(invalidate(pt, entry), SHIM_E_RANGE);
	entry.iova = (1ull << 48) - 1;
	entry.length = 1;
	assert_int_equal(invalidate(pt, entry), 0);
	entry.length = 2;
	assert_int_equal(invalidate(pt, entry), SHIM_E_RANGE);
	entry.iova = 0;
	entry.length = 1ull << 48;
	assert_int_equal(invalidate(pt, entry), 0);
	entry.scope = SHIM_INVALIDATE_DEVICE_TLB;
	assert_int_equal(invalidate(pt, entry), SHIM_E_UNSUPPORTED);
	entry.scope = SHIM_INVALIDATE_PASID_CACHE;
	assert_int_equal(invalidate(pt, entry), SHIM_E_UNSUPPORTED);
	entry.scope = SHIM_INVALIDATE_PASID;
	entry.pasid = 1u << 20;
	assert_int_equal(invalidate(pt, entry), SHIM_E_RANGE);
	entry.scope = 0;
	assert_int_equal(invalidate(pt, entry), SHIM_E_UNSUPPORTED);
	fixture_close(&f);
}

static const char topology_with_tlbs[] =
	"{\"version\": 1, \"iommus\": [{\"name\": \"a\", \"formats\": [\"vtdss-4l\"],"
	" \"device_tlb_entries\": 16}], \"devices\": ["
	"{\"address\": \"" DEV0 "\", \"vendor_device\": \"8086:10fb\", \"class\": \"020000\","
	" \"iommu\": \"a\", \"group\": 1},"
	"{\"address\": \"" DEV1 "\", \"vendor_device\": \"8086:10fb\", \"class\": \"020000\","
	" \"iommu\": \"a\", \"group\": 2, \"device_tlb\": false}]}";

static void test_device_tlb(void **state)
{
	char reason[SHIM_REASON_MAX];
	struct shim_invalidate tlb = {.scope = SHIM_INVALIDATE_DEVICE_TLB};
	struct shim_pt *pt, *other;
	struct fixture f;

	fixture_open(&f, topology_with_tlbs, 0, 4 * M2);
	assert_true(shim_device_info(f.shim, 0)->caps.device_tlb);
	assert_false(shim_device_info(f.shim, 1)->caps.device_tlb);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	other = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_attach(f.dev1, SHIM_NO_PASID, pt);
	assert_int_equal(fixture_map(&f, pt, 0, K4, 0, RW), 0);
	fixture_expect_byte(f.dev0, 0, 0);
	fixture_expect_byte(f.dev1, 0, 0);
	*leaf_of(pt, 0) = 0;
	/* Empty the IOMMU's own: the device with a TLB goes on, the other does not. */
	soft_iotlb_drop_all(&soft_shim_of(f.shim)->iommus[0].iotlb);
	fixture_expect_fault(f.dev1, SHIM_READ, 0, SHIM_FAULT_NOT_PRESENT);
	fixture_expect_byte(f.dev0, 0, 0);
	tlb.dev = f.dev1;
	assert_int_equal(invalidate(pt, tlb), SHIM_E_UNSUPPORTED);
	tlb.dev = f.dev0;
	tlb.iova = K4;
	tlb.length = K4;
	assert_int_equal(invalidate(pt, tlb), 0);
	fixture_expect_byte(f.dev0, 0, 0);
	tlb.iova = 0;
	tlb.length = 0;
	assert_int_equal(invalidate(pt, tlb), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_PRESENT);
	/* Unmap and replace drop it too. */
	assert_int_equal(fixture_map(&f, pt, K4, K4, 0, RW), 0);
	fixture_expect_byte(f.dev0, K4, 0);
	assert_int_equal(fixture_unmap(pt, K4, K4), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, K4, SHIM_FAULT_NOT_PRESENT);
	assert_int_equal(fixture_map(&f, pt, 2 * K4, K4, 0, RW), 0);
	fixture_expect_byte(f.dev0, 2 * K4, 0);
	assert_int_equal(shim_replace(f.dev0, SHIM_NO_PASID, other, reason), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 2 * K4, SHIM_FAULT_NOT_PRESENT);
	fixture_close(&f);
}

/* An entry cached for a device that has gone must not serve the next one. */
static void test_nothing_is_left_for_the_next(void **state)
{
	struct shim_pt *pt;
	struct fixture f;

	fixture_open(&f, NULL, 0, M2);
	pt = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	assert_int_equal(fixture_map(&f, pt, 0, K4, 0, RW), 0);
	fixture_expect_byte(f.dev0, 0, 0);
	/* Unmapped while nothing is attached: what was cached before must be gone too. */
	assert_int_equal(shim_detach(f.dev0, SHIM_NO_PASID), 0);
	assert_int_equal(fixture_unmap(pt, 0, K4), 0);
	fixture_attach(f.dev0, SHIM_NO_PASID, pt);
	fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_PRESENT);
	shim_dev_release(f.dev0);
	assert_int_equal(shim_dev_bind_one(f.ctx, DEV0, NULL, &f.dev0), 0);
	fixture_expect_fault(f.dev0, SHIM_READ, 0, SHIM_FAULT_NOT_ATTACHED);
	shim_pt_destroy(pt);
	fixture_close(&f);
}

/* ---- the end of a context ---- */

static void test_context_with_many_tables(void **state)
{
	const size_t n = 100000;
	struct shim_pt *parent, *pt;
	struct fixture f;

	fixture_open(&f, NULL, 0, M2);
	parent = fixture_pt(&f, SHIM_FORMAT_VTDSS_4L, NULL);
	assert_int_equal(fixture_map(&f, parent, 0, M2, 0, RW), 0);
	for (size_t i = 0; i < n; i++) {
		pt = fixture_pt(&f, SHIM_FORMAT_X86_64_4L, i % 2 ? parent : NULL);
		assert_int_equal(shim_pt_table_bytes(pt), 0);
		if (i % 100 == 0)
			assert_int_equal(fixture_map(&f, pt, i * M2, K4, 0, RW), 0);
		if (i < 1000)
			fixture_attach(f.dev0, (uint32_t)i, pt);
	}
	assert_true(sizeof(struct soft_pt) <= 128);
	fixture_close(&f);
}

/* ---- the failing wrapper ---- */

/* A bit of everything; 0 or the first error, with all undone. */
static int sequence(struct shim *shim, int fd, size_t *ret_bytes)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_VTDSS_4L};
	struct shim_unmap unmaps[4];
	struct shim_map maps[4];
	struct shim_pt *pt, *child;
	struct shim_fault fault;
	struct shim_mem *mem;
	struct shim_ctx *ctx;
	struct shim_dev *dev;
	struct shim_walk walk;
	char reason[SHIM_REASON_MAX];
	size_t done;
	uint8_t byte;
	int r;

	r = shim_ctx_new(shim, "org", NULL, &ctx);
	if (r)
		return r;
	if ((r = shim_dev_bind_one(ctx, DEV0, NULL, &dev)) ||
	    (r = shim_mem_register(ctx, fd, 0, M2, RW, &mem)) ||
	    (r = shim_pt_create(ctx, &spec, reason, &pt)))
		goto out;
	spec.parent = pt;
	for (uint64_t i = 0; i < 4; i++) {
		maps[i] = (struct shim_map){.iova = i * M2, .length = K4, .mem = mem, .prot = RW};
		unmaps[i] = (struct shim_unmap){i * M2, K4};
	}
	if ((r = shim_pt_map(pt, maps, 4, NULL)) ||
	    (r = shim_pt_create(ctx, &spec, reason, &child)) ||
	    (r = shim_attach(dev, SHIM_NO_PASID, pt, reason)) ||
	    (r = shim_dma(dev, SHIM_NO_PASID, SHIM_READ, 0, &byte, 1, ret_bytes, &fault)) ||
	    (r = shim_pt_walk(pt, 0, SHIM_READ, &walk)) ||
	    (r = shim_replace(dev, SHIM_NO_PASID, child, reason)) ||
	    (r = shim_pt_invalidate(pt, &(struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}, 1,
				    &done)))
		goto out;
	r = shim_pt_unmap(pt, unmaps, 4, &done);
	if (r) {
		assert_int_equal(done, 2);
		/* The rest is still there, and can be unmapped. */
		r = shim_pt_unmap(pt, unmaps + done, 4 - done, &done) ? -EIO : r;
		assert_int_equal(shim_pt_table_bytes(pt), 0);
		goto out;
	}
	r = shim_detach(dev, SHIM_NO_PASID);
out:
	shim_ctx_free(ctx);
	return r;
}

static void test_failing_wrapper(void **state)
{
	struct shim *soft = fixture_shim(NULL, 0), *shim;
	size_t bytes = 0;
	uint64_t calls;
	int fd = memfd_create("memory", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, M2), 0);
	assert_int_equal(fail_shim_new(soft, &shim), 0);
	assert_int_equal(shim_device_count(shim), 8);
	fail_shim_arm(shim, 0, 0);
	assert_int_equal(sequence(shim, fd, &bytes), 0);
	assert_int_equal(bytes, 1);
	calls = fail_shim_calls(shim);
	assert_int_equal(calls, 13);
	assert_false(fail_shim_fired(shim));
	for (uint64_t n = 1; n <= calls; n++) {
		int error = n % 2 ? -ENOMEM : SHIM_E_UNSUPPORTED;

		fail_shim_arm(shim, n, error);
		assert_int_equal(sequence(shim, fd, &bytes), error);
		assert_true(fail_shim_fired(shim));
		assert_int_equal(soft_tables_used(&soft_shim_of(soft)->tables), 0);
	}
	fail_shim_arm(shim, calls + 1, -EIO);
	assert_int_equal(sequence(shim, fd, &bytes), 0);
	assert_false(fail_shim_fired(shim));
	close(fd);
	shim_free(shim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inventory),
		cmocka_unit_test(test_bind),
		cmocka_unit_test(test_memory_refused),
		cmocka_unit_test(test_memory_space_is_used_again),
		cmocka_unit_test(test_create_refused),
		cmocka_unit_test(test_attach_rules),
		cmocka_unit_test(test_many_pasids),
		cmocka_unit_test(test_map_refused),
		cmocka_unit_test(test_map_is_all_or_none),
		cmocka_unit_test(test_overlap_changes_nothing),
		cmocka_unit_test(test_unmap_in_order),
		cmocka_unit_test(test_random_through_the_shim),
		cmocka_unit_test(test_dma_bytes_and_faults),
		cmocka_unit_test(test_dma_edges),
		cmocka_unit_test(test_walk_names_the_memory),
		cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_nesting_on_what_can_do_more),
		cmocka_unit_test(test_iotlb_is_stale),
		cmocka_unit_test(test_stale_permission_is_walked),
		cmocka_unit_test(test_iotlb_is_finite),
		cmocka_unit_test(test_invalidate_refused),
		cmocka_unit_test(test_device_tlb),
		cmocka_unit_test(test_nothing_is_left_for_the_next),
		cmocka_unit_test(test_context_with_many_tables),
		cmocka_unit_test(test_failing_wrapper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
