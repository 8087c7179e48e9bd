/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A tenant's memory, with any bytes as tables, PASID tables and data: devices go through up
 * to three tables of tenants above one of the shim's, while caches, dirty bits and bindings
 * are worked on as the input says.  Nothing outside of what the parent maps is ever read or
 * written, no answer contradicts itself, and a walk ends within its bound.
 *
 * The input is a header, operations, and the memory's first bytes.  Half of the memory is in
 * the parent, of that a quarter to read only.
 */

#include "soft/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DEV	"0000:01:00.0"
#define BASE	0x40000000ull
#define PAGES	32u
#define MEMORY	(PAGES * SOFT_PAGE_SIZE)
#define MAPPED	(PAGES / 2 * SOFT_PAGE_SIZE)
#define TO_READ (PAGES / 8 * SOFT_PAGE_SIZE) /* the end of it */
#define OUTSIDE 0x5e
#define OPS_MAX 16

/* Of each table: its format, flags, where it begins and whether that is a PASID table. */
struct header {
	uint8_t n_tables;
	struct {
		uint8_t format, flags, root, pasid_bits;
	} table[SOFT_STAGES_MAX - 1];
	uint8_t tracked; /* bits: which tables keep dirty bits */
	uint8_t n_ops;
} __attribute__((packed));

struct op {
	uint8_t what, length;
	uint32_t pasid;
	uint64_t iova;
} __attribute__((packed));

static struct {
	struct shim *shim;
	struct shim_ctx *ctx;
	struct shim_dev *dev;
	struct shim_mem *mem;
	struct shim_pt *parent;
	uint8_t *bytes;
} host;

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void open_host(void)
{
	struct soft_options options = {.physical_bytes = 1ull << 32};
	int fd = memfd_create("tenant", MFD_CLOEXEC);
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_VTDSS_4L};
	struct shim_map maps[2];

	must(fd >= 0 && !ftruncate(fd, MEMORY));
	host.bytes = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(host.bytes != MAP_FAILED);
	must(!soft_shim_new(NULL, &options, &host.shim, NULL));
	must(!shim_ctx_new(host.shim, "fuzz", NULL, &host.ctx));
	must(!shim_dev_bind_one(host.ctx, DEV, NULL, &host.dev));
	must(!shim_mem_register(host.ctx, fd, 0, MEMORY, SHIM_READ | SHIM_WRITE, &host.mem));
	spec.devices = &host.dev;
	spec.n_devices = 1;
	spec.dirty_tracking = true;
	must(!shim_pt_create(host.ctx, &spec, NULL, &host.parent));
	maps[0] = (struct shim_map){
		.iova = BASE,
		.length = MAPPED - TO_READ,
		.mem = host.mem,
		.prot = SHIM_READ | SHIM_WRITE,
	};
	maps[1] = (struct shim_map){
		.iova = BASE + MAPPED - TO_READ,
		.length = TO_READ,
		.mem = host.mem,
		.offset = MAPPED - TO_READ,
		.prot = SHIM_READ,
	};
	must(!shim_pt_map(host.parent, maps, 2, NULL));
	must(!shim_pt_track_dirty(host.parent, true, false));
	close(fd);
}

static void bind(struct shim_pt *pt, uint8_t root, uint8_t flags, uint8_t pasid_bits)
{
	uint64_t at = BASE + root * SOFT_PAGE_SIZE;

	if (pasid_bits)
		(void)shim_pt_bind_pasid_table(pt,
					       &(struct shim_pasid_table){
						       .format = SHIM_PASID_VTD,
						       .root = at,
						       .pasid_bits = pasid_bits,
					       },
					       NULL);
	else
		(void)shim_pt_bind_table(pt, &(struct shim_table){.root = at, .flags = flags},
					 NULL);
}

/* The loads and exchanges of one walk, through the shim's own accessors. */
static struct soft_stage real[SOFT_STAGES_MAX];
static uint64_t accesses;

/* The user stages' accessors are one, the parent's is soft_window_load(). */
static int count_load(const void *memory, uint64_t address, uint64_t *ret_entry)
{
	accesses++;
	return real[0].load(memory, address, ret_entry);
}

static int count_update(const void *memory, uint64_t address, uint64_t *expected, uint64_t wanted)
{
	accesses++;
	return real[0].update(memory, address, expected, wanted);
}

static int count_kernel_load(const void *memory, uint64_t address, uint64_t *ret_entry)
{
	accesses++;
	return soft_window_load(memory, address, ret_entry);
}

static int count_kernel_update(const void *memory, uint64_t address, uint64_t *expected,
			       uint64_t wanted)
{
	accesses++;
	return soft_window_update(memory, address, expected, wanted);
}

static void walk(struct shim_pt *base, uint64_t iova, uint32_t access)
{
	struct soft_pt *pt = soft_pt_of(base);
	uint64_t start = soft_mem_of(host.mem)->piece.start;
	struct soft_stage stages[SOFT_STAGES_MAX];
	struct soft_translation where;
	struct shim_fault fault;
	unsigned int n;

	n = soft_pt_stages(pt, soft_dev_of(host.dev)->slot->iommu, SOFT_WHO_NOBODY, real);
	memcpy(stages, real, sizeof(stages));
	for (unsigned int i = 0; i < n; i++) {
		stages[i].structures = NULL;
		stages[i].load = i + 1 < n ? count_load : count_kernel_load;
		stages[i].update = i + 1 < n ? count_update : count_kernel_update;
	}
	accesses = 0;
	if (soft_walk(stages, n, iova, access | SOFT_USER, NULL, &where, &fault)) {
		must(where.output >= start);
		must(where.output - start < (access == SHIM_WRITE ? MAPPED - TO_READ : MAPPED));
		must(!(access & ~where.prot) && !(where.cached & ~where.prot));
	} else {
		must(fault.cause > SHIM_FAULT_NONE && fault.cause <= SHIM_FAULT_PARENT_PERMISSION);
		must(fault.stage >= 1 && fault.stage <= n && fault.access == access);
	}
	must(accesses <= soft_walk_bound(stages, n));
}

static void dma(const struct op *op, uint32_t pasid, uint32_t access)
{
	static uint8_t buf[2 * 4096];
	size_t length = 1 + op->length * 32u, done = SIZE_MAX;
	struct shim_fault fault = {0};

	memset(buf, 0x11, sizeof(buf));
	must(!shim_dma(host.dev, pasid, access, op->iova, buf, length, &done, &fault));
	must(done <= length && (done == length) == (fault.cause == SHIM_FAULT_NONE));
	must(fault.cause <= SHIM_FAULT_PARENT_PERMISSION && !fault.recoverable);
	/* What lies outside is there in no other place, in no such length. */
	for (size_t i = 0, run = 0; access == SHIM_READ && i < done; i++) {
		run = buf[i] == OUTSIDE ? run + 1 : 0;
		must(run < 64);
	}
}

static void operate(struct shim_pt *const *pts, unsigned int n, const struct op *op)
{
	uint32_t pasid = op->pasid % 3 ? op->pasid >> 12 : SHIM_NO_PASID;
	struct shim_pt *pt = pts[op->length % n];
	struct shim_invalidate entry = {
		.scope = (enum shim_invalidate_scope)(op->pasid % 7),
		.iova = op->iova,
		.length = (uint64_t)op->length << 12,
		.leaf = op->pasid & 128,
		.pasid = pasid,
	};
	struct shim_walk trace;
	uint8_t bitmap[8] = {0};
	size_t done = 99;

	switch (op->what % 8) {
	case 0:
	case 1:
		dma(op, pasid, op->what & 1 ? SHIM_WRITE : SHIM_READ);
		break;
	case 2:
		walk(pts[n - 1], op->iova, op->what & 8 ? SHIM_WRITE : SHIM_READ);
		break;
	case 3:
		must(!shim_pt_walk(pt, op->iova, SHIM_WRITE, &trace));
		must(trace.n_levels <= SHIM_WALK_MAX);
		must(trace.fault.cause || (trace.mem == host.mem && trace.offset < MAPPED));
		break;
	case 4:
		(void)shim_pt_invalidate(pt, &entry, 1, &done);
		must(done <= 1);
		break;
	case 5:
		(void)shim_pt_invalidate_native(pt, SHIM_NATIVE_VTD_S1,
						&(uint64_t[3]){op->iova, op->pasid, op->length}, 1,
						&done);
		must(done <= 1);
		break;
	case 6:
		/* Switching it on by the call would look through millions of entries. */
		soft_pt_of(pt)->tracking = soft_pt_of(pt)->dirty_tracking;
		(void)shim_pt_read_dirty(pt, op->iova & ~0xfffull, 64 * SOFT_PAGE_SIZE, 12,
					 op->what & 8, bitmap);
		break;
	default:
		bind(pt, op->length, op->what >> 3 & 7, op->what & 64 ? op->pasid % 32 : 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct shim_pt *pts[SOFT_STAGES_MAX - 1];
	struct shim_pt *above;
	struct header h;
	struct op ops[OPS_MAX];
	unsigned int n, n_ops;

	if (!host.shim)
		open_host();
	if (size < sizeof(h))
		return 0;
	memcpy(&h, data, sizeof(h));
	data += sizeof(h);
	size -= sizeof(h);
	n = h.n_tables % (SOFT_STAGES_MAX - 1) + 1;
	n_ops = h.n_ops % (OPS_MAX + 1);
	if (size < n_ops * sizeof(ops[0]))
		return 0;
	memcpy(ops, data, n_ops * sizeof(ops[0]));
	data += n_ops * sizeof(ops[0]);
	size -= n_ops * sizeof(ops[0]);
	memset(host.bytes, 0, MAPPED);
	memset(host.bytes + MAPPED, OUTSIDE, MEMORY - MAPPED);
	memcpy(host.bytes, data, size < MAPPED ? size : MAPPED);
	/* No run of the mark may be in there beforehand. */
	for (size_t i = 0; i < MAPPED; i += 32)
		if (host.bytes[i] == OUTSIDE)
			host.bytes[i]++;
	above = host.parent;
	for (unsigned int i = 0; i < n; i++) {
		struct shim_pt_spec spec = {
			.kind = SHIM_KIND_USER,
			.format = soft_format_at(h.table[i].format % 4)->id,
			.parent = above,
			.dirty_tracking = h.tracked >> i & 1,
			.devices = &host.dev,
			.n_devices = 1,
		};

		must(!shim_pt_create(host.ctx, &spec, NULL, &pts[i]));
		bind(pts[i], h.table[i].root, h.table[i].flags & 7, h.table[i].pasid_bits % 32);
		above = pts[i];
	}
	must(!shim_attach(host.dev, SHIM_NO_PASID, pts[n - 1], NULL));
	must(!shim_attach(host.dev, 1, pts[0], NULL));
	for (unsigned int i = 0; i < n_ops; i++)
		operate(pts, n, &ops[i]);
	for (size_t i = MAPPED; i < MEMORY; i++)
		must(host.bytes[i] == OUTSIDE);
	/* What may only be read is as it was. */
	for (size_t i = MAPPED - TO_READ; i < MAPPED; i++)
		must(host.bytes[i] ==
		     (i < size ? data[i] == OUTSIDE && !(i % 32) ? OUTSIDE + 1 : data[i] : 0));
	must(!shim_detach(host.dev, SHIM_NO_PASID));
	must(!shim_detach(host.dev, 1));
	while (n--)
		shim_pt_destroy(pts[n]);
	return 0;
}
