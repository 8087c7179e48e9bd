/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec_given [hold]
 *
 * A program that `ioasidctl exec` runs with real devices, all of them edu.  It knows no socket,
 * no lease and no device but what it was given: reads each device's registers by the descriptor
 * that it inherited, then maps memory in the lease and lets each do DMA, inside the mapping and
 * beyond it.  hold: then it says "ready" and stays.
 */
#include "edu.h"
#include "report.h"

#include <fcntl.h>
#include <ioasid.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE   4096u
#define SOURCE UINT64_C(0x100000)
#define TARGET UINT64_C(0x101000)
/* The third page of the memory is mapped nowhere. */
#define BEYOND UINT64_C(0x102000)
#define LENGTH 1024u

struct program {
	struct ioasid_client *client;
	struct ioasid_given *given;
	uint8_t *bytes;
	uint64_t memory;
};

/* The call stored *error before this runs. */
static void broker(int r, struct ioasid_error *const *error, const char *name)
{
	if (!report(r >= 0, name, r < 0 ? (*error)->message : ""))
		exit(1);
}

static void adopt(struct program *p)
{
	struct ioasid_error *error = NULL;
	struct ioasid_memory *memory;
	int fd;

	broker(ioasid_connect(NULL, NULL, &p->client, &error), &error, "it connects");
	broker(ioasid_lease_adopt_given(p->client, NULL, &error), &error, "it adopts the lease");
	fd = memfd_create("given", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	need(fd < 0 || fallocate(fd, 0, 0, 3 * PAGE) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
		     ? -errno
		     : 0,
	     "memory");
	p->bytes = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(p->bytes == MAP_FAILED ? -errno : 0, "see it");
	broker(ioasid_register_memory(p->client, NULL, fd, 0, 0, IOASID_READ | IOASID_WRITE, NULL,
				      &memory, &error),
	       &error, "it registers memory");
	p->memory = memory->id;
	ioasid_memory_free(memory);
	close(fd);
}

static void attach(struct program *p, const char *device)
{
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_KERNEL,
		.n_devices = 1,
		.devices = &device,
	};
	const struct ioasid_map_entry entry = {
		.iova = SOURCE,
		.length = 2 * PAGE,
		.memory = p->memory,
		.flags = IOASID_READ | IOASID_WRITE,
	};
	struct ioasid_error *error = NULL;
	uint64_t space;

	broker(ioasid_alloc(p->client, NULL, &request, &space, NULL, &error), &error, "alloc");
	broker(ioasid_map(p->client, NULL, space, &entry, 1, NULL, &error), &error, "map");
	broker(ioasid_attach(p->client, NULL, device, IOASID_NO_PASID, space, &error), &error,
	       "attach");
}

static void fill(uint8_t *page, uint8_t seed)
{
	for (size_t i = 0; i < LENGTH; i++)
		page[i] = (uint8_t)(i * 7 + seed) | 1;
}

static void move(struct program *p, struct edu *edu, uint8_t seed)
{
	uint8_t *target = p->bytes + PAGE, *beyond = p->bytes + 2 * PAGE;
	uint8_t before[LENGTH];

	fill(p->bytes, seed);
	memset(target, 0, PAGE);
	need(edu_to_device(edu, SOURCE, LENGTH), "the device reads");
	need(edu_from_device(edu, TARGET, LENGTH), "and writes");
	report(!memcmp(p->bytes, target, LENGTH), "bytes go through the device", "they differ");
	/* The buffer holds what was read, no zeros. */
	fill(beyond, seed + 1);
	memcpy(before, beyond, LENGTH);
	need(edu_from_device(edu, BEYOND, EDU_FAULT_MAX), "it writes beyond the mapping");
	report(!memcmp(before, beyond, LENGTH), "where nothing arrives", "it does");
}

int main(int argc, char **argv)
{
	struct ioasid_error *error = NULL;
	struct program p = {};
	struct edu edu[2];
	int fd;

	broker(ioasid_given_read(&p.given, &error), &error, "a lease was given");
	for (size_t i = 0; i < p.given->n_devices && i < 2; i++) {
		need(ioasid_given_device_fd(p.given->devices[i], &fd), "a device's descriptor was");
		need(edu_open(fd, &edu[i]), "by which its registers are read");
		close(fd);
	}
	adopt(&p);
	for (size_t i = 0; i < p.given->n_devices && i < 2; i++) {
		attach(&p, p.given->devices[i]);
		move(&p, &edu[i], (uint8_t)(31 * i + 1));
	}
	if (argc > 1) {
		puts("ready");
		fflush(stdout);
		pause();
	}
	return report_failed;
}
