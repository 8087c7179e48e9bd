/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only process of a guest with VT-d: hands the edu device to vfio-pci, maps memory for it
 * through iommufd, says on the console what is mapped where, and spins until the machine is
 * stopped.  The kernel writes the table; what it must mean is known from here:
 *
 *   @run NAME IOVA LENGTH ADDRESS PERMS   mapped to that physical address (/proc/self/pagemap)
 *   @leaf IOVA ENTRY LEVEL                the kernel's own listing of the table (debugfs)
 *   @ready
 *
 * A mapping is several runs where its frames are not in a row.  Never: moves a byte through the
 * device (tests/guest does); unmaps anything after @ready.
 */
#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define BDF    "0000:00:04.0"
#define DEVICE "/sys/bus/pci/devices/" BDF
#define TABLE  "/sys/kernel/debug/iommu/intel/" BDF "/domain_translation_struct"
#define PAGE   4096ull
#define M2     (2ull << 20)
#define G1     (1ull << 30)
#define SMALL  1024u /* pages of ordinary memory */
#define HUGE   24u   /* pages of 2 MiB */

static int iommufd;
static uint32_t ioas;
static int pagemap;

struct memory {
	int fd;
	unsigned char *at;
	uint64_t length;
};

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	printf("@failed %s: %s\n", what, strerror(errno));
	fflush(stdout);
	for (;;)
		pause();
}

static void text_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	need(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
	close(fd);
}

static struct memory memory_new(uint64_t length, unsigned int flags, uint64_t page)
{
	struct memory memory = {.fd = memfd_create("tables", flags), .length = length};

	need(memory.fd >= 0 && !ftruncate(memory.fd, (off_t)length), "memory");
	memory.at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
	need(memory.at != MAP_FAILED, "see the memory");
	for (uint64_t i = 0; i < length; i += page)
		memory.at[i] = 1;
	return memory;
}

static uint64_t frame_of(const unsigned char *at)
{
	uint64_t entry;
	off_t where = (off_t)((uintptr_t)at / PAGE * 8);

	need(pread(pagemap, &entry, 8, where) == 8 && entry >> 63, "pagemap");
	return entry & ((1ull << 55) - 1);
}

/* Maps length bytes of memory from offset at iova, and says which frames these are. */
static void map(const char *name, const struct memory *memory, uint64_t offset, uint64_t length,
		uint64_t iova, bool writable)
{
	uint64_t start = 0, first;
	int ret = raw_map_file(iommufd, ioas, memory->fd, offset, length, iova, writable);

	if (ret) {
		/* Beyond the reach of this IOMMU, or reserved. */
		printf("@refused %s %llx %d\n", name, (unsigned long long)iova, -ret);
		return;
	}
	first = frame_of(memory->at + offset);
	for (uint64_t i = PAGE; i <= length; i += PAGE) {
		if (i < length && frame_of(memory->at + offset + i) == first + (i - start) / PAGE)
			continue;
		printf("@run %s %llx %llx %llx %s\n", name, (unsigned long long)(iova + start),
		       (unsigned long long)(i - start), (unsigned long long)(first * PAGE),
		       writable ? "rw" : "r-");
		start = i;
		if (i < length)
			first = frame_of(memory->at + offset + i);
	}
}

static void map_small(const struct memory *small)
{
	char name[32];

	map("pages", small, 0, 200 * PAGE, 0x10000000, true);
	map("mixed", small, 300 * PAGE, 64 * PAGE, 0x20000000, false);
	map("adjacent", small, 400 * PAGE, PAGE, 0x20000000 + 64 * PAGE, true);
	/* Every third page, from the end of the file to its begin: none is beside the next one. */
	for (unsigned int i = 0; i < 40; i++)
		map("single", small, (SMALL - 1 - 3 * i) * PAGE, PAGE, 0x30000000 + i * 3 * PAGE,
		    i % 2);
	for (unsigned int bit = 16; bit < 57; bit++) {
		snprintf(name, sizeof(name), "pow%u", bit);
		map(name, small, (500 + 2 * bit) * PAGE, 2 * PAGE, 1ull << bit, bit % 2);
	}
	for (unsigned int bit = 57; bit > 37; bit--) {
		snprintf(name, sizeof(name), "top%u", bit);
		map(name, small, (640 + 2 * bit) * PAGE, PAGE, (1ull << bit) - PAGE, true);
	}
}

static void map_huge(const struct memory *huge, const struct memory *giant)
{
	map("2M", huge, 0, 4 * M2, 0x50000000, true);
	map("2Mro", huge, 4 * M2, M2, 0x50000000 + 4 * M2, false);
	/* Not aligned: small entries round large ones, or nothing but small ones. */
	map("2Mstraddle", huge, 5 * M2 + M2 / 2, 2 * M2, 0x60000000 + M2 / 2, true);
	map("2Mskew", huge, 9 * M2, M2, 0x70000000 + 5 * PAGE, true);
	map("2Mpart", huge, 12 * M2, M2 + 3 * PAGE, 0x78000000, true);
	for (unsigned int i = 0; i < 8; i++)
		map("2Mspread", huge, (23 - i) * M2, M2, (0x140ull << 30) + i * (G1 / 2 + M2),
		    i % 3);
	if (!giant->length)
		return;
	map("1G", giant, 0, G1, 0x200000000, true);
	map("1Gro", giant, 0, G1, 0x300000000, false);
	map("1Gskew", giant, 0, 32 * M2, 0x400000000 + M2, true);
}

/*
 * Lines "IOVA_PFN | PML5E PML4E PDPE PDE PTE", hexadecimal, of which the last one that there is
 * is the leaf.
 */
static void list(void)
{
	FILE *file = fopen(TABLE, "r");
	char line[512];

	need(file, TABLE);
	while (fgets(line, sizeof(line), file)) {
		unsigned long long pfn, entry[5];
		int n = sscanf(line, "%llx | %llx %llx %llx %llx %llx", &pfn, &entry[0], &entry[1],
			       &entry[2], &entry[3], &entry[4]);

		if (n < 4)
			continue;
		printf("@leaf %llx %llx %d\n", pfn * PAGE, entry[n - 2], 7 - n);
	}
	fclose(file);
}

int main(void)
{
	struct memory small, huge, giant = {0};
	int cdev;

	need(!mkdir("/proc", 0755) && !mkdir("/sys", 0755), "folders");
	need(!mount("proc", "/proc", "proc", 0, NULL), "proc");
	need(!mount("sysfs", "/sys", "sysfs", 0, NULL), "sysfs");
	need(!mount("dev", "/dev", "devtmpfs", 0, NULL), "devtmpfs");
	need(!mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL), "debugfs");
	text_write("/proc/sys/kernel/printk", "1");
	text_write(DEVICE "/driver_override", "vfio-pci");
	text_write("/sys/bus/pci/drivers_probe", BDF);

	pagemap = open("/proc/self/pagemap", O_RDONLY);
	small = memory_new(SMALL * PAGE, 0, PAGE);
	huge = memory_new(HUGE * M2, MFD_HUGETLB | 21u << 26, M2);
	if (!access("/sys/kernel/mm/hugepages/hugepages-1048576kB", F_OK))
		giant = memory_new(G1, MFD_HUGETLB | 30u << 26, G1);

	printf("\n");
	cdev = raw_cdev_open(BDF);
	iommufd = raw_iommu_open();
	need(cdev >= 0 && iommufd >= 0, "devices");
	need(!raw_bind(cdev, iommufd, NULL), "bind");
	need(!raw_ioas_alloc(iommufd, &ioas), "an IOAS");
	need(!raw_attach(cdev, ioas), "attach");
	map_small(&small);
	map_huge(&huge, &giant);
	list();
	printf("@ready\n");
	fflush(stdout);
	for (;;)
		__asm__ volatile("" ::: "memory");
}
