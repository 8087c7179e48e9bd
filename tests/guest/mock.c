/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mock SOCKET: the iommufd shim with a real keeper on a real kernel's mock devices, for what no
 * emulated IOMMU offers on x86: nested tables, PASIDs, page requests, dirty tracking.  Runs
 * without privilege.
 *
 * It speaks to the shim through shim.h alone, and asks the kernel's mock what arrived: what is
 * in the IOTLB of a nested table, which table a PASID is attached to.
 */
#include "mock.h"
#include "mock_uapi.h"
#include "report.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE  UINT64_C(4096)
#define PAGES 16u
#define SIZE  (PAGES * PAGE)
#define BASE  UINT64_C(0x2000000)
#define RW    (SHIM_READ | SHIM_WRITE)

static const char *socket_path;
static struct shim *shim;
static char reason[SHIM_REASON_MAX];

static void expect(int r, int expected, const char *name)
{
	char why[256];

	snprintf(why, sizeof(why), "%d, not %d (%s)", r, expected, reason);
	report(r == expected, name, why);
}

static void must(int r, const char *name)
{
	expect(r, 0, name);
	if (r)
		exit(1);
}

static void start(void)
{
	struct iommufd_options options = {.keeper_socket = socket_path};
	struct iommufd_problem problem = {{0}};
	int r = iommufd_shim_new(&options, &shim, &problem);

	report(!r, "the shim starts", problem.message);
	if (r)
		exit(1);
}

/* ---- a tenant ---- */

struct tenant {
	struct shim_ctx *ctx;
	struct shim_dev *devs[2];
	struct shim_mem *mem;
	struct shim_pt *parent;
	int memfd;
	unsigned char *bytes;
};

static struct shim_pt *table(struct tenant *t, bool faults, bool dirty)
{
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_KERNEL,
		.format = SHIM_FORMAT_KERNEL_CHOSEN,
		.faults = faults,
		.dirty_tracking = dirty,
	};
	struct shim_pt *pt;

	must(shim_pt_create(t->ctx, &spec, reason, &pt), "a table");
	return pt;
}

static struct shim_pt *child(struct tenant *t, const struct shim_table *bound, bool faults)
{
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_USER,
		.format = SHIM_FORMAT_X86_64_4L,
		.parent = t->parent,
		.table = bound,
		.faults = faults,
	};
	struct shim_pt *pt;

	must(shim_pt_create(t->ctx, &spec, reason, &pt), "a table of the tenant's");
	return pt;
}

static int map(struct tenant *t, struct shim_pt *pt, uint64_t iova, uint64_t offset,
	       uint64_t length, uint32_t prot)
{
	struct shim_map m = {
		.iova = iova, .length = length, .mem = t->mem, .offset = offset, .prot = prot};

	return shim_pt_map(pt, &m, 1, NULL);
}

/*
 * Each page alone: of a mapping the kernel makes leaves as large as the memory happens to be
 * contiguous, and such a leaf is dirty as a whole.
 */
static void each_page(struct tenant *t, uint64_t iova, unsigned int pages,
		      struct shim_map *ret_maps)
{
	for (unsigned int i = 0; i < pages; i++)
		ret_maps[i] = (struct shim_map){.iova = iova + i * PAGE,
						.length = PAGE,
						.mem = t->mem,
						.offset = i * PAGE,
						.prot = RW};
}

static int map_pages(struct tenant *t, struct shim_pt *pt, uint64_t iova, unsigned int pages)
{
	struct shim_map maps[PAGES];

	each_page(t, iova, pages, maps);
	return shim_pt_map(pt, maps, pages, NULL);
}

static void tenant_open(struct tenant *t, const char *a, const char *b)
{
	*t = (struct tenant){0};
	must(shim_ctx_new(shim, "tenant", reason, &t->ctx), "a context");
	must(shim_dev_bind_one(t->ctx, a, reason, &t->devs[0]), "a mock device");
	if (b)
		must(shim_dev_bind_one(t->ctx, b, reason, &t->devs[1]), "another");
	t->memfd = memfd_create("tenant", MFD_CLOEXEC);
	need(t->memfd < 0 || ftruncate(t->memfd, (off_t)SIZE) ? -errno : 0, "memory");
	t->bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, t->memfd, 0);
	need(t->bytes == MAP_FAILED ? -errno : 0, "see it");
	must(shim_mem_register(t->ctx, t->memfd, 0, SIZE, RW, &t->mem), "register it");
	t->parent = table(t, false, false);
	must(map(t, t->parent, BASE, 0, SIZE, RW), "map it");
}

static void tenant_close(struct tenant *t)
{
	shim_ctx_free(t->ctx);
	munmap(t->bytes, SIZE);
	close(t->memfd);
}

/* ---- DMA ---- */

/* The cause of the fault, or -1: the call failed, or moved less without a fault. */
static int dma(struct shim_dev *dev, uint32_t pasid, uint32_t access, uint64_t iova, void *buf,
	       size_t len)
{
	struct shim_fault fault;
	size_t done = 0;
	int r = shim_dma(dev, pasid, access, iova, buf, len, &done, &fault);

	if (r || (!fault.cause && done != len))
		return -1;
	return (int)fault.cause;
}

static void test_dma(struct tenant *a, struct tenant *b)
{
	unsigned char text[5000], back[5000];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)(i * 7 + 1);
	must(shim_attach(a->devs[0], SHIM_NO_PASID, a->parent, reason), "attach");
	expect(shim_attach(a->devs[0], SHIM_NO_PASID, a->parent, reason), SHIM_E_ATTACHED,
	       "attach twice");
	expect(dma(a->devs[0], SHIM_NO_PASID, SHIM_WRITE, BASE + 100, text, sizeof(text)), 0,
	       "a device writes");
	report(!memcmp(a->bytes + 100, text, sizeof(text)), "the bytes are in the memory", "not");
	expect(dma(a->devs[0], SHIM_NO_PASID, SHIM_READ, BASE + 100, back, sizeof(back)), 0,
	       "and reads");
	report(!memcmp(back, text, sizeof(text)), "the same bytes", "others");
	expect(dma(a->devs[0], SHIM_NO_PASID, SHIM_READ, BASE + SIZE, back, 8),
	       SHIM_FAULT_NOT_PRESENT, "behind the mapping");
	expect(dma(b->devs[0], SHIM_NO_PASID, SHIM_READ, BASE, back, 8), SHIM_FAULT_NOT_ATTACHED,
	       "one that is not attached");
	must(shim_attach(b->devs[0], SHIM_NO_PASID, b->parent, reason), "another tenant attaches");
	memset(back, 1, sizeof(back));
	expect(dma(b->devs[0], SHIM_NO_PASID, SHIM_READ, BASE + 100, back, 100), 0, "and reads");
	report(!memchr(back, 1, 100), "its own memory, at the same address", "the first one's");
	must(map(a, a->parent, BASE + 2 * SIZE, 0, PAGE, SHIM_READ), "map read-only");
	expect(dma(a->devs[0], SHIM_NO_PASID, SHIM_WRITE, BASE + 2 * SIZE, text, 8),
	       SHIM_FAULT_PERMISSION, "write there");
	must(shim_detach(a->devs[0], SHIM_NO_PASID), "detach");
	expect(dma(a->devs[0], SHIM_NO_PASID, SHIM_READ, BASE, back, 8), SHIM_FAULT_NOT_ATTACHED,
	       "detached");
	must(shim_detach(b->devs[0], SHIM_NO_PASID), "detach");
	expect(shim_detach(b->devs[0], SHIM_NO_PASID), SHIM_E_NOT_ATTACHED, "detach twice");
	expect(map(a, a->parent, 0x1000, 0, PAGE, RW), 0, "below the aperture, nothing attached");
	expect(shim_attach(a->devs[0], SHIM_NO_PASID, a->parent, reason), SHIM_E_INCOMPATIBLE,
	       "then the device cannot use it");
	must(shim_pt_unmap(a->parent, &(struct shim_unmap){0x1000, PAGE}, 1, &(size_t){0}),
	     "unmap that");
}

/* ---- nested tables ---- */

/* The HWPT that stands for what is attached. */
static uint32_t hwpt_of(const struct shim_dev *dev)
{
	const struct iommufd_hwpt *hwpt = ((const struct iommufd_dev *)dev)->plain.hwpt;

	return hwpt ? hwpt->id : 0;
}

static int iotlb(struct tenant *t, uint32_t hwpt, unsigned int entry, uint32_t expected)
{
	struct mock_cmd cmd = {.id = hwpt, .check_iotlb = {.entry = entry, .expected = expected}};

	return mock_call(iommufd_ctx_of(t->ctx), MOCK_OP_CHECK_IOTLB, &cmd);
}

static void expect_iotlb(struct tenant *t, uint32_t hwpt, const uint32_t *expected,
			 const char *name)
{
	int bad = -1;

	for (unsigned int i = 0; i < MOCK_IOTLB_ENTRIES; i++)
		if (iotlb(t, hwpt, i, expected[i]))
			bad = (int)i;
	expect(bad, -1, name);
}
#define IOTLB(...) ((const uint32_t[]){__VA_ARGS__})

static int invalidate(struct shim_pt *pt, const struct shim_invalidate *entries, size_t n,
		      size_t *ret_done)
{
	*ret_done = 77;
	return shim_pt_invalidate(pt, entries, n, ret_done);
}

static void test_nested(struct tenant *t)
{
	struct shim_table first = {.root = 0x1005000}, second = {.root = 0x1007000};
	struct shim_invalidate one = {.scope = SHIM_INVALIDATE_RANGE, .iova = 0x6000, .length = 16};
	struct shim_invalidate all = {.scope = SHIM_INVALIDATE_ALL}, bad[3] = {one, one, one};
	struct shim_pt *pt = child(t, &first, false), *empty;
	unsigned char byte;
	uint32_t hwpt, old;
	size_t done;

	bad[1].scope = SHIM_INVALIDATE_PASID_CACHE;
	must(shim_attach(t->devs[0], SHIM_NO_PASID, pt, reason), "attach to it");
	must(shim_attach(t->devs[1], SHIM_NO_PASID, pt, reason), "another, too");
	hwpt = hwpt_of(t->devs[0]);
	report(hwpt && hwpt == hwpt_of(t->devs[1]), "both share it", "not");
	expect_iotlb(t, hwpt, IOTLB(0x1005, 0x1005, 0x1005, 0x1005), "the root arrived");
	must(invalidate(pt, &one, 1, &done), "invalidate a page");
	expect((int)done, 1, "one was done");
	expect_iotlb(t, hwpt, IOTLB(0x1005, 0x1005, 0, 0x1005), "that one, and no other");
	bad[0].iova = 0x4000;
	expect(invalidate(pt, bad, 3, &done), SHIM_E_UNSUPPORTED, "a command that is none");
	expect((int)done, 1, "what was before it is done");
	expect_iotlb(t, hwpt, IOTLB(0, 0x1005, 0, 0x1005), "and nothing after it");
	must(invalidate(pt, &all, 1, &done), "invalidate all");
	expect_iotlb(t, hwpt, IOTLB(0, 0, 0, 0), "nothing is left");
	expect(shim_pt_invalidate_native(pt, SHIM_NATIVE_VTD_S1, &all, 1, &done),
	       SHIM_E_UNSUPPORTED, "another hardware's commands");
	/* Through a table of its own nothing is simulated. */
	expect(dma(t->devs[0], SHIM_NO_PASID, SHIM_READ, BASE, &byte, 1), -1, "no DMA by it");

	old = hwpt;
	must(shim_pt_bind_table(pt, &second, reason), "bind another table");
	hwpt = hwpt_of(t->devs[0]);
	report(hwpt && hwpt == hwpt_of(t->devs[1]), "both moved", "not");
	expect_iotlb(t, hwpt, IOTLB(0x1007, 0x1007, 0x1007, 0x1007), "to the new root");
	report(hwpt == old || iotlb(t, old, 0, 0) == -ENOENT, "the old one is gone", "not");
	expect(shim_pt_bind_table(pt, &(struct shim_table){.root = 0x1008010}, reason),
	       SHIM_E_RANGE, "a root in the middle of a page");
	expect(shim_pt_bind_table(pt, &(struct shim_table){.root = UINT64_C(1) << 40}, reason),
	       SHIM_E_RANGE, "a root outside of the parent");
	expect(shim_pt_bind_table(pt, &(struct shim_table){.root = 0x1009000, .flags = 1}, reason),
	       SHIM_E_UNSUPPORTED, "a flag that the hardware has not");
	expect_iotlb(t, hwpt_of(t->devs[0]), IOTLB(0x1007, 0x1007, 0x1007, 0x1007),
		     "the table stands");
	must(shim_pt_bind_table(pt, NULL, reason), "unbind");
	report(iotlb(t, hwpt, 0, 0x1007) == -ENOENT, "its table is gone", "not");
	expect(dma(t->devs[0], SHIM_NO_PASID, SHIM_READ, BASE, &byte, 1), SHIM_FAULT_NOT_PRESENT,
	       "nothing is present");
	must(shim_pt_bind_table(pt, &first, reason), "bind again");
	expect_iotlb(t, hwpt_of(t->devs[1]), IOTLB(0x1005, 0x1005, 0x1005, 0x1005), "it arrived");
	empty = child(t, NULL, false);
	must(shim_replace(t->devs[1], SHIM_NO_PASID, empty, reason), "replace by an unbound one");
	expect_iotlb(t, hwpt_of(t->devs[0]), IOTLB(0x1005, 0x1005, 0x1005, 0x1005),
		     "the other one stays");
	must(shim_replace(t->devs[1], SHIM_NO_PASID, t->parent, reason), "replace by the parent");
	expect(dma(t->devs[1], SHIM_NO_PASID, SHIM_READ, BASE, &byte, 1), 0, "which it reaches");
	must(shim_detach(t->devs[0], SHIM_NO_PASID), "detach");
	must(shim_detach(t->devs[1], SHIM_NO_PASID), "detach");
	expect(map(t, pt, BASE, 0, PAGE, RW), SHIM_E_UNSUPPORTED, "map into a tenant's table");
	shim_pt_destroy(empty);
	shim_pt_destroy(pt);
}

/* ---- PASIDs ---- */

static int pasid_check(struct tenant *t, struct shim_dev *dev, uint32_t pasid, uint32_t hwpt)
{
	struct mock_cmd cmd = {.id = iommufd_dev_of(dev)->own[0],
			       .pasid = {.pasid = pasid, .pt = hwpt}};

	return mock_call(iommufd_ctx_of(t->ctx), MOCK_OP_PASID_CHECK, &cmd);
}

static uint32_t pasid_hwpt(struct shim_dev *base, uint32_t pasid)
{
	struct iommufd_dev *dev = iommufd_dev_of(base);

	for (size_t i = 0; i < dev->n_pasids; i++)
		if (dev->pasids[i].pasid == pasid && dev->pasids[i].hwpt)
			return dev->pasids[i].hwpt->id;
	return 0;
}

static void test_pasids(struct tenant *t)
{
	struct shim_table root = {.root = 0x100a000};
	struct shim_pt *other = table(t, false, false), *nested = child(t, &root, false);
	unsigned char byte = 1;

	must(map(t, other, BASE, PAGE, PAGE, RW), "another view of the memory");
	t->bytes[0] = 11;
	t->bytes[PAGE] = 22;
	must(shim_attach(t->devs[0], 5, t->parent, reason), "attach by PASID 5");
	must(shim_attach(t->devs[0], 6, other, reason), "attach by PASID 6");
	must(shim_attach(t->devs[0], 7, nested, reason), "attach PASID 7 to a tenant's table");
	expect(shim_attach(t->devs[0], 5, other, reason), SHIM_E_ATTACHED, "PASID 5 twice");
	expect(shim_attach(t->devs[0], 1u << 20, other, reason), SHIM_E_INCOMPATIBLE,
	       "a PASID of 21 bits");
	expect(shim_attach(t->devs[0], 0, other, reason), SHIM_E_INCOMPATIBLE, "PASID 0");
	expect(pasid_check(t, t->devs[0], 5, pasid_hwpt(t->devs[0], 5)), 0, "PASID 5 is there");
	expect(pasid_check(t, t->devs[0], 7, pasid_hwpt(t->devs[0], 7)), 0, "PASID 7 is there");
	expect_iotlb(t, pasid_hwpt(t->devs[0], 7), IOTLB(0x100a, 0x100a, 0x100a, 0x100a),
		     "by its root");
	expect(dma(t->devs[0], 5, SHIM_READ, BASE, &byte, 1) || byte != 11, 0, "DMA by PASID 5");
	expect(dma(t->devs[0], 6, SHIM_READ, BASE, &byte, 1) || byte != 22, 0, "DMA by PASID 6");
	expect(dma(t->devs[0], SHIM_NO_PASID, SHIM_READ, BASE, &byte, 1), SHIM_FAULT_NOT_ATTACHED,
	       "none without");
	must(shim_attach(t->devs[0], SHIM_NO_PASID, other, reason), "attach without, beside them");
	must(shim_replace(t->devs[0], 5, other, reason), "replace PASID 5");
	expect(pasid_check(t, t->devs[0], 5, pasid_hwpt(t->devs[0], 5)), 0, "it is there");
	expect(dma(t->devs[0], 5, SHIM_READ, BASE, &byte, 1) || byte != 22, 0, "by the other");
	must(shim_detach(t->devs[0], 6), "detach PASID 6");
	expect(shim_detach(t->devs[0], 6), SHIM_E_NOT_ATTACHED, "twice");
	expect(pasid_check(t, t->devs[0], 6, 0), 0, "nothing is attached by it");
	expect(dma(t->devs[0], 6, SHIM_READ, BASE, &byte, 1), SHIM_FAULT_NOT_ATTACHED, "no DMA");
	must(shim_detach(t->devs[0], 5), "detach PASID 5");
	must(shim_detach(t->devs[0], 7), "detach PASID 7");
	must(shim_detach(t->devs[0], SHIM_NO_PASID), "detach");
	shim_pt_destroy(nested);
	shim_pt_destroy(other);
}

/* ---- page requests ---- */

static int request(struct tenant *t, struct shim_dev *dev, uint32_t pasid, uint32_t group,
		   uint64_t address)
{
	struct mock_cmd cmd = {
		.page_request = {.bound = iommufd_dev_of(dev)->id,
				 .pasid = pasid,
				 .group = group,
				 .perm = IOMMU_PGFAULT_PERM_READ | IOMMU_PGFAULT_PERM_WRITE,
				 .address = address}};

	return mock_call(iommufd_ctx_of(t->ctx), MOCK_OP_PAGE_REQUEST, &cmd);
}

static bool readable(struct tenant *t)
{
	struct pollfd p = {.fd = shim_ctx_report_fd(t->ctx), .events = POLLIN};

	return p.fd >= 0 && poll(&p, 1, 2000) == 1 && p.revents & POLLIN;
}

static void test_faults(struct tenant *a, struct tenant *b)
{
	struct shim_table root = {.root = 0x100c000};
	struct shim_pt *of_a, *of_b, *nested;
	struct shim_report reports[8];
	uint64_t cookie;
	size_t n = 77;

	expect(shim_ctx_report_fd(a->ctx), -1, "no queue before it is asked for");
	of_a = table(a, true, false);
	of_b = table(b, true, false);
	nested = child(a, &root, true);
	must(shim_attach(a->devs[0], SHIM_NO_PASID, of_a, reason), "attach with page requests");
	must(shim_attach(a->devs[1], SHIM_NO_PASID, nested, reason), "and to a tenant's table");
	must(shim_attach(a->devs[0], 9, of_a, reason), "and by PASID");
	must(shim_attach(b->devs[0], SHIM_NO_PASID, of_b, reason), "another tenant, too");
	must(shim_ctx_read_reports(a->ctx, reports, 8, &n), "read");
	expect((int)n, 0, "nothing yet");
	need(request(a, a->devs[0], 0, 31, BASE), "a device asks for a page");
	need(request(a, a->devs[1], 0, 32, BASE + PAGE), "another one");
	need(request(a, a->devs[0], 9, 33, BASE + 2 * PAGE), "one by PASID");
	need(request(b, b->devs[0], 0, 31, BASE + 3 * PAGE), "another tenant's");
	report(readable(a), "the descriptor says so", "not");
	must(shim_ctx_read_reports(a->ctx, reports, 8, &n), "read");
	expect((int)n, 3, "three, and not the other tenant's");
	if (n != 3)
		exit(1);
	report(reports[0].dev == a->devs[0] && reports[0].pasid == SHIM_NO_PASID &&
		       reports[0].group == 31 && reports[0].fault.address == BASE &&
		       reports[0].fault.access == RW && reports[0].last && reports[0].cookie,
	       "the first device's", "another");
	report(reports[1].dev == a->devs[1] && reports[1].group == 32 &&
		       reports[1].fault.address == BASE + PAGE,
	       "the second device's", "another");
	report(reports[2].dev == a->devs[0] && reports[2].pasid == 9 && reports[2].group == 33,
	       "the PASID's", "another");
	expect(shim_ctx_answer(b->ctx, reports[2].cookie + 1, true), -ENOENT,
	       "another tenant does not answer it");
	expect(shim_ctx_answer(a->ctx, reports[0].cookie, true), 0, "answer the first");
	expect(shim_ctx_answer(a->ctx, reports[0].cookie, true), -ENOENT, "twice");
	expect(shim_ctx_answer(a->ctx, reports[1].cookie, false), 0, "refuse the second");
	cookie = reports[2].cookie;
	must(shim_detach(a->devs[0], 9), "detach with one unanswered");
	expect(shim_ctx_answer(a->ctx, cookie, true), -ENOENT, "the kernel has answered it");
	must(shim_ctx_read_reports(b->ctx, reports, 1, &n), "the other tenant reads");
	report(n == 1 && reports[0].dev == b->devs[0] &&
		       reports[0].fault.address == BASE + 3 * PAGE,
	       "its own", "another");
	expect(shim_ctx_answer(b->ctx, reports[0].cookie, true), 0, "and answers");
	must(shim_detach(a->devs[0], SHIM_NO_PASID), "detach");
	must(shim_detach(a->devs[1], SHIM_NO_PASID), "detach");
	must(shim_detach(b->devs[0], SHIM_NO_PASID), "detach");
	shim_pt_destroy(of_a);
	shim_pt_destroy(of_b);
	shim_pt_destroy(nested);
}

/* ---- dirty tracking ---- */

static uint32_t dirty_of(struct shim_pt *pt, uint64_t iova, unsigned int pages, bool clear)
{
	uint8_t bitmap[4] = {0};

	must(shim_pt_read_dirty(pt, iova, pages * PAGE, 12, clear, bitmap), "read what is dirty");
	return bitmap[0] | (uint32_t)bitmap[1] << 8 | (uint32_t)bitmap[2] << 16;
}

static void expect_dirty(struct shim_pt *pt, bool clear, uint32_t expected, const char *name)
{
	expect((int)dirty_of(pt, BASE, 20, clear), (int)expected, name);
}

static void test_dirty(struct tenant *t)
{
	struct shim_pt *pt = table(t, false, true), *plain = table(t, false, false);
	uint8_t bitmap = 0;
	char byte = 3;

	must(map_pages(t, pt, BASE, 4), "map four pages");
	must(map_pages(t, pt, BASE + 8 * PAGE, 4), "and four behind a hole");
	must(shim_attach(t->devs[0], SHIM_NO_PASID, pt, reason), "attach");
	expect(shim_pt_read_dirty(pt, BASE, PAGE, 12, true, &bitmap), SHIM_E_UNSUPPORTED,
	       "it is not tracked");
	expect(shim_pt_track_dirty(plain, true, false), SHIM_E_UNSUPPORTED,
	       "a table that was made without");
	must(shim_pt_track_dirty(pt, true, false), "track");
	expect_dirty(pt, true, 0, "everything is clean");
	dma(t->devs[0], SHIM_NO_PASID, SHIM_READ, BASE + PAGE, &byte, 1);
	expect_dirty(pt, true, 0, "after a read, too");
	dma(t->devs[0], SHIM_NO_PASID, SHIM_WRITE, BASE + 2 * PAGE + 5, &byte, 1);
	dma(t->devs[0], SHIM_NO_PASID, SHIM_WRITE, BASE + 10 * PAGE + 3000, &byte, 1);
	expect_dirty(pt, false, 0x404, "written pages are dirty");
	expect_dirty(pt, true, 0x404, "still: it was not cleared");
	expect_dirty(pt, true, 0, "cleared");
	must(shim_attach(t->devs[1], 5, pt, reason), "a device comes while it is tracked");
	dma(t->devs[1], 5, SHIM_WRITE, BASE, &byte, 1);
	expect_dirty(pt, true, 0x1, "its writes count");
	must(shim_pt_track_dirty(pt, true, true), "what was written is not known");
	expect_dirty(pt, false, 0xf0f, "everything mapped is dirty");
	expect((int)dirty_of(pt, BASE + PAGE, 8, true), 0x87, "cleared in part");
	expect_dirty(pt, true, 0xe01, "the rest is dirty still");
	expect_dirty(pt, true, 0, "once");
	must(shim_pt_track_dirty(pt, false, false), "track no more");
	expect(shim_pt_read_dirty(pt, BASE, PAGE, 12, true, &bitmap), SHIM_E_UNSUPPORTED, "over");
	must(shim_detach(t->devs[0], SHIM_NO_PASID), "detach");
	must(shim_detach(t->devs[1], 5), "detach");
	shim_pt_destroy(pt);
	shim_pt_destroy(plain);
}

/* ---- restart ---- */

struct kept {
	struct shim_saved ctx, devs[2], parent, nested, asking, tracked;
	struct shim_saved plain, pasid, page;
};

static void keep(struct tenant *t, struct shim_pt *nested, struct shim_pt *asking,
		 struct shim_pt *tracked, struct kept *ret)
{
	shim_ctx_save(t->ctx, &ret->ctx);
	for (int i = 0; i < 2; i++)
		shim_dev_save(t->devs[i], &ret->devs[i]);
	shim_pt_save(t->parent, &ret->parent);
	shim_pt_save(nested, &ret->nested);
	shim_pt_save(asking, &ret->asking);
	shim_pt_save(tracked, &ret->tracked);
	shim_attach_save(t->devs[0], SHIM_NO_PASID, &ret->plain);
	shim_attach_save(t->devs[0], 3, &ret->pasid);
	shim_attach_save(t->devs[1], SHIM_NO_PASID, &ret->page);
}

static void again(struct tenant *t, const struct kept *kept, struct shim_pt **nested,
		  struct shim_pt **asking, struct shim_pt **tracked)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	struct shim_map pages[PAGES], whole = {.iova = BASE, .length = SIZE, .prot = RW};

	must(shim_ctx_restore(shim, "tenant", &kept->ctx, &t->ctx), "restore the context");
	must(shim_dev_restore(t->ctx, "0000:f0:00.0", &kept->devs[0], &t->devs[0]), "a device");
	must(shim_dev_restore(t->ctx, "0000:f0:02.0", &kept->devs[1], &t->devs[1]), "another");
	must(shim_mem_register(t->ctx, t->memfd, 0, SIZE, RW, &t->mem), "memory");
	whole.mem = t->mem;
	must(shim_pt_restore(t->ctx, &spec, &kept->parent, &t->parent), "the parent");
	must(shim_pt_restore_map(t->parent, &whole, 1), "its mapping");
	spec.faults = true;
	must(shim_pt_restore(t->ctx, &spec, &kept->asking, asking), "one with page requests");
	spec.faults = false;
	spec.dirty_tracking = true;
	must(shim_pt_restore(t->ctx, &spec, &kept->tracked, tracked), "one that is tracked");
	each_page(t, BASE, PAGES, pages);
	must(shim_pt_restore_map(*tracked, pages, PAGES), "its mappings");
	spec = (struct shim_pt_spec){
		.kind = SHIM_KIND_USER, .format = SHIM_FORMAT_X86_64_4L, .parent = t->parent};
	must(shim_pt_restore(t->ctx, &spec, &kept->nested, nested), "the tenant's table");
	must(shim_attach_restore(t->devs[0], SHIM_NO_PASID, *nested, &kept->plain), "attached");
	must(shim_attach_restore(t->devs[0], 3, *tracked, &kept->pasid), "by PASID");
	must(shim_attach_restore(t->devs[1], SHIM_NO_PASID, *asking, &kept->page), "the other");
}

/* bind_unsaved: a table is bound, and what is attached not saved again. */
static void test_restart(bool bind_unsaved)
{
	struct shim_table root = {.root = 0x100e000}, next = {.root = 0x100f000};
	struct shim_pt *nested, *asking, *tracked;
	struct shim_invalidate one = {.scope = SHIM_INVALIDATE_RANGE, .length = 1};
	struct shim_report reports[2];
	char byte = 5;
	struct kept kept;
	struct tenant t;
	size_t n, strays = 77;

	tenant_open(&t, "0000:f0:00.0", "0000:f0:02.0");
	nested = child(&t, &root, false);
	asking = table(&t, true, false);
	tracked = table(&t, false, true);
	must(map_pages(&t, tracked, BASE, PAGES), "map");
	must(shim_attach(t.devs[0], SHIM_NO_PASID, nested, reason), "attach");
	must(shim_attach(t.devs[0], 3, tracked, reason), "attach by PASID");
	must(shim_attach(t.devs[1], SHIM_NO_PASID, asking, reason), "attach the other");
	must(shim_pt_track_dirty(tracked, true, false), "track");
	dma(t.devs[0], 3, SHIM_WRITE, BASE + PAGE, &byte, 1);
	must(shim_pt_invalidate(nested, &one, 1, &n), "invalidate");
	need(request(&t, t.devs[1], 0, 8, BASE), "a page request that nobody answers");
	keep(&t, nested, asking, tracked, &kept);
	if (bind_unsaved) {
		must(shim_pt_bind_table(nested, &next, reason), "bind another");
		shim_pt_save(nested, &kept.nested);
	}
	shim_ctx_leave(t.ctx);
	shim_free(shim);
	start();
	again(&t, &kept, &nested, &asking, &tracked);
	must(shim_ctx_restored(t.ctx, &strays), "restored");
	printf("strays %zu\n", strays);
	if (bind_unsaved) {
		expect_iotlb(&t, hwpt_of(t.devs[0]), IOTLB(0x100f, 0x100f, 0x100f, 0x100f),
			     "the device is at the table that was bound last");
	} else {
		expect_iotlb(&t, hwpt_of(t.devs[0]), IOTLB(0, 0x100e, 0x100e, 0x100e),
			     "the tenant's table noticed nothing");
	}
	expect(pasid_check(&t, t.devs[0], 3, pasid_hwpt(t.devs[0], 3)), 0, "the PASID is there");
	expect_dirty(tracked, true, 0x2, "what was dirty is dirty");
	dma(t.devs[0], 3, SHIM_WRITE, BASE + 2 * PAGE, &byte, 1);
	expect_dirty(tracked, true, 0x4, "and tracking goes on");
	need(request(&t, t.devs[1], 0, 9, BASE + PAGE), "a page request");
	report(readable(&t), "there is a queue again", "not");
	must(shim_ctx_read_reports(t.ctx, reports, 2, &n), "read");
	report(n == 1 && reports[0].dev == t.devs[1] && reports[0].group == 9,
	       "the new request, and not the old one", "another");
	expect(shim_ctx_answer(t.ctx, reports[0].cookie, true), 0, "answer it");
	must(shim_replace(t.devs[0], SHIM_NO_PASID, t.parent, reason), "work goes on");
	must(shim_detach(t.devs[0], SHIM_NO_PASID), "detach");
	tenant_close(&t);
}

/* A context that no registry knows, with devices attached by PASID: the kernel warns of a device
 * that ends before they are detached. */
static void test_sweep(void)
{
	struct shim_table root = {.root = 0x1010000};
	struct shim_pt *nested;
	struct tenant t;
	size_t ended = 77;

	tenant_open(&t, "0000:f0:00.0", "0000:f0:02.0");
	nested = child(&t, &root, false);
	must(shim_attach(t.devs[0], SHIM_NO_PASID, nested, reason), "attach");
	must(shim_attach(t.devs[0], 3, t.parent, reason), "attach by PASID");
	must(shim_attach(t.devs[0], 700, nested, reason), "attach by another");
	must(shim_attach(t.devs[1], 3, t.parent, reason), "attach the other by PASID");
	shim_ctx_leave(t.ctx);
	shim_free(shim);
	start();
	must(shim_sweep(shim, NULL, 0, &ended), "end what nobody knows");
	expect((int)ended, 1, "one context");
	tenant_open(&t, "0000:f0:00.0", "0000:f0:02.0");
	must(shim_attach(t.devs[0], 3, t.parent, reason),
	     "its devices are free, and so is the PASID");
	tenant_close(&t);
}

int main(int argc, char **argv)
{
	struct tenant a, b;

	if (argc != 2) {
		fprintf(stderr, "usage: mock SOCKET\n");
		return 2;
	}
	socket_path = argv[1];
	report(access("/dev/iommu", R_OK | W_OK) != 0, "without privilege", "with");
	start();
	expect((int)shim_device_count(shim), (int)MOCK_DEVICES, "mock devices");
	tenant_open(&a, "0000:f0:00.0", "0000:f0:02.0");
	tenant_open(&b, "0000:f0:01.0", NULL);
	expect(shim_dev_bind_one(b.ctx, "0000:f0:00.0", reason, &b.devs[1]), SHIM_E_DEVICE_BUSY,
	       "another's device");
	test_dma(&a, &b);
	test_nested(&a);
	test_pasids(&a);
	test_faults(&a, &b);
	test_dirty(&a);
	tenant_close(&a);
	expect(shim_dev_is_free(shim, "0000:f0:00.0"), 0, "given back");
	tenant_close(&b);
	test_restart(false);
	test_restart(true);
	test_sweep();
	shim_free(shim);
	return report_failed;
}
