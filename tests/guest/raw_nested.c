/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_nested BDF BDF: true nested DMA behind an SMMUv3 through the kernel's iommufd, without any
 * ioasid code, by a process without privilege.  It proves the harness and the kernel's rules
 * that the shim builds on (vSTE, vDEVICE, commands, events); a job that tests ioasid and fails
 * where this passes has found a bug of ioasid.
 *
 * A world is one context with one device: a memfd of PAGES pages, mapped at GPA in the parent.
 * In it lie a context descriptor, stage-1 tables of the 2 MiB at IOVA, and pages of data, each
 * filled differently.  What the device reaches at an address is found out by letting it read
 * there and write what it has read to the page OUT: bytes are compared, never a status.
 *
 * The commands are a tenant's: nothing here invalidates by itself.
 */
#include "edu.h"
#include "raw.h"
#include "report.h"
#include "smmuv3.h"
#include "uapi.h"

#include <poll.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 32u
#define GPA   0x100000000ull /* of page 0 in the parent */
#define IOVA  0x40000000ull
#define ASID  7
#define VSID  0x11
#define LEN   64u

/* What each page is. */
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

/* Entries of the last table, one page of IOVA each. */
enum {
	AT_OUT,
	AT_X,
	AT_Y,
	AT_OUTSIDE,
	AT_RO,
	AT_MISSING,
	AT_PARENT_RO,
};

#define NOTHING (-1) /* the device reads zeros */
#define UNKNOWN (-2) /* not even OUT can be written */
#define NOBODY	65534

struct world {
	int memfd, iommufd, cdev, events;
	uint32_t dev, ioas, parent, viommu, vdevice, hwpt, queue;
	unsigned char *memory;
	struct edu edu;
};

static unsigned char *page(const struct world *w, unsigned int n)
{
	return w->memory + n * SMMU_PAGE;
}

static uint64_t *words(const struct world *w, unsigned int n)
{
	return (uint64_t *)(void *)page(w, n);
}

static uint64_t gpa(unsigned int n)
{
	return GPA + n * SMMU_PAGE;
}

static uint64_t iova(unsigned int entry)
{
	return IOVA + entry * SMMU_PAGE;
}

static void set(const struct world *w, unsigned int table, unsigned int entry, uint64_t value)
{
	__atomic_store_n(&words(w, table)[smmu_index(iova(entry), 3)], value, __ATOMIC_RELEASE);
}

static void tables(const struct world *w, unsigned int l1, unsigned int l2, unsigned int l3)
{
	words(w, l1)[smmu_index(IOVA, 1)] = smmu_table(gpa(l2));
	words(w, l2)[smmu_index(IOVA, 2)] = smmu_table(gpa(l3));
	set(w, l3, AT_OUT, smmu_leaf(gpa(OUT), SMMU_RW));
}

static void fill(const struct world *w, unsigned int n, unsigned int seed)
{
	for (unsigned int i = 0; i < SMMU_PAGE; i++)
		page(w, n)[i] = (unsigned char)((i * 7 + seed * 31) | 1);
}

/* The device is asked often: only a failure is told. */
static void done(int ret)
{
	if (ret)
		need(ret, "the device is done");
}

/* Which page of data the device reads at an entry's address. */
static int reaches(struct world *w, unsigned int entry)
{
	static const unsigned char zeros[LEN];

	memset(page(w, OUT), 0xee, LEN);
	done(edu_to_device(&w->edu, iova(entry), LEN));
	done(edu_from_device(&w->edu, iova(AT_OUT), LEN));
	for (unsigned int n = A; n <= D; n++)
		if (!memcmp(page(w, OUT), page(w, n), LEN))
			return (int)n;
	return memcmp(page(w, OUT), zeros, LEN) ? UNKNOWN : NOTHING;
}

static void expect(struct world *w, unsigned int entry, int wanted, const char *name)
{
	char why[80];
	int got = reaches(w, entry);

	snprintf(why, sizeof(why), "got page %d, not %d", got, wanted);
	report(got == wanted, name, why);
}

/* The device writes page A, which it reads first, to an entry's address. */
static void write_at(struct world *w, unsigned int entry)
{
	done(edu_to_device(&w->edu, iova(AT_X), LEN));
	done(edu_from_device(&w->edu, iova(entry), LEN));
}

static int command(struct world *w, struct smmu_command c)
{
	uint32_t n = 1;

	return raw_viommu_commands(w->iommufd, w->viommu, &c, &n);
}

/* Type of the next event, 0 if there is none; those behind it are thrown away. */
static unsigned int event(struct world *w, uint32_t *ret_sid)
{
	struct {
		struct raw_vevent_header header;
		struct raw_vevent_smmuv3 event;
	} events[64];
	struct pollfd poll_fd = {.fd = w->events, .events = POLLIN};
	unsigned int type = 0;
	bool first = true;

	_Static_assert(sizeof(events[0]) == 40, "ABI");
	while (poll(&poll_fd, 1, 50) == 1) {
		ssize_t n = read(w->events, events, sizeof(events));

		if (n < (ssize_t)sizeof(events[0]))
			break;
		if (first) {
			type = smmu_event_type((const uint64_t *)events[0].event.evt);
			*ret_sid = smmu_event_sid((const uint64_t *)events[0].event.evt);
		}
		first = false;
	}
	return type;
}

static void expect_event(struct world *w, unsigned int wanted, const char *name)
{
	uint32_t sid = VSID;
	unsigned int got = event(w, &sid);
	char why[80];

	snprintf(why, sizeof(why), "event 0x%x of stream 0x%x, not 0x%x", got, sid, wanted);
	report(got == wanted && sid == VSID, name, why);
}

static void make_memory(struct world *w)
{
	w->memfd = memfd_create("raw_nested", MFD_CLOEXEC);
	need(w->memfd < 0 || ftruncate(w->memfd, PAGES * SMMU_PAGE) ? -errno : 0, "make memory");
	w->memory = mmap(NULL, PAGES * SMMU_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, w->memfd, 0);
	need(w->memory == MAP_FAILED ? -errno : 0, "see it");
}

static void make_tables(struct world *w, unsigned int seed)
{
	for (unsigned int n = A; n <= D; n++)
		fill(w, n, seed + n);
	tables(w, L1, L2, L3);
	tables(w, OTHER_L1, OTHER_L2, OTHER_L3);
	set(w, L3, AT_X, smmu_leaf(gpa(A), SMMU_RW));
	set(w, L3, AT_Y, smmu_leaf(gpa(B), SMMU_RW));
	set(w, L3, AT_OUTSIDE, smmu_leaf(gpa(PAGES), SMMU_RW));
	set(w, L3, AT_RO, smmu_leaf(gpa(C), SMMU_RO));
	set(w, L3, AT_PARENT_RO, smmu_leaf(gpa(PAGES + 1), SMMU_RW));
	set(w, OTHER_L3, AT_X, smmu_leaf(gpa(D), SMMU_RW));
	smmu_cd(words(w, CD), gpa(L1), ASID);
}

static void make_parent(struct world *w)
{
	need(raw_bind(w->cdev, w->iommufd, &w->dev), "bind");
	need(edu_open(w->cdev, &w->edu), "it is an edu");
	need(raw_ioas_alloc(w->iommufd, &w->ioas), "allocate an IOAS");
	need(raw_hwpt_parent(w->iommufd, w->dev, w->ioas, &w->parent), "a nesting parent");
	need(raw_map_file(w->iommufd, w->ioas, w->memfd, 0, PAGES * SMMU_PAGE, GPA, 1),
	     "map memory in it");
	need(raw_map_file(w->iommufd, w->ioas, w->memfd, SPARE * SMMU_PAGE, SMMU_PAGE,
			  gpa(PAGES + 1), 0),
	     "and a page read-only");
	need(raw_viommu_alloc(w->iommufd, w->dev, w->parent, &w->viommu), "a vIOMMU");
	need(raw_veventq_alloc(w->iommufd, w->viommu, 64, &w->queue, &w->events),
	     "its event queue");
}

static void nest(struct world *w)
{
	uint64_t ste[2];

	smmu_ste(ste, gpa(CD));
	need(raw_vdevice_alloc(w->iommufd, w->viommu, w->dev, VSID, &w->vdevice), "a vDEVICE");
	need(raw_hwpt_nested(w->iommufd, w->dev, w->viommu, ste, &w->hwpt), "a nested table");
	need(raw_attach(w->cdev, w->hwpt), "attach to it");
}

/* ---- the cases ---- */

static void hw_info(struct world *w)
{
	uint32_t type = 0, idr[6] = {0};

	report_call(raw_hw_info_smmuv3(w->iommufd, w->dev, &type, idr), "the kernel describes it");
	report(type == RAW_DATA_SMMUV3, "as an SMMUv3", "another type");
	report((idr[0] & 3) == 3, "with both stages", "IDR0 says no");
	printf("idr %08x %08x %08x %08x %08x %08x\n", idr[0], idr[1], idr[2], idr[3], idr[4],
	       idr[5]);
}

static void bad_stes(struct world *w)
{
	uint64_t ste[2];
	uint32_t id;
	int ret;

	smmu_ste(ste, gpa(CD));
	ret = raw_hwpt_nested(w->iommufd, w->dev, w->viommu, ste, &id);
	if (!ret) {
		ret = raw_attach(w->cdev, id);
		report_call(raw_destroy(w->iommufd, id), "and given back");
	}
	report_refused(ret, ENOENT, "a translating vSTE without a vDEVICE");
	ste[1] |= 1ull << 40;
	report_refused(raw_hwpt_nested(w->iommufd, w->dev, w->viommu, ste, &id), EIO,
		       "reserved bits of a vSTE");
	smmu_ste(ste, gpa(CD));
	ste[0] = (ste[0] & ~0xeull) | 6u << 1;
	report_refused(raw_hwpt_nested(w->iommufd, w->dev, w->viommu, ste, &id), EIO,
		       "a vSTE of stage 2");
}

static void both_stages(struct world *w)
{
	expect(w, AT_X, A, "a read goes through both stages");
	expect(w, AT_Y, B, "and another");
	set(w, L3, AT_RO + 8, smmu_leaf(gpa(SPARE + 1), SMMU_RW));
	write_at(w, AT_RO + 8);
	report(!memcmp(page(w, SPARE + 1), page(w, A), LEN), "a write does, too", "bytes differ");
	(void)event(w, &(uint32_t){0});
}

static void move_x(struct world *w, unsigned int to)
{
	set(w, L3, AT_X, smmu_leaf(gpa(to), SMMU_RW));
}

static void stale(struct world *w)
{
	expect(w, AT_X, A, "the IOTLB is filled");
	move_x(w, B);
	expect(w, AT_X, A, "a changed entry is stale");
	report_call(command(w, smmu_tlbi_va(ASID + 1, iova(AT_X))), "TLBI_NH_VA of another ASID");
	expect(w, AT_X, A, "leaves it stale");
	report_call(command(w, smmu_tlbi_va(ASID, iova(AT_Y))), "TLBI_NH_VA of another page");
	expect(w, AT_X, A, "leaves it stale, too");
	report_call(command(w, smmu_tlbi_va(ASID, iova(AT_X))), "TLBI_NH_VA");
	expect(w, AT_X, B, "makes it fresh");
	move_x(w, A);
	expect(w, AT_X, B, "stale again");
	report_call(command(w, smmu_tlbi_asid(ASID + 1)), "TLBI_NH_ASID of another");
	expect(w, AT_X, B, "leaves it stale");
	report_call(command(w, smmu_tlbi_asid(ASID)), "TLBI_NH_ASID");
	expect(w, AT_X, A, "makes it fresh");
	move_x(w, B);
	report_call(command(w, smmu_tlbi_all()), "TLBI_NH_ALL");
	expect(w, AT_X, B, "makes it fresh");
	move_x(w, A);
	expect(w, AT_X, B, "stale once more");
	report_call(command(w, smmu_tlbi_nsnh_all()), "TLBI_NSNH_ALL");
	expect(w, AT_X, A, "makes it fresh");
}

static void context_descriptor(struct world *w)
{
	smmu_cd(words(w, CD), gpa(OTHER_L1), ASID + 1);
	expect(w, AT_X, A, "a changed CD is stale");
	report_call(command(w, smmu_tlbi_all()), "TLBI_NH_ALL");
	expect(w, AT_X, A, "does not help");
	report_call(command(w, smmu_cfgi_cd(VSID)), "CFGI_CD");
	expect(w, AT_X, D, "does");
	smmu_cd(words(w, CD), gpa(L1), ASID);
	report_call(command(w, smmu_cfgi_cd(VSID)), "CFGI_CD back");
	expect(w, AT_X, A, "the first table again");
}

static void bad_commands(struct world *w)
{
	struct smmu_command batch[3] = {smmu_tlbi_va(ASID, iova(AT_X)), smmu_cfgi_ste(VSID),
					smmu_tlbi_all()};
	uint32_t n = 3;

	report_refused(raw_viommu_commands(w->iommufd, w->viommu, batch, &n), EIO,
		       "CFGI_STE in a batch");
	report(n == 1, "one command was done", "another number");
	n = 1;
	batch[0] = smmu_cfgi_cd(VSID + 1);
	report_refused(raw_viommu_commands(w->iommufd, w->viommu, batch, &n), EIO,
		       "CFGI_CD of an unknown vSID");
	report(n == 0, "nothing was done", "another number");
}

static void faults(struct world *w)
{
	(void)event(w, &(uint32_t){0});
	expect(w, AT_MISSING, NOTHING, "an entry that is not there");
	expect_event(w, SMMU_F_TRANSLATION, "is reported");
	write_at(w, AT_RO);
	report(memcmp(page(w, C), page(w, A), LEN), "a write through a read-only entry is blocked",
	       "memory has changed");
	expect_event(w, SMMU_F_PERMISSION, "and reported");
	words(w, CD)[0] &= ~(1ull << 31);
	report_call(command(w, smmu_cfgi_cd(VSID)), "a CD without V");
	expect(w, AT_X, UNKNOWN, "blocks everything");
	expect_event(w, SMMU_C_BAD_CD, "and is reported");
	smmu_cd(words(w, CD), gpa(L1), ASID);
	report_call(command(w, smmu_cfgi_cd(VSID)), "a good one");
	expect(w, AT_X, A, "lets it through");
}

static void parent(struct world *w)
{
	uint64_t keep = words(w, L1)[smmu_index(IOVA, 1)];

	(void)event(w, &(uint32_t){0});
	expect(w, AT_OUTSIDE, NOTHING, "what the parent has not is blocked");
	expect_event(w, 0, "and not reported");
	memset(page(w, SPARE), 0, LEN);
	write_at(w, AT_PARENT_RO);
	report(page(w, SPARE)[0] == 0, "a write where the parent is read-only is blocked",
	       "memory has changed");
	words(w, L1)[smmu_index(IOVA, 1)] = smmu_table(gpa(PAGES));
	report_call(command(w, smmu_tlbi_all()), "a table that the parent has not");
	expect(w, AT_X, UNKNOWN, "blocks everything");
	words(w, L1)[smmu_index(IOVA, 1)] = keep;
	report_call(command(w, smmu_tlbi_all()), "back");
	expect(w, AT_X, A, "lets it through");

	need(raw_unmap(w->iommufd, w->ioas, GPA, PAGES * SMMU_PAGE), "unmap in the parent");
	expect(w, AT_X, UNKNOWN, "blocks at once");
	need(raw_map_file(w->iommufd, w->ioas, w->memfd, 0, PAGES * SMMU_PAGE, GPA, 1),
	     "map it again");
	expect(w, AT_X, A, "lets it through");
	(void)event(w, &(uint32_t){0});
}

/* The same ASID, vSID and addresses in two contexts. */
static void apart(struct world *w, struct world *v)
{
	expect(v, AT_X, A, "the other context has its own");
	report(memcmp(page(w, A), page(v, A), LEN), "which differs", "same bytes");
	move_x(w, B);
	expect(w, AT_X, A, "stale");
	report_call(command(v, smmu_tlbi_va(ASID, iova(AT_X))), "the other's TLBI_NH_VA");
	report_call(command(v, smmu_tlbi_all()), "and its TLBI_NH_ALL");
	expect(w, AT_X, A, "stale still");
	report_call(command(w, smmu_tlbi_va(ASID, iova(AT_X))), "one's own");
	expect(w, AT_X, B, "fresh");
}

int main(int argc, char **argv)
{
	static struct world worlds[2];
	struct world *w = &worlds[0], *v = &worlds[1];

	if (argc != 3) {
		fprintf(stderr, "usage: raw_nested BDF BDF\n");
		return 2;
	}
	for (int i = 0; i < 2; i++) {
		worlds[i].cdev = raw_cdev_open(argv[1 + i]);
		need(worlds[i].cdev, "open a device");
		worlds[i].iommufd = raw_iommu_open();
		need(worlds[i].iommufd, "open /dev/iommu");
	}
	need(raw_drop_to(NOBODY), "give up root");
	for (int i = 0; i < 2; i++) {
		make_memory(&worlds[i]);
		make_tables(&worlds[i], 40u * (unsigned int)i);
		make_parent(&worlds[i]);
	}
	hw_info(w);
	bad_stes(w);
	nest(w);
	nest(v);
	both_stages(w);
	stale(w);
	context_descriptor(w);
	bad_commands(w);
	faults(w);
	parent(w);
	apart(w, v);
	edu_close(&w->edu);
	edu_close(&v->edu);
	return report_failed;
}
