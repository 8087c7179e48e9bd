/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_guest rpc TENANTS-SOCKET UID EDU RAW-EDU
 * bench_guest shim KEEPER-SOCKET UID EDU
 *
 * Starts as root, for the device of the raw calls, and goes on as UID: neither side has
 * CAP_IPC_LOCK, so the kernel accounts pages for both.
 */
#include "guest.h"

#include "raw.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

void print_ratio(const char *name, double *ratios, double goal)
{
	double middle = median(ratios, ROUNDS);

	printf("      %-34s %.3f  (%.3f to %.3f", name, middle, ratios[0], ratios[ROUNDS - 1]);
	if (goal > 0)
		printf("; goal <= %.2f", goal);
	printf(")\n");
}

static void must(int r, const char *what)
{
	if (r < 0)
		die("%s: %s", what, strerror(-r));
}

void raw_open(struct raw *raw, const char *bdf)
{
	raw->cdev = raw_cdev_open(bdf);
	must(raw->cdev, bdf);
	raw->iommufd = raw_iommu_open();
	must(raw->iommufd, "/dev/iommu");
	must(raw_bind(raw->cdev, raw->iommufd, NULL), "bind");
	must(raw_ioas_alloc(raw->iommufd, &raw->ioas), "an IOAS");
	must(raw_attach(raw->cdev, raw->ioas), "attach");
}

int memory_new(uint64_t size)
{
	int fd = memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *bytes;

	if (fd < 0 || ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		die("no memfd");
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (bytes == MAP_FAILED)
		die("no memory");
	memset(bytes, 1, size);
	munmap(bytes, size);
	return fd;
}

double raw_pair_us(const struct raw *raw, int fd, uint64_t length, unsigned n)
{
	uint64_t start = now_ns();

	for (unsigned i = 0; i < n; i++) {
		must(raw_map_file(raw->iommufd, raw->ioas, fd, 0, length, BASE, 1), "map");
		must(raw_unmap(raw->iommufd, raw->ioas, BASE, length), "unmap");
	}
	return (double)(now_ns() - start) / 1e3 / n;
}

static int rpc_main(const char *tenants, unsigned uid, const char *edu, const char *raw_edu)
{
	char folder[] = "/tmp/ioasid-bench-XXXXXX";
	struct server echo;
	struct raw raw;

	raw_open(&raw, raw_edu);
	must(raw_drop_to(uid), "give up root");
	if (!mkdtemp(folder))
		die("cannot make a folder");
	server_start_echo(&echo, folder);
	rpc_figures(tenants, echo.socket, edu, &raw);
	/* It has the device as well, by the fork. */
	kill(echo.pid, SIGKILL);
	waitpid(echo.pid, NULL, 0);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (argc == 6 && !strcmp(argv[1], "rpc"))
		return rpc_main(argv[2], (unsigned)strtoul(argv[3], NULL, 10), argv[4], argv[5]);
	if (argc == 5 && !strcmp(argv[1], "shim")) {
		must(raw_drop_to((unsigned)strtoul(argv[3], NULL, 10)), "give up root");
		shim_figures(argv[2], argv[4]);
		return 0;
	}
	fprintf(stderr, "usage: bench_guest rpc TENANTS UID EDU RAW-EDU\n"
			"       bench_guest shim KEEPER UID EDU\n");
	return 2;
}
