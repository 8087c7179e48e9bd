/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_smmuv3 SOCKET EDU_A EDU_B: the iommufd shim with a real keeper behind an SMMUv3: tables
 * that tenants wrote, nested on what the kernel keeps, with true DMA. Runs without privilege, as
 * ioasidd does.
 *
 * A tenant is one context with one device and a memfd of PAGES pages, mapped at GPA in a table of
 * kind KERNEL. In it lie stage-1 tables and pages of data, each filled differently. What the
 * device reaches at an address is found out by letting it read there and write what it has read
 * to the page OUT: bytes are compared.
 */
#include "edu.h"
#include "report.h"
#include "smmuv3.h"

#include "iommufd/iommufd.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 32u
#define GPA   0x100000000ull
#define IOVA  0x40000000ull
#define LEN   64u
#define BITS  39
#define ASID  7 /* of a tenant's own descriptors */

enum {
	CD,
	L1,
	L2,
	L3,
	OTHER_L1,
	OTHER_L2,
	OTHER_L3,
	OUT,
	A,
	B,
	C,
	D,
	SPARE,
};

enum { AT_OUT, AT_X, AT_OUTSIDE, AT_RO, AT_MISSING, AT_PARENT_RO };

#define NOTHING (-1)
#define UNKNOWN (-2)

static struct shim *shim;
static char reason[SHIM_REASON_MAX];

struct tenant {
	const char *address;
	struct shim_ctx *ctx;
	struct shim_dev *dev;
	struct shim_mem *mem;
	struct shim_pt *parent, *user;
	int memfd, cdev;
	unsigned char *memory;
	struct edu edu;
};

static int plain(int r)
{
	if (r > 0)
		printf("SHIM_E %d: %s\n", r, reason);
	return r > 0 ? -EPROTO : r;
}

static void expect(int r, int expected, const char *name)
{
	char why[256];

	snprintf(why, sizeof(why), "%d, not %d (%s)", r, expected, reason);
	report(r == expected, name, why);
}

/* ---- a tenant's memory ---- */

static unsigned char *page(const struct tenant *t, unsigned int n)
{
	return t->memory + n * SMMU_PAGE;
}

static uint64_t *words(const struct tenant *t, unsigned int n)
{
	return (uint64_t *)(void *)page(t, n);
}

static uint64_t gpa(unsigned int n)
{
	return GPA + n * SMMU_PAGE;
}

static uint64_t iova(unsigned int entry)
{
	return IOVA + entry * SMMU_PAGE;
}

static void set(const struct tenant *t, unsigned int table, unsigned int entry, uint64_t value)
{
	__atomic_store_n(&words(t, table)[smmu_index(iova(entry), 3)], value, __ATOMIC_RELEASE);
}

static void tables(const struct tenant *t, unsigned int l1, unsigned int l2, unsigned int l3)
{
	words(t, l1)[smmu_index(IOVA, 1)] = smmu_table(gpa(l2));
	words(t, l2)[smmu_index(IOVA, 2)] = smmu_table(gpa(l3));
	set(t, l3, AT_OUT, smmu_leaf(gpa(OUT), SMMU_RW));
}

/* With attribute 1: what the shim's descriptors call write-back. */
static uint64_t leaf(unsigned int n, uint64_t prot)
{
	return smmu_leaf(gpa(n), prot) | 1u << 2;
}

static void tenant_memory(struct tenant *t, unsigned int seed)
{
	t->memfd = memfd_create("tenant", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	need(t->memfd < 0 || ftruncate(t->memfd, PAGES * SMMU_PAGE) ? -errno : 0, "make memory");
	t->memory = mmap(NULL, PAGES * SMMU_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, t->memfd, 0);
	need(t->memory == MAP_FAILED ? -errno : 0, "see it");
	for (unsigned int n = A; n <= D; n++)
		for (unsigned int i = 0; i < SMMU_PAGE; i++)
			page(t, n)[i] = (unsigned char)((i * 7 + (seed + n) * 31) | 1);
	tables(t, L1, L2, L3);
	tables(t, OTHER_L1, OTHER_L2, OTHER_L3);
	set(t, L3, AT_X, leaf(A, SMMU_RW));
	set(t, L3, AT_OUTSIDE, leaf(PAGES, SMMU_RW));
	set(t, L3, AT_RO, leaf(C, SMMU_RO));
	set(t, L3, AT_PARENT_RO, leaf(PAGES + 1, SMMU_RW));
	set(t, OTHER_L3, AT_X, leaf(D, SMMU_RW));
}

static void map_all(struct tenant *t)
{
	struct shim_map map = {
		.iova = GPA,
		.length = PAGES * SMMU_PAGE,
		.mem = t->mem,
		.prot = SHIM_READ | SHIM_WRITE,
	};

	need(plain(shim_pt_map(t->parent, &map, 1, NULL)), "map memory in the parent");
}

static int user_table(struct tenant *t, const struct shim_table *table, enum shim_format format,
		      struct shim_pt **ret_pt)
{
	struct shim_pt_spec spec = {
		.kind = SHIM_KIND_USER,
		.format = format,
		.input_bits = BITS,
		.parent = t->parent,
		.table = table,
		.devices = &t->dev,
		.n_devices = 1,
	};

	return shim_pt_create(t->ctx, &spec, reason, ret_pt);
}

static void tenant_open(struct tenant *t, const char *address, unsigned int seed)
{
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL,
				    .format = SHIM_FORMAT_KERNEL_CHOSEN,
				    .devices = &t->dev,
				    .n_devices = 1};
	struct shim_map map = {.iova = gpa(PAGES + 1),
			       .length = SMMU_PAGE,
			       .offset = SPARE * SMMU_PAGE,
			       .prot = SHIM_READ};

	memset(t, 0, sizeof(*t));
	t->address = address;
	tenant_memory(t, seed);
	need(plain(shim_ctx_new(shim, address, reason, &t->ctx)), "a context");
	need(plain(shim_dev_bind_one(t->ctx, address, reason, &t->dev)), "claim and bind");
	need(plain(shim_dev_fd(t->dev, &t->cdev)), "the device's descriptor");
	need(edu_open(t->cdev, &t->edu), "it is an edu");
	need(plain(shim_mem_register(t->ctx, t->memfd, 0, PAGES * SMMU_PAGE, SHIM_READ | SHIM_WRITE,
				     &t->mem)),
	     "register memory");
	need(plain(shim_pt_create(t->ctx, &spec, reason, &t->parent)), "the parent");
	map_all(t);
	map.mem = t->mem;
	need(plain(shim_pt_map(t->parent, &map, 1, NULL)), "and a page read-only");
}

static void tenant_close(struct tenant *t)
{
	shim_ctx_free(t->ctx);
	edu_close(&t->edu);
	close(t->cdev);
	expect(shim_dev_is_free(shim, t->address), 0, "its device is free");
	munmap(t->memory, PAGES * SMMU_PAGE);
	close(t->memfd);
}

/* ---- DMA ---- */

static void done(int ret)
{
	if (ret)
		need(ret, "the device is done");
}

static int reaches(struct tenant *t, unsigned int entry)
{
	static const unsigned char zeros[LEN];

	memset(page(t, OUT), 0xee, LEN);
	done(edu_to_device(&t->edu, iova(entry), LEN));
	done(edu_from_device(&t->edu, iova(AT_OUT), LEN));
	for (unsigned int n = A; n <= D; n++)
		if (!memcmp(page(t, OUT), page(t, n), LEN))
			return (int)n;
	return memcmp(page(t, OUT), zeros, LEN) ? UNKNOWN : NOTHING;
}

static void reach(struct tenant *t, unsigned int entry, int wanted, const char *name)
{
	int got = reaches(t, entry);
	char why[80];

	snprintf(why, sizeof(why), "got page %d, not %d", got, wanted);
	report(got == wanted, name, why);
}

/* The device writes what it reads at X. */
static void write_at(struct tenant *t, unsigned int entry)
{
	done(edu_to_device(&t->edu, iova(AT_X), LEN));
	done(edu_from_device(&t->edu, iova(entry), LEN));
}

static void move_x(struct tenant *t, unsigned int to)
{
	set(t, L3, AT_X, leaf(to, SMMU_RW));
}

static int invalidate(struct tenant *t, struct shim_invalidate entry)
{
	size_t n;

	return plain(shim_pt_invalidate(t->user, &entry, 1, &n));
}

static int bind_table(struct tenant *t, uint64_t root)
{
	struct shim_table table = {.root = root};

	return shim_pt_bind_table(t->user, &table, reason);
}

/* ---- reports ---- */

static size_t reports(struct tenant *t, struct shim_report *ret, size_t n)
{
	struct pollfd poll_fd = {.fd = shim_ctx_report_fd(t->ctx), .events = POLLIN};
	size_t taken = 0, more;

	need(poll_fd.fd < 0 ? -EBADF : 0, "the context has reports");
	while (taken < n && poll(&poll_fd, 1, 20) == 1) {
		need(plain(shim_ctx_read_reports(t->ctx, ret + taken, n - taken, &more)),
		     "read reports");
		taken += more;
		if (!more)
			break;
	}
	return taken;
}

static void no_reports(struct tenant *t)
{
	struct shim_report r[300];

	(void)reports(t, r, 300);
}

static void reported(struct tenant *t, enum shim_fault_cause cause, uint32_t access,
		     const char *name)
{
	struct shim_report r[300];
	size_t n = reports(t, r, 300);
	char why[160];

	snprintf(why, sizeof(why), "%zu reports, cause %d, access %u, stage %u, address %llx", n,
		 n ? (int)r[0].fault.cause : -1, n ? r[0].fault.access : 0,
		 n ? r[0].fault.stage : 0, n ? (unsigned long long)r[0].fault.address : 0);
	report(n && r[0].fault.cause == cause && r[0].dev == t->dev && !r[0].cookie &&
		       r[0].pasid == SHIM_NO_PASID &&
		       (!access || (r[0].fault.access == access && r[0].fault.stage == 1)),
	       name, why);
}

/* ---- the cases ---- */

static void inventory(const char *address)
{
	const struct shim_device_info *info = NULL;
	bool broker = false, s1 = false;

	printf("%s\n", iommufd_shim_describe(shim));
	for (size_t i = 0; i < shim_device_count(shim); i++)
		if (!strcmp(shim_device_info(shim, i)->address, address))
			info = shim_device_info(shim, i);
	need(info ? 0 : -ENODEV, "it is in the inventory");
	for (size_t i = 0; i < info->caps.n_reserved; i++) {
		printf("reserved %llx %llx %s\n", (unsigned long long)info->caps.reserved[i].start,
		       (unsigned long long)info->caps.reserved[i].last, info->caps.reserved[i].use);
		broker |= !strcmp(info->caps.reserved[i].use, "broker");
	}
	for (size_t i = 0; i < info->caps.n_formats; i++) {
		printf("format %d: %u -> %u bits, pages %llx\n", info->caps.formats[i].format,
		       info->caps.formats[i].input_bits, info->caps.formats[i].output_bits,
		       (unsigned long long)info->caps.formats[i].page_sizes);
		s1 |= info->caps.formats[i].format == SHIM_FORMAT_ARMV8_S1_4K &&
		      info->caps.formats[i].nest_child && info->caps.formats[i].output_bits == 44;
	}
	report(s1, "ARMv8 stage 1 with 4 KiB pages is offered", "it is not");
	report(!info->caps.kind_absent[SHIM_KIND_USER][0], "so is kind USER",
	       info->caps.kind_absent[SHIM_KIND_USER]);
	report(info->caps.max_depth == 2 && broker, "two levels, and the broker's addresses", "no");
	report(info->caps.pasid_tables == 1u << SHIM_PASID_SMMUV3_CD &&
		       info->caps.native_invalidations == 1u << SHIM_NATIVE_SMMUV3,
	       "tables of descriptors, native commands", "no");
	printf("PASIDs: %s\n", info->caps.feature_absent[SHIM_FEATURE_PASID]);
}

static void refusals(struct tenant *t)
{
	struct shim_pasid_table cds = {
		.format = SHIM_PASID_SMMUV3_CD, .root = gpa(CD), .pasid_bits = 4};
	struct shim_pt *pt = NULL;

	expect(user_table(t, &(struct shim_table){.root = gpa(L1) + 8}, SHIM_FORMAT_ARMV8_S1_4K,
			  &pt),
	       SHIM_E_RANGE, "a root that is not aligned");
	expect(user_table(t, &(struct shim_table){.root = 1ull << 44}, SHIM_FORMAT_ARMV8_S1_4K,
			  &pt),
	       SHIM_E_RANGE, "a root beyond the parent");
	expect(user_table(t, &(struct shim_table){.flags = SHIM_TABLE_WRITE_PROTECT},
			  SHIM_FORMAT_ARMV8_S1_4K, &pt),
	       SHIM_E_UNSUPPORTED, "a flag of VT-d's");
	expect(user_table(t, NULL, SHIM_FORMAT_X86_64_4L, &pt), SHIM_E_UNSUPPORTED,
	       "another format");
	expect(shim_pt_bind_pasid_table(t->user, &cds, reason), SHIM_E_INCOMPATIBLE,
	       "more PASIDs than the IOMMU has");
	printf("%s\n", reason);
	cds.format = SHIM_PASID_VTD;
	expect(shim_pt_bind_pasid_table(t->user, &cds, reason), SHIM_E_UNSUPPORTED,
	       "another's PASID table");
	expect(shim_attach(t->dev, 5, t->user, reason), SHIM_E_UNSUPPORTED, "a PASID");
}

static void both_stages(struct tenant *t)
{
	need(plain(user_table(t, NULL, SHIM_FORMAT_ARMV8_S1_4K, &t->user)), "a table of kind USER");
	need(plain(shim_attach(t->dev, SHIM_NO_PASID, t->user, reason)), "attach, nothing bound");
	reach(t, AT_X, UNKNOWN, "nothing bound: nothing is reached");
	refusals(t);
	no_reports(t);
	need(plain(bind_table(t, gpa(L1))), "bind a table");
	reach(t, AT_X, A, "a read goes through both stages");
	set(t, L3, AT_RO + 8, leaf(SPARE + 1, SMMU_RW));
	write_at(t, AT_RO + 8);
	report(!memcmp(page(t, SPARE + 1), page(t, A), LEN), "a write does, too", "bytes differ");
}

static void stale(struct tenant *t)
{
	struct shim_invalidate range = {
		.scope = SHIM_INVALIDATE_RANGE, .iova = iova(AT_X), .length = SMMU_PAGE};

	move_x(t, B);
	reach(t, AT_X, A, "a changed entry is stale");
	range.iova = iova(AT_RO);
	need(invalidate(t, range), "another page's range");
	reach(t, AT_X, A, "stale still");
	range.iova = iova(AT_X);
	range.leaf = true;
	need(invalidate(t, range), "its own range, leaf");
	reach(t, AT_X, B, "fresh");
	move_x(t, A);
	range.leaf = false;
	range.iova = IOVA;
	range.length = 64 * SMMU_PAGE;
	need(invalidate(t, range), "a range of 64 pages");
	reach(t, AT_X, A, "fresh");
	move_x(t, B);
	range.length = 512 * SMMU_PAGE;
	need(invalidate(t, range), "a range of 512 pages");
	reach(t, AT_X, B, "fresh");
	move_x(t, A);
	need(invalidate(t, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), "all");
	reach(t, AT_X, A, "fresh");
	range.iova = 1ull << BITS;
	expect(shim_pt_invalidate(t->user, &range, 1, &(size_t){0}), SHIM_E_RANGE,
	       "a range beyond the table");
}

static void native(struct tenant *t)
{
	struct smmu_command c[3] = {smmu_tlbi_all(), smmu_cfgi_ste(0), smmu_tlbi_all()};
	size_t n = 9;

	move_x(t, B);
	expect(shim_pt_invalidate_native(t->user, SHIM_NATIVE_SMMUV3, c, 3, &n), -EINVAL,
	       "CFGI_STE among native commands");
	report(n == 1, "one was done", "another number");
	reach(t, AT_X, B, "it made the entry fresh");
	move_x(t, A);
	c[0] = smmu_tlbi_va(ASID, iova(AT_X));
	expect(shim_pt_invalidate_native(t->user, SHIM_NATIVE_SMMUV3, c, 1, &n), 0,
	       "a command for an ASID that it has not");
	reach(t, AT_X, B, "leaves it stale");
	c[0] = smmu_tlbi_nsnh_all();
	expect(shim_pt_invalidate_native(t->user, SHIM_NATIVE_SMMUV3, c, 1, &n), 0, "NSNH_ALL");
	reach(t, AT_X, A, "does not");
	c[0] = smmu_cfgi_cd(0x7777);
	expect(shim_pt_invalidate_native(t->user, SHIM_NATIVE_SMMUV3, c, 1, &n), -EINVAL,
	       "an unknown stream");
	report(n == 0, "nothing was done", "another number");
	c[0] = (struct smmu_command){{0x40, 0}};
	expect(shim_pt_invalidate_native(t->user, SHIM_NATIVE_SMMUV3, c, 1, &n), -EINVAL,
	       "ATC_INV, without ATS");
}

static void replace(struct tenant *t)
{
	struct shim_pt *second = NULL;

	need(plain(bind_table(t, gpa(OTHER_L1))), "bind another table in its place");
	reach(t, AT_X, D, "it is the other one's");
	need(plain(shim_pt_bind_table(t->user, NULL, reason)), "unbind");
	reach(t, AT_X, UNKNOWN, "nothing is reached");
	no_reports(t);
	need(plain(bind_table(t, gpa(L1))), "bind the first again");
	reach(t, AT_X, A, "the first one's");
	need(plain(user_table(t, &(struct shim_table){.root = gpa(OTHER_L1)},
			      SHIM_FORMAT_ARMV8_S1_4K, &second)),
	     "a second one, with its table");
	need(plain(shim_replace(t->dev, SHIM_NO_PASID, second, reason)), "replace");
	reach(t, AT_X, D, "its table");
	/* What was cached of the first one went with its last device. */
	move_x(t, B);
	need(plain(shim_replace(t->dev, SHIM_NO_PASID, t->user, reason)), "and back");
	reach(t, AT_X, B, "nothing stale of before");
	move_x(t, A);
	need(invalidate(t, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), "all");
	need(plain(shim_replace(t->dev, SHIM_NO_PASID, t->parent, reason)), "to the parent itself");
	memset(page(t, OUT), 0, LEN);
	done(edu_to_device(&t->edu, gpa(A), LEN));
	done(edu_from_device(&t->edu, gpa(OUT), LEN));
	report(!memcmp(page(t, OUT), page(t, A), LEN), "its addresses are the device's",
	       "bytes differ");
	need(plain(shim_replace(t->dev, SHIM_NO_PASID, t->user, reason)), "and back");
	reach(t, AT_X, A, "through both stages");
	shim_pt_destroy(second);
}

static void faults(struct tenant *t)
{
	no_reports(t);
	reach(t, AT_MISSING, NOTHING, "an entry that is not there");
	reported(t, SHIM_FAULT_NOT_PRESENT, SHIM_READ, "is reported");
	write_at(t, AT_RO);
	report(memcmp(page(t, C), page(t, A), LEN), "a write through a read-only entry is blocked",
	       "memory has changed");
	reported(t, SHIM_FAULT_PERMISSION, SHIM_WRITE, "and reported");
	reach(t, AT_OUTSIDE, NOTHING, "what the parent has not is blocked");
	memset(page(t, SPARE), 0, LEN);
	write_at(t, AT_PARENT_RO);
	report(page(t, SPARE)[0] == 0, "a write where the parent is read-only is blocked",
	       "memory has changed");
	need(plain(bind_table(t, gpa(PAGES + 4))), "a table that the parent has not");
	reach(t, AT_X, UNKNOWN, "blocks everything");
	need(plain(bind_table(t, gpa(L1))), "back");
	reach(t, AT_X, A, "lets it through");
	no_reports(t);
	/* Four bytes an access: 640 events for a queue of 256. */
	for (int i = 0; i < 20; i++) {
		done(edu_to_device(&t->edu, iova(AT_MISSING), LEN));
		done(edu_to_device(&t->edu, iova(AT_MISSING), LEN));
	}
}

static void lost(struct tenant *t)
{
	struct shim_report r[700];
	size_t n = reports(t, r, 700);
	uint64_t missing = 0;
	char why[80];

	reach(t, AT_MISSING, NOTHING, "one more");
	n += reports(t, r + n, 700 - n);
	for (size_t i = 0; i < n; i++)
		missing += r[i].lost;
	snprintf(why, sizeof(why), "%zu reports, %llu lost", n, (unsigned long long)missing);
	printf("%s\n", why);
	report(n >= 256 && missing && (n + missing) % 16 == 0, "events that were lost are counted",
	       why);
}

static void parent_changes(struct tenant *t)
{
	struct shim_unmap unmap = {.iova = GPA, .length = PAGES * SMMU_PAGE};
	size_t n;

	need(plain(shim_pt_unmap(t->parent, &unmap, 1, &n)), "unmap in the parent");
	reach(t, AT_X, UNKNOWN, "blocks at once");
	map_all(t);
	reach(t, AT_X, A, "mapped again: lets it through");
	no_reports(t);
}

static void descriptors(struct tenant *t)
{
	struct shim_pasid_table cds = {.format = SHIM_PASID_SMMUV3_CD, .root = gpa(CD)};
	struct shim_invalidate cache = {.scope = SHIM_INVALIDATE_PASID_CACHE, .pasid = 0};

	smmu_cd(words(t, CD), gpa(L1), ASID);
	/* A descriptor of the tenant's has its own attributes: 0 is write-back there. */
	words(t, CD)[3] = 0xffff;
	need(plain(shim_pt_bind_pasid_table(t->user, &cds, reason)), "bind a table of descriptors");
	reach(t, AT_X, A, "a read goes through it");
	smmu_cd(words(t, CD), gpa(OTHER_L1), ASID + 1);
	words(t, CD)[3] = 0xffff;
	reach(t, AT_X, A, "a changed descriptor is stale");
	need(invalidate(t, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), "all");
	reach(t, AT_X, A, "stale still");
	need(invalidate(t, cache), "its descriptor");
	reach(t, AT_X, D, "fresh");
	words(t, CD)[0] &= ~(1ull << 31);
	cache.pasid = SHIM_NO_PASID;
	need(invalidate(t, cache), "a bad descriptor");
	no_reports(t);
	reach(t, AT_X, UNKNOWN, "blocks everything");
	reported(t, SHIM_FAULT_BAD_ENTRY, 0, "and is reported");
	cds.root = gpa(PAGES + 4);
	need(plain(shim_pt_bind_pasid_table(t->user, &cds, reason)),
	     "descriptors that the parent has not");
	reach(t, AT_X, UNKNOWN, "block everything");
	need(plain(bind_table(t, gpa(L1))), "a table in their place");
	reach(t, AT_X, A, "lets it through");
	no_reports(t);
}

/* Rewritten while the device moves: what it gets is one page or the other. */
static void rewritten(struct tenant *t)
{
	int torn = 0, got;

	for (int i = 0; i < 20; i++) {
		move_x(t, i % 2 ? A : B);
		if (i % 3 == 0)
			need(plain(bind_table(t, gpa(i % 2 ? L1 : OTHER_L1))), "bind");
		got = reaches(t, AT_X);
		torn += got != A && got != B && got != D;
	}
	report(!torn, "a table that changes gives the one or the other", "something else");
	move_x(t, A);
	need(plain(bind_table(t, gpa(L1))), "bind the first");
	reach(t, AT_X, A, "it is back");
}

static void apart(struct tenant *t, struct tenant *v)
{
	struct smmu_command c = smmu_tlbi_all();
	size_t n;

	need(plain(user_table(v, &(struct shim_table){.root = gpa(L1)}, SHIM_FORMAT_ARMV8_S1_4K,
			      &v->user)),
	     "the other tenant's table");
	need(plain(shim_attach(v->dev, SHIM_NO_PASID, v->user, reason)), "attached");
	reach(v, AT_X, A, "has its own page at the same address");
	report(memcmp(page(t, A), page(v, A), LEN), "which differs", "same bytes");
	move_x(t, B);
	need(invalidate(v, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), "its all");
	expect(shim_pt_invalidate_native(v->user, SHIM_NATIVE_SMMUV3, &c, 1, &n), 0, "its NH_ALL");
	reach(t, AT_X, A, "another's invalidations leave it stale");
	need(invalidate(t, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), "one's own");
	reach(t, AT_X, B, "fresh");
	no_reports(v);
	reach(t, AT_MISSING, NOTHING, "a fault");
	report(!reports(v, &(struct shim_report){0}, 1), "is not told to the other", "it is");
	reported(t, SHIM_FAULT_NOT_PRESENT, SHIM_READ, "but to the one");
	move_x(t, A);
	need(invalidate(t, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), "all");
}

/* ---- restart ---- */

static void restart(struct tenant *t, const struct iommufd_options *options)
{
	struct shim_saved ctx, dev, parent, user, attachment;
	struct iommufd_problem problem = {0};
	struct shim_pt_spec spec = {.kind = SHIM_KIND_KERNEL, .format = SHIM_FORMAT_KERNEL_CHOSEN};
	struct shim_map maps[2] = {
		{.iova = GPA, .length = PAGES * SMMU_PAGE, .prot = SHIM_READ | SHIM_WRITE},
		{.iova = gpa(PAGES + 1),
		 .length = SMMU_PAGE,
		 .offset = SPARE * SMMU_PAGE,
		 .prot = SHIM_READ}};
	size_t strays = 0, ended;

	shim_ctx_save(t->ctx, &ctx);
	shim_dev_save(t->dev, &dev);
	shim_pt_save(t->parent, &parent);
	shim_pt_save(t->user, &user);
	shim_attach_save(t->dev, SHIM_NO_PASID, &attachment);
	shim_ctx_leave(t->ctx);
	shim_free(shim);
	reach(t, AT_X, A, "the broker is gone: DMA goes on");
	need(iommufd_shim_new(options, &shim, &problem) ? -EIO : 0, "another shim");
	need(plain(shim_sweep(shim, &ctx, 1, &ended)), "sweep");
	need(plain(shim_ctx_restore(shim, t->address, &ctx, &t->ctx)), "the context");
	need(plain(shim_dev_restore(t->ctx, t->address, &dev, &t->dev)), "the device");
	need(plain(shim_mem_register(t->ctx, t->memfd, 0, PAGES * SMMU_PAGE, SHIM_READ | SHIM_WRITE,
				     &t->mem)),
	     "the memory");
	need(plain(shim_pt_restore(t->ctx, &spec, &parent, &t->parent)), "the parent");
	spec.kind = SHIM_KIND_USER;
	spec.format = SHIM_FORMAT_ARMV8_S1_4K;
	spec.input_bits = BITS;
	spec.parent = t->parent;
	need(plain(shim_pt_restore(t->ctx, &spec, &user, &t->user)), "the table of kind USER");
	maps[0].mem = maps[1].mem = t->mem;
	need(plain(shim_pt_restore_map(t->parent, maps, 2)), "the mappings");
	need(plain(shim_attach_restore(t->dev, SHIM_NO_PASID, t->user, &attachment)),
	     "the attachment");
	need(plain(shim_ctx_restored(t->ctx, &strays)), "all is restored");
	printf("%zu objects ended\n", strays);
	reach(t, AT_X, A, "DMA goes on");
	move_x(t, B);
	need(invalidate(t, (struct shim_invalidate){.scope = SHIM_INVALIDATE_ALL}), "all");
	reach(t, AT_X, B, "an invalidation arrives");
	move_x(t, A);
	need(plain(bind_table(t, gpa(OTHER_L1))), "bind another");
	reach(t, AT_X, D, "it is the other one's");
	need(plain(bind_table(t, gpa(L1))), "bind the first");
	reach(t, AT_X, A, "the first one's");
	no_reports(t);
	reach(t, AT_MISSING, NOTHING, "a fault");
	reported(t, SHIM_FAULT_NOT_PRESENT, SHIM_READ, "is reported");
}

int main(int argc, char **argv)
{
	struct iommufd_options options = {0};
	struct iommufd_problem problem = {0};
	struct tenant t, v;

	if (argc != 4) {
		fprintf(stderr, "usage: shim_smmuv3 SOCKET EDU_A EDU_B\n");
		return 2;
	}
	report(access("/dev/iommu", R_OK | W_OK) != 0, "without privilege", "with");
	options.keeper_socket = argv[1];
	if (!report(!iommufd_shim_new(&options, &shim, &problem), "the shim starts",
		    problem.message))
		return 1;
	inventory(argv[2]);
	tenant_open(&t, argv[2], 0);
	tenant_open(&v, argv[3], 40);
	both_stages(&t);
	stale(&t);
	native(&t);
	replace(&t);
	faults(&t);
	lost(&t);
	parent_changes(&t);
	descriptors(&t);
	rewritten(&t);
	apart(&t, &v);
	tenant_close(&v);
	restart(&t, &options);
	restart(&t, &options);
	tenant_close(&t);
	shim_free(shim);
	return report_failed;
}
