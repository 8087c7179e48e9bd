/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu_holder FOLDER
 *
 * What was started beside QEMU with the same descriptors ($IOASID_CONTEXT_FD,
 * $IOASID_DEVICE_FDS), and lives on when QEMU was ended: a tenant's last means.  It drives the
 * device, an edu, by itself, in the VM's memory (FOLDER/memory), and maps memory of its own in
 * QEMU's context: first while QEMU lives, where bytes arrive; then, when FOLDER/ended is there,
 * where none does.  It keeps the device until FOLDER/leave is there.
 */
#include "edu.h"
#include "raw.h"
#include "report.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE   UINT64_C(0x4000000)
#define SOURCE UINT64_C(0x300000)
#define TARGET UINT64_C(0x400000)
#define AFTER  UINT64_C(0x500000)
#define LENGTH 1024u

/* Where the VM has nothing. */
#define OWN  UINT64_C(0x10000000)
#define MORE UINT64_C(0x20000000)
/* The ids that QEMU's IOAS may have. */
#define IDS 16u

#define TRIES	 6000
#define PAUSE_US 10000

static const char *folder;

static void await(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	for (int i = 0; i < TRIES && access(path, F_OK); i++)
		usleep(PAUSE_US);
	need(access(path, F_OK) ? -errno : 0, name);
}

/* The kernel shows no register before QEMU has bound the device. */
static void open_device(struct edu *edu)
{
	const char *given = getenv("IOASID_DEVICE_FDS");
	int fd, r = -EINVAL;

	if (!report(given && sscanf(given, "%*[^=]=%d", &fd) == 1, "a device was given", "none"))
		exit(1);
	for (int i = 0; i < TRIES && r == -EINVAL; i++) {
		r = edu_open(fd, edu);
		if (r == -EINVAL)
			usleep(PAUSE_US);
	}
	need(r, "its registers");
}

static uint8_t *open_memory(void)
{
	char path[128];
	uint8_t *memory;
	int fd;

	await("memory");
	snprintf(path, sizeof(path), "%s/memory", folder);
	fd = open(path, O_RDWR | O_CLOEXEC);
	need(fd < 0 ? -errno : 0, "the VM's memory");
	memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(memory == MAP_FAILED ? -errno : 0, "see it");
	close(fd);
	return memory;
}

/* Bytes that this process has pinned. */
static unsigned long long pinned(void)
{
	unsigned long long kib = 0;
	FILE *status = fopen("/proc/self/status", "re");
	char line[128];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "VmLck: %llu kB", &kib) == 1)
			break;
	if (status)
		fclose(status);
	return kib << 10;
}

/* As much as QEMU may have itself, and not twice that. */
static void map_own(void)
{
	const char *given = getenv("IOASID_CONTEXT_FD");
	int context = given ? atoi(given) : -1, memfd = memfd_create("own", MFD_CLOEXEC);
	int r = -ENOENT;
	uint32_t id;

	need(memfd < 0 || ftruncate(memfd, (off_t)SIZE) ? -errno : 0, "memory of its own");
	for (id = 1; id < IDS; id++) {
		r = raw_map_file(context, id, memfd, 0, SIZE, OWN, 1);
		if (!r)
			break;
	}
	need(r, "is mapped in QEMU's context");
	report(pinned() == SIZE, "and is counted for this process", "it is not");
	report_refused(raw_map_file(context, id, memfd, 0, SIZE, MORE, 1), ENOMEM,
		       "it has QEMU's limit: no more than that");
	close(memfd);
}

int main(int argc, char **argv)
{
	struct edu edu;
	uint8_t *memory;

	if (argc != 2) {
		fprintf(stderr, "usage: qemu_holder FOLDER\n");
		return 2;
	}
	folder = argv[1];
	memory = open_memory();
	await("works");
	open_device(&edu);
	for (size_t i = 0; i < LENGTH; i++)
		memory[SOURCE + i] = (uint8_t)(i * 7) | 1;
	need(edu_to_device(&edu, SOURCE, LENGTH), "the device reads");
	need(edu_from_device(&edu, TARGET, LENGTH), "and writes");
	report(!memcmp(memory + SOURCE, memory + TARGET, LENGTH),
	       "beside QEMU the device can be driven", "bytes differ");
	map_own();
	puts("ready");
	fflush(stdout);
	await("ended");
	memset(memory + AFTER, 0xee, EDU_FAULT_MAX);
	need(edu_from_device(&edu, AFTER, EDU_FAULT_MAX), "QEMU was ended: the device writes");
	report(memory[AFTER] == 0xee &&
		       !memcmp(memory + AFTER, memory + AFTER + 1, EDU_FAULT_MAX - 1),
	       "and nothing arrives", "it does");
	report(!pinned(), "nothing of its own is mapped any more", "it is");
	puts("over");
	fflush(stdout);
	await("leave");
	return report_failed;
}
