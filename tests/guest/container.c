/* SPDX-License-Identifier: Apache-2.0 */
/*
 * container [BYTES [NODE]]
 *
 * The program of a container that was given a lease with one device ($IOASID_SOCKET,
 * $IOASID_LEASE_FILE): it has no privilege, no device node and no policy of its own.  It drives
 * the device, an edu, in memory that it maps, and beyond it, where nothing may arrive; BYTES more
 * memory than it may register is refused.  NODE is its device's, which the container was given: it
 * can be opened and does nothing, as the descriptor that works is the broker's.  Then it says
 * "ready" and stays, with everything in use, until it is killed.
 */
#include "edu.h"
#include "report.h"

#include <fcntl.h>
#include <ioasid.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE   4096u
#define PAGES  3u
#define SOURCE UINT64_C(0x100000)
#define TARGET UINT64_C(0x101000)
/* The third page of the memory is mapped nowhere. */
#define BEYOND UINT64_C(0x102000)
#define LENGTH 1024u

struct program {
	struct ioasid_client *client;
	const char *device;
	int memfd;
	uint8_t *bytes;
	uint64_t memory, space;
	struct edu edu;
};

/* The call stored *error before this runs. */
static void broker(int r, struct ioasid_error *const *error, const char *name)
{
	if (!report(r >= 0, name, r < 0 ? (*error)->message : ""))
		exit(1);
}

static int memory_new(size_t length)
{
	int fd = memfd_create("container", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	need(fd < 0 || fallocate(fd, 0, 0, (off_t)length) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
		     ? -errno
		     : 0,
	     "memory");
	return fd;
}

static void take(struct program *p)
{
	struct ioasid_error *error = NULL;
	struct ioasid_memory *memory;
	struct ioasid_given *given;
	int r;

	r = ioasid_given_read(&given, &error);
	broker(r, &error, "a lease was given");
	if (!report(given->n_devices == 1, "with one device", "not one"))
		exit(1);
	p->device = given->devices[0];
	broker(ioasid_connect(NULL, NULL, &p->client, &error), &error, "the socket was given");
	broker(ioasid_lease_adopt_given(p->client, NULL, &error), &error, "it adopts the lease");
	p->memfd = memory_new(PAGES * PAGE);
	p->bytes = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, p->memfd, 0);
	need(p->bytes == MAP_FAILED ? -errno : 0, "see it");
	broker(ioasid_register_memory(p->client, NULL, p->memfd, 0, 0, IOASID_READ | IOASID_WRITE,
				      "pages", &memory, &error),
	       &error, "it registers memory");
	p->memory = memory->id;
	ioasid_memory_free(memory);
}

static void attach(struct program *p)
{
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_KERNEL,
		.n_devices = 1,
		.devices = &p->device,
	};
	const struct ioasid_map_entry entries[] = {
		{.iova = SOURCE, .length = PAGE, .memory = p->memory, .flags = IOASID_READ},
		{
			.iova = TARGET,
			.length = PAGE,
			.memory = p->memory,
			.offset = PAGE,
			.flags = IOASID_READ | IOASID_WRITE,
		},
	};
	struct ioasid_error *error = NULL;
	int cdev = -1;

	broker(ioasid_alloc(p->client, NULL, &request, &p->space, NULL, &error), &error,
	       "it allocates an IOASID");
	broker(ioasid_map(p->client, NULL, p->space, entries, 2, NULL, &error), &error,
	       "it maps two pages");
	broker(ioasid_attach(p->client, NULL, p->device, IOASID_NO_PASID, p->space, &error), &error,
	       "it attaches the device");
	broker(ioasid_device_fd(p->client, NULL, p->device, &cdev, &error), &error,
	       "it is given the device's fd");
	need(edu_open(cdev, &p->edu), "the device's registers");
	close(cdev);
}

static void fill(uint8_t *page, uint8_t seed)
{
	for (size_t i = 0; i < LENGTH; i++)
		page[i] = (uint8_t)(i * 7 + seed) | 1;
}

static void move(struct program *p)
{
	uint8_t *target = p->bytes + PAGE, *beyond = p->bytes + 2 * PAGE;
	uint8_t before[LENGTH];

	fill(p->bytes, 1);
	memset(target, 0, PAGE);
	need(edu_to_device(&p->edu, SOURCE, LENGTH), "the device reads");
	need(edu_from_device(&p->edu, TARGET, LENGTH), "and writes");
	report(!memcmp(p->bytes, target, LENGTH), "inside the mapping the bytes arrive",
	       "they differ");
	/* The buffer holds what was read, no zeros. */
	fill(beyond, 5);
	memcpy(before, beyond, LENGTH);
	need(edu_from_device(&p->edu, BEYOND, EDU_FAULT_MAX), "the device writes beyond it");
	report(!memcmp(before, beyond, LENGTH), "and nothing arrives", "it does");
	memcpy(before, p->bytes, LENGTH);
	fill(target, 9);
	need(edu_to_device(&p->edu, TARGET, LENGTH), "the device reads another pattern");
	need(edu_from_device(&p->edu, SOURCE, EDU_FAULT_MAX), "and writes where it may only read");
	report(!memcmp(before, p->bytes, LENGTH), "where nothing arrives, either", "it does");
}

static void register_too_much(struct program *p, size_t length)
{
	struct ioasid_error *error = NULL;
	struct ioasid_memory *memory;
	int fd = memory_new(length);
	int r = ioasid_register_memory(p->client, NULL, fd, 0, 0, IOASID_READ, "more", &memory,
				       &error);

	report(r < 0 && !strcmp(error->reason, "QUOTA"), "more memory than it may have is refused",
	       r < 0 ? error->message : "it was registered");
	if (r < 0)
		ioasid_error_free(error);
	close(fd);
}

static void try_node(const char *path)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	int fd = open(path, O_RDWR | O_CLOEXEC), r;

	report(fd >= 0, "the device's node can be opened", strerror(errno));
	errno = 0;
	r = ioctl(fd, VFIO_DEVICE_GET_INFO, &info);
	report(r < 0 && errno == EINVAL, "and does nothing: it is bound to no context",
	       r < 0 ? strerror(errno) : "it does");
	/* It is left open: that must not keep the device from the next lease. */
}

int main(int argc, char **argv)
{
	struct program p = {.memfd = -1};

	take(&p);
	attach(&p);
	move(&p);
	if (argc > 1)
		register_too_much(&p, (size_t)strtoull(argv[1], NULL, 0));
	if (argc > 2)
		try_node(argv[2]);
	puts("ready");
	fflush(stdout);
	pause();
	return 1;
}
