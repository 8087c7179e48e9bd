/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_dma BDF: true DMA through the kernel's iommufd, without any ioasid code, by a process
 * without privilege.  It proves the harness: that in this guest a mapping lets DMA through, in
 * both directions, and that nothing else does.  A job that tests ioasid and fails where this
 * passes has found a bug of ioasid.
 *
 * Memory is one memfd of eight pages; pages 0 to 3 are mapped at BASE.  The rest of the file
 * is what a device must not reach: page 4, just behind the mapping, holds a secret.  After
 * every move that must be refused the *whole* file is compared with a copy taken before.  What
 * the device would write always differs from what is there: the buffer holds page 0, or zeros
 * before the first read, and no target holds the same.
 *
 * Never: relies on the device or the log to tell of a fault (neither does so reliably).
 */
#include "edu.h"
#include "raw.h"
#include "report.h"

#include <sys/mman.h>
#include <unistd.h>

#define PAGE   4096u
#define PAGES  8u
#define MAPPED 4u
#define RDONLY 5u
#define SIZE   (PAGES * PAGE)

/* Above 4 GiB and above the 28 bits of edu's default mask. */
#define BASE   0x140000000ull
#define SECOND 0x180000000ull

#define NOBODY 65534

static unsigned char *memory;
static unsigned char before[SIZE];

static unsigned char *page(unsigned int n)
{
	return memory + n * PAGE;
}

static uint64_t iova(unsigned int n)
{
	return BASE + n * PAGE;
}

static void fill(unsigned int n, unsigned int seed)
{
	unsigned int i;

	for (i = 0; i < PAGE; i++)
		page(n)[i] = (unsigned char)((i * 7 + i / 256 + seed) | 1);
}

/* The device's buffer now holds page 0, no byte of which is zero. */
static void load(struct edu *edu)
{
	need(edu_to_device(edu, iova(0), EDU_MAX), "the device reads page 0");
}

/* A write to where must change no byte of the memory. */
static void refuse_write(struct edu *edu, uint64_t where, const char *name)
{
	memcpy(before, memory, SIZE);
	need(edu_from_device(edu, where, EDU_FAULT_MAX), "the device is done");
	report(!memcmp(before, memory, SIZE), name, "memory has changed");
}

static void both_ways(struct edu *edu)
{
	load(edu);
	need(edu_from_device(edu, iova(1), EDU_MAX), "the device writes page 1");
	report(!memcmp(page(0), page(1), EDU_MAX), "bytes arrive through the device",
	       "page 1 differs from page 0");
	report(page(1)[EDU_MAX] == 0, "and not one more", "the byte behind them changed");
	need(edu_from_device(edu, iova(2) - 1024, EDU_MAX), "a write across two pages");
	report(!memcmp(page(0), page(2) - 1024, EDU_MAX), "both pages got theirs", "bytes differ");
}

/* What the device reads where nothing is mapped must not be what the memory holds there. */
static void read_outside(struct edu *edu)
{
	memset(page(3), 0xee, PAGE);
	load(edu);
	need(edu_to_device(edu, iova(MAPPED), EDU_FAULT_MAX), "a read behind the mapping");
	need(edu_from_device(edu, iova(3), EDU_FAULT_MAX), "and what came of it");
	report(memcmp(page(3), page(MAPPED), EDU_FAULT_MAX) != 0,
	       "a read behind the mapping gets nothing", "the device has the secret");
	report(page(3)[0] != 0xee, "though the device did write", "page 3 is as it was");
}

int main(int argc, char **argv)
{
	int memfd, iommufd, cdev;
	uint32_t ioas, other;
	struct edu edu;
	unsigned int i;

	if (argc != 2) {
		fprintf(stderr, "usage: raw_dma BDF\n");
		return 2;
	}
	cdev = raw_cdev_open(argv[1]);
	need(cdev, "open the device");
	iommufd = raw_iommu_open();
	need(iommufd, "open /dev/iommu");
	need(raw_drop_to(NOBODY), "give up root");
	report(access("/dev/iommu", R_OK | W_OK) != 0, "and be nobody", "/dev/iommu may be opened");

	memfd = memfd_create("raw_dma", MFD_CLOEXEC);
	need(memfd < 0 || ftruncate(memfd, SIZE) ? -errno : 0, "make memory");
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	need(memory == MAP_FAILED ? -errno : 0, "see it");
	fill(0, 11);
	for (i = MAPPED; i < PAGES; i++)
		fill(i, 40 + i);

	need(raw_bind(cdev, iommufd, NULL), "bind");
	need(edu_open(cdev, &edu), "it is an edu");
	need(raw_ioas_alloc(iommufd, &ioas), "allocate an IOAS");
	need(raw_ioas_alloc(iommufd, &other), "and another");
	need(raw_map_file(iommufd, ioas, memfd, 0, MAPPED * PAGE, BASE, 1), "map four pages");
	need(raw_map_file(iommufd, ioas, memfd, RDONLY * PAGE, PAGE, SECOND, 0),
	     "map page 5 read-only");

	/* A blocked device first: what is refused here is let through below. */
	fill(2, 77);
	refuse_write(&edu, iova(2), "no DMA before attach");
	need(raw_attach(cdev, ioas), "attach");
	both_ways(&edu);
	read_outside(&edu);

	load(&edu);
	refuse_write(&edu, iova(MAPPED), "no write behind the mapping");
	refuse_write(&edu, iova(0) - PAGE, "no write before the mapping");
	refuse_write(&edu, 0, "no write at 0");
	refuse_write(&edu, SECOND, "no write through the read-only mapping");
	need(edu_to_device(&edu, SECOND, EDU_MAX), "a read through it");
	need(edu_from_device(&edu, iova(3), EDU_MAX), "and what came of it");
	report(!memcmp(page(RDONLY), page(3), EDU_MAX), "is page 5", "page 3 differs from it");

	memset(page(1), 0, PAGE);
	load(&edu);
	need(raw_attach(cdev, other), "replace by the empty IOAS");
	refuse_write(&edu, iova(1), "no write in the empty IOAS");
	need(raw_attach(cdev, ioas), "and back");
	load(&edu);
	need(edu_from_device(&edu, iova(1), EDU_MAX), "a write");
	report(!memcmp(page(0), page(1), EDU_MAX), "bytes arrive again", "page 1 differs");

	/* Over a translation that the IOTLB has seen a moment ago. */
	memset(page(1), 0, PAGE);
	need(raw_unmap(iommufd, ioas, BASE, MAPPED * PAGE), "unmap");
	refuse_write(&edu, iova(1), "no write after unmap");
	need(raw_map_file(iommufd, ioas, memfd, 0, MAPPED * PAGE, BASE, 1), "map again");
	load(&edu);
	need(edu_from_device(&edu, iova(1), EDU_MAX), "a write");
	report(!memcmp(page(0), page(1), EDU_MAX), "bytes arrive once more", "page 1 differs");

	memset(page(1), 0, PAGE);
	need(raw_detach(cdev), "detach");
	refuse_write(&edu, iova(1), "no write after detach");

	edu_close(&edu);
	return report_failed;
}
