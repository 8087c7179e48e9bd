/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TEST_SOFT_FIXTURE_H
#define IOASID_TEST_SOFT_FIXTURE_H

/* A context with memory and devices on a software IOMMU, for the tests of the shim. */

#include "soft/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define K4 (4ull << 10)
#define M2 (2ull << 20)
#define G1 (1ull << 30)
#define RW (SHIM_READ | SHIM_WRITE)

/* Of the built-in topology. */
#define DEV0	  "0000:01:00.0" /* soft0 */
#define DEV0_MORE "0000:02:00.0" /* soft0 */
#define DEV1	  "0000:81:00.0" /* soft1 */
#define DEV_HOST  "0000:00:1f.2"

struct fixture {
	struct shim *shim;
	struct shim_ctx *ctx;
	struct shim_dev *dev0, *dev1;
	int fd;
	uint8_t *bytes; /* the test's own mapping of the memory */
	size_t length;
	struct shim_mem *mem;
};

static inline struct shim *fixture_shim(const char *topology, uint64_t table_pages)
{
	struct soft_options options = {.physical_bytes = 64 * G1, .table_pages = table_pages};
	struct soft_problem problem = {0};
	struct shim *shim = NULL;
	int r;

	if (topology)
		r = soft_shim_new_from_memory(topology, strlen(topology), &options, &shim,
					      &problem);
	else
		r = soft_shim_new(NULL, &options, &shim, &problem);
	if (r)
		fail_msg("%d: %u:%u %s: %s", r, problem.line, problem.column, problem.path,
			 problem.message);
	return shim;
}

static inline void fixture_open(struct fixture *f, const char *topology, uint64_t table_pages,
				size_t length)
{
	memset(f, 0, sizeof(*f));
	f->shim = fixture_shim(topology, table_pages);
	f->length = length;
	assert_int_equal(shim_ctx_new(f->shim, "org", NULL, &f->ctx), 0);
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV0, NULL, &f->dev0), 0);
	assert_int_equal(shim_dev_bind_one(f->ctx, DEV1, NULL, &f->dev1), 0);
	f->fd = memfd_create("memory", MFD_CLOEXEC);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, (off_t)length), 0);
	f->bytes = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	assert_true(f->bytes != MAP_FAILED);
	assert_int_equal(shim_mem_register(f->ctx, f->fd, 0, length, RW, &f->mem), 0);
}

static inline void fixture_close(struct fixture *f)
{
	shim_ctx_free(f->ctx);
	assert_int_equal(soft_tables_used(&soft_shim_of(f->shim)->tables), 0);
	shim_free(f->shim);
	munmap(f->bytes, f->length);
	close(f->fd);
}

static inline struct shim_pt *fixture_pt(struct fixture *f, enum shim_format format,
					 struct shim_pt *parent)
{
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_KERNEL,
		.format = format,
		.parent = parent,
	};
	char reason[SHIM_REASON_MAX] = "";
	struct shim_pt *pt = NULL;
	int r = shim_pt_create(f->ctx, &spec, reason, &pt);

	if (r)
		fail_msg("%d: %s", r, reason);
	return pt;
}

static inline int fixture_map(struct fixture *f, struct shim_pt *pt, uint64_t iova, uint64_t length,
			      uint64_t offset, uint32_t prot)
{
	struct shim_map map = {
		.iova = iova,
		.length = length,
		.mem = f->mem,
		.offset = offset,
		.prot = prot,
	};

	return shim_pt_map(pt, &map, 1, NULL);
}

static inline int fixture_map_child(struct shim_pt *pt, uint64_t iova, uint64_t length,
				    uint64_t parent_address, uint32_t prot)
{
	struct shim_map map = {
		.iova = iova,
		.length = length,
		.parent_address = parent_address,
		.prot = prot,
	};

	return shim_pt_map(pt, &map, 1, NULL);
}

static inline int fixture_unmap(struct shim_pt *pt, uint64_t iova, uint64_t length)
{
	struct shim_unmap unmap = {iova, length};
	size_t done = 77;
	int r = shim_pt_unmap(pt, &unmap, 1, &done);

	assert_int_equal(done, r ? 0 : 1);
	return r;
}

static inline void fixture_attach(struct shim_dev *dev, uint32_t pasid, struct shim_pt *pt)
{
	char reason[SHIM_REASON_MAX] = "";
	int r = shim_attach(dev, pasid, pt, reason);

	if (r)
		fail_msg("%d: %s", r, reason);
}

/* Bytes moved; *ret_fault says why not all. */
static inline size_t fixture_dma(struct shim_dev *dev, uint32_t pasid, uint32_t access,
				 uint64_t iova, void *buf, size_t len, struct shim_fault *ret_fault)
{
	size_t done = SIZE_MAX;

	assert_int_equal(shim_dma(dev, pasid, access, iova, buf, len, &done, ret_fault), 0);
	assert_true(done <= len);
	assert_true((done == len) == (ret_fault->cause == SHIM_FAULT_NONE));
	return done;
}

static inline void fixture_expect_byte(struct shim_dev *dev, uint64_t iova, uint8_t expected)
{
	struct shim_fault fault;
	uint8_t byte = (uint8_t)~expected;

	assert_int_equal(fixture_dma(dev, SHIM_NO_PASID, SHIM_READ, iova, &byte, 1, &fault), 1);
	assert_int_equal(byte, expected);
}

static inline void fixture_expect_fault(struct shim_dev *dev, uint32_t access, uint64_t iova,
					enum shim_fault_cause cause)
{
	struct shim_fault fault;
	uint8_t byte = 0;

	assert_int_equal(fixture_dma(dev, SHIM_NO_PASID, access, iova, &byte, 1, &fault), 0);
	assert_int_equal(fault.cause, cause);
	assert_int_equal(fault.access, access);
}

#endif
