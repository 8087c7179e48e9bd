/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only process of the guest: maps what makes a page table interesting, says on the console
 * where, and then spins in user mode until the machine is stopped.  Lines that begin with '@'
 * are for the host:
 *
 *   @region NAME START END    part of the address space, as mapped (holes in it are meant)
 *   @page ADDRESS FRAME       /proc/self/pagemap: byte address and page frame number, or 0
 *   @ready
 *
 * What the kernel does not offer (a size of huge page, an address above its reach) is left out:
 * the host sees by the regions what there is.  Static, as there is nothing else in the guest.
 * Never: writes below its regions after @ready; the table must not change under the host.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define RW	 (PROT_READ | PROT_WRITE)
#define ANY	 (MAP_PRIVATE | MAP_ANONYMOUS)
#define REGIONS	 128
#define HUGE_DIR "/sys/kernel/mm/hugepages"
#define THP_DIR	 "/sys/kernel/mm/transparent_hugepage"

static struct region {
	char name[32];
	uint64_t start, end;
} regions[REGIONS];
static size_t n_regions;
static uint64_t page;

static void note(const char *name, void *start, uint64_t length)
{
	struct region *region = &regions[n_regions];

	if (n_regions == REGIONS)
		return;
	n_regions++;
	snprintf(region->name, sizeof(region->name), "%s", name);
	region->start = (uintptr_t)start;
	region->end = region->start + length;
}

static bool text_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

/* Pages first, first + step, ... of n are written to; the others stay holes. */
static void touch(void *start, unsigned int n, unsigned int first, unsigned int step)
{
	for (unsigned int i = first; i < n; i += step)
		*((volatile unsigned char *)start + i * page) = (unsigned char)(i + 1);
}

/* n pages, every step-th of them present; at where unless that is NULL.  NULL: not to be had. */
static void *pages(const char *name, void *where, unsigned int n, unsigned int step, int flags)
{
	int fixed = where ? MAP_FIXED_NOREPLACE : 0;
	void *start = mmap(where, n * page, RW, flags | fixed, -1, 0);

	if (start == MAP_FAILED)
		return NULL;
	if (where && start != where) {
		munmap(start, n * page);
		return NULL;
	}
	touch(start, n, 0, step);
	note(name, start, n * page);
	return start;
}

static void protections(void)
{
	static const struct {
		const char *name;
		int prot;
	} kinds[] = {
		{"ro", PROT_READ},    {"rx", PROT_READ | PROT_EXEC}, {"rwx", RW | PROT_EXEC},
		{"xonly", PROT_EXEC}, {"none", PROT_NONE},
	};
	volatile unsigned char sum = 0;
	unsigned char *zero;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		void *start = pages(kinds[i].name, NULL, 8, 1, ANY);

		if (start)
			mprotect(start, 8 * page, kinds[i].prot);
	}
	zero = mmap(NULL, 8 * page, RW, ANY, -1, 0);
	if (zero == MAP_FAILED)
		return;
	for (unsigned int i = 0; i < 8; i++)
		sum += zero[i * page];
	note("zero", zero, 8 * page);
}

/* Transparent huge pages, of the size of a table's entry and of several entries together. */
static void transparent(void)
{
	uint64_t huge = page / 8 * page, length = 3 * huge;
	unsigned char *start;
	void *many;

	text_write(THP_DIR "/enabled", "always");
	start = mmap(NULL, length, RW, ANY, -1, 0);
	if (start != MAP_FAILED) {
		start = (unsigned char *)(((uintptr_t)start + huge - 1) & ~(huge - 1));
		madvise(start, huge, MADV_HUGEPAGE);
		*(volatile unsigned char *)start = 1;
		note("thp", start, huge);
	}
	/* Groups of entries: "contiguous" for ARM. */
	text_write(THP_DIR "/hugepages-64kB/enabled", "always");
	text_write(THP_DIR "/hugepages-128kB/enabled", "always");
	text_write(THP_DIR "/hugepages-2048kB/enabled", page == 4096 ? "inherit" : "always");
	many = mmap(NULL, 2 << 20, RW, ANY, -1, 0);
	if (many != MAP_FAILED) {
		uint64_t from = ((uintptr_t)many + (1 << 19)) & ~(uint64_t)((1 << 19) - 1);

		many = (void *)(uintptr_t)from;
		madvise(many, 1 << 20, MADV_HUGEPAGE);
		touch(many, (1 << 20) / page, 0, 1);
		note("mthp", many, 1 << 20);
	}
}

/* Every size that the kernel has, two pages of it, and the second one read-only. */
static void hugetlb(void)
{
	DIR *dir = opendir(HUGE_DIR);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		unsigned long long kilobytes, size;
		char path[512], name[32];
		unsigned int n = 2;
		unsigned char *start;

		if (sscanf(entry->d_name, "hugepages-%llukB", &kilobytes) != 1)
			continue;
		size = kilobytes << 10;
		snprintf(path, sizeof(path), HUGE_DIR "/%s/nr_hugepages", entry->d_name);
		/* What is as large was set aside by the kernel's arguments. */
		if (size < 1 << 30)
			text_write(path, "2");
		for (; n; n--) {
			start = mmap(NULL, n * size, RW,
				     ANY | MAP_HUGETLB | __builtin_ctzll(size) << 26, -1, 0);
			if (start != MAP_FAILED)
				break;
		}
		if (!n)
			continue;
		for (unsigned int i = 0; i < n; i++)
			*(volatile unsigned char *)(start + i * size) = 1;
		if (n > 1)
			mprotect(start + size, size, PROT_READ);
		snprintf(name, sizeof(name), "hugetlb%lluk", kilobytes);
		note(name, start, n * size);
	}
	if (dir)
		closedir(dir);
}

/* One or two pages at each power of two and at the end of the address space. */
static void scattered(void)
{
	char name[32];

	for (unsigned int bit = 21; bit < 56; bit++) {
		snprintf(name, sizeof(name), "pow%u", bit);
		pages(name, (void *)(1ull << bit), 3, 2, ANY);
	}
	for (unsigned int bit = 57; bit > 36; bit--)
		if (pages("top", (void *)((1ull << bit) - page), 1, 1, ANY) ||
		    pages("top", (void *)((1ull << bit) - 2 * page), 1, 1, ANY))
			break;
}

/* Pages shared with a child that keeps them, half of them copied again. */
static void copied(void)
{
	void *start = pages("cow", NULL, 8, 1, ANY);

	if (!fork())
		for (;;)
			pause();
	if (start)
		touch(start, 8, 0, 2);
}

static void others(void)
{
	int file = open("/init", O_RDONLY);
	void *start;

	pages("shm", NULL, 8, 1, MAP_SHARED | MAP_ANONYMOUS);
	if (file >= 0) {
		volatile unsigned char sum = 0;
		unsigned char *map = mmap(NULL, 8 * page, PROT_READ, MAP_PRIVATE, file, 0);

		for (unsigned int i = 0; map != MAP_FAILED && i < 8; i += 2)
			sum += map[i * page];
		if (map != MAP_FAILED)
			note("file", map, 8 * page);
	}
	start = pages("old", NULL, 8, 1, ANY);
	if (start)
		madvise(start, 8 * page, MADV_COLD);
}

/* The kernel's own account of where a sample of the pages is. */
static void frames(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);

	for (size_t i = 0; i < n_regions; i++) {
		struct region *region = &regions[i];
		uint64_t n = (region->end - region->start) / page, step = n > 16 ? n / 7 : 1;

		for (uint64_t k = 0; k < n; k += step) {
			uint64_t at = region->start + k * page, entry = 0;

			if (pread(fd, &entry, 8, (off_t)(at / page * 8)) != 8)
				continue;
			printf("@page %llx %llx\n", (unsigned long long)at,
			       entry >> 63 ? (unsigned long long)(entry & ((1ull << 55) - 1)) : 0);
		}
	}
	close(fd);
}

int main(void)
{
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	/* Nobody else's lines between these. */
	text_write("/proc/sys/kernel/printk", "1");

	/* First: what is mapped later is not shared with the child. */
	copied();
	pages("small", NULL, 64, 2, ANY);
	protections();
	hugetlb();
	transparent();
	scattered();
	others();
	note("text", (void *)((uintptr_t)&main & ~(page - 1)), page);
	note("data", (void *)((uintptr_t)regions & ~(page - 1)), page);
	note("stack", (void *)((uintptr_t)__builtin_frame_address(0) & ~(page - 1)), page);

	printf("\n");
	for (size_t i = 0; i < n_regions; i++)
		printf("@region %s %llx %llx\n", regions[i].name,
		       (unsigned long long)regions[i].start, (unsigned long long)regions[i].end);
	frames();
	printf("@ready\n");
	fflush(stdout);
	for (;;)
		__asm__ volatile("" ::: "memory");
}
