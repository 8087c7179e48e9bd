/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delegate_vmm [hold | loop | child] [BYTES]
 *
 * What a VMM does with a context of its own, without any ioasid code: it finds the descriptors of
 * an iommufd and of an edu by number ($IOASID_CONTEXT_FD, $IOASID_DEVICE_FDS), binds the device,
 * makes an address space, maps its own memory and lets the device move bytes in it, and beyond it,
 * where nothing may arrive.  BYTES: what it may lock; one page more is refused by the kernel.
 *
 * hold: then says "ready" and stays.  loop: moves bytes until it is killed, and says so each time.
 * child: forks one that stays with everything, says its pid, and ends.
 */
#include "edu.h"
#include "raw.h"
#include "report.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PAGE   4096u
#define SOURCE UINT64_C(0x100000)
#define TARGET UINT64_C(0x101000)
#define BEYOND UINT64_C(0x102000)
#define LENGTH 1024u

static int memory_of(size_t length)
{
	int fd = memfd_create("vmm", MFD_CLOEXEC);

	need(fd < 0 || ftruncate(fd, (off_t)length) ? -errno : 0, "memory");
	return fd;
}

static int number_after(const char *name, char before)
{
	const char *text = getenv(name);
	const char *at = text && before ? strchr(text, before) : text;

	if (!report(at != NULL, name, "not given"))
		exit(1);
	return atoi(before ? at + 1 : at);
}

static void fill(uint8_t *page, uint8_t seed)
{
	for (size_t i = 0; i < LENGTH; i++)
		page[i] = (uint8_t)(i * 7 + seed) | 1;
}

static int moves(struct edu *edu, uint8_t *bytes, uint8_t seed)
{
	fill(bytes, seed);
	memset(bytes + PAGE, 0, PAGE);
	return !edu_to_device(edu, SOURCE, LENGTH) && !edu_from_device(edu, TARGET, LENGTH) &&
	       !memcmp(bytes, bytes + PAGE, LENGTH);
}

static void nothing_beyond(struct edu *edu, uint8_t *bytes)
{
	uint8_t before[LENGTH];

	fill(bytes + 2 * PAGE, 5);
	memcpy(before, bytes + 2 * PAGE, LENGTH);
	need(edu_from_device(edu, BEYOND, EDU_FAULT_MAX), "the device writes beyond the mapping");
	report(!memcmp(before, bytes + 2 * PAGE, LENGTH), "and nothing arrives", "it does");
}

/* Two pages are pinned already. */
static void at_the_limit(int iommufd, uint32_t ioas, uint64_t bytes)
{
	struct rlimit limit = {0};
	int fd = memory_of(bytes);

	getrlimit(RLIMIT_MEMLOCK, &limit);
	report(limit.rlim_cur == bytes && limit.rlim_max == bytes, "it may lock what was declared",
	       "another limit");
	report_refused(raw_map_file(iommufd, ioas, fd, 0, bytes - PAGE, 0x10000000, 1), ENOMEM,
		       "one page more than that is refused");
	need(raw_map_file(iommufd, ioas, fd, 0, bytes - 2 * PAGE, 0x10000000, 1),
	     "all of it is not");
	need(raw_unmap(iommufd, ioas, 0x10000000, bytes - 2 * PAGE), "and is given back");
	close(fd);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int iommufd = number_after("IOASID_CONTEXT_FD", '\0');
	int cdev = number_after("IOASID_DEVICE_FDS", '=');
	struct edu edu;
	uint8_t *bytes;
	uint32_t ioas;
	int memfd;

	memfd = memory_of(3 * PAGE);
	bytes = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	need(bytes == MAP_FAILED ? -errno : 0, "see it");
	need(raw_bind(cdev, iommufd, NULL), "the device is its own to bind");
	need(edu_open(cdev, &edu), "it is an edu");
	need(raw_ioas_alloc(iommufd, &ioas), "an address space");
	need(raw_map_file(iommufd, ioas, memfd, 0, PAGE, SOURCE, 0), "a page");
	need(raw_map_file(iommufd, ioas, memfd, PAGE, PAGE, TARGET, 1), "and another");
	need(raw_attach(cdev, ioas), "attach");
	report(moves(&edu, bytes, 1), "bytes move", "they do not arrive");
	nothing_beyond(&edu, bytes);
	if (argc > 2)
		at_the_limit(iommufd, ioas, strtoull(argv[2], NULL, 0));
	if (!strcmp(how, "hold")) {
		puts("ready");
		fflush(stdout);
		pause();
	}
	for (uint8_t seed = 2; !strcmp(how, "loop"); seed++) {
		puts(moves(&edu, bytes, seed) ? "moved" : "not moved");
		fflush(stdout);
	}
	if (!strcmp(how, "child")) {
		pid_t pid = fork();

		if (!pid) {
			pause();
			_exit(0);
		}
		printf("child %d\n", pid);
		fflush(stdout);
	}
	return report_failed;
}
