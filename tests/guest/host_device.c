/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_device SOCKET DEVICE nvme SERIAL
 * host_device SOCKET DEVICE e1000e
 *
 * A tenant without privilege takes a device that a driver of the host had, and works with it
 * through the broker: registers by the fd that GetDeviceFd gave, all else by DMA in memory that
 * it mapped.  Then it gives the device back, and ends.
 *
 *   nvme    queues of the controller, and what Identify answers: the serial number that QEMU
 *           was given
 *   e1000e  a ring of the sender, and what the device writes into a descriptor that is done
 *
 * Both read commands from memory and write to it, and both are told to write once more after
 * Unmap, when nothing may arrive.
 */
#include "report.h"
#include "vfio_bar.h"

#include <fcntl.h>
#include <ioasid.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096u
#define PAGES 4u
#define BASE  UINT64_C(0x140000000)

/* Pages: what the device reads, and where it writes; each is mapped by itself. */
enum page {
	COMMANDS, /* nvme: the submission queue; e1000e: a frame */
	RESULTS,  /* nvme: the completion queue; e1000e: the ring */
	DATA,	  /* nvme: what Identify answers */
};

struct tenant {
	struct ioasid_client *client;
	const char *device;
	uint8_t *bytes;
	uint64_t memory, space;
	int cdev;
	volatile void *bar;
	size_t bar_size;
};

/* The call stored *error before this runs. */
static void broker(int r, struct ioasid_error *const *error, const char *name)
{
	if (!report(r >= 0, name, r < 0 ? (*error)->message : ""))
		exit(1);
}

static uint64_t iova(enum page page)
{
	return BASE + page * PAGE;
}

static uint8_t *bytes(struct tenant *tenant, enum page page)
{
	return tenant->bytes + page * PAGE;
}

static uint32_t read32(struct tenant *tenant, size_t offset)
{
	return *(volatile uint32_t *)((volatile char *)tenant->bar + offset);
}

static void write32(struct tenant *tenant, size_t offset, uint32_t value)
{
	*(volatile uint32_t *)((volatile char *)tenant->bar + offset) = value;
}

/* Most registers of 64 bits may be written in halves, the low one first. */
static void write64(struct tenant *tenant, size_t offset, uint64_t value)
{
	write32(tenant, offset, (uint32_t)value);
	write32(tenant, offset + 4, (uint32_t)(value >> 32));
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
	memcpy(at, &value, sizeof(value));
}

/* Up to ten seconds, until the byte at that place has all bits of mask as in value. */
static bool becomes(const volatile uint8_t *at, uint8_t mask, uint8_t value)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	for (int i = 0; i < 5000; i++) {
		if ((*at & mask) == value) {
			__sync_synchronize();
			return true;
		}
		nanosleep(&pause, NULL);
	}
	return false;
}

/* ---- by the broker ---- */

static void take(struct tenant *tenant, const char *socket)
{
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_KERNEL,
		.n_devices = 1,
		.devices = &tenant->device,
	};
	struct ioasid_error *error;
	struct ioasid_memory *memory;
	int fd = memfd_create("host_device", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	need(fd < 0 || ftruncate(fd, PAGES * PAGE) ? -errno : 0, "memory");
	tenant->bytes = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	need(tenant->bytes == MAP_FAILED ? -errno : 0, "see it");
	memset(tenant->bytes, 0, PAGES * PAGE);
	need(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) ? -errno : 0, "seal it");
	broker(ioasid_connect(socket, NULL, &tenant->client, &error), &error, "connect");
	broker(ioasid_claim(tenant->client, NULL, &tenant->device, 1, NULL, &error), &error,
	       "claim it");
	broker(ioasid_register_memory(tenant->client, NULL, fd, 0, 0, IOASID_READ | IOASID_WRITE,
				      "rings", &memory, &error),
	       &error, "register memory");
	tenant->memory = memory->id;
	ioasid_memory_free(memory);
	close(fd);
	broker(ioasid_alloc(tenant->client, NULL, &request, &tenant->space, NULL, &error), &error,
	       "allocate an IOASID");
	broker(ioasid_attach(tenant->client, NULL, tenant->device, IOASID_NO_PASID, tenant->space,
			     &error),
	       &error, "attach");
	broker(ioasid_device_fd(tenant->client, NULL, tenant->device, &tenant->cdev, &error),
	       &error, "its fd");
	need(vfio_bar_map(tenant->cdev, 0x2000, &tenant->bar, &tenant->bar_size), "its registers");
}

static void map(struct tenant *tenant, enum page page)
{
	const struct ioasid_map_entry entry = {
		.iova = iova(page),
		.length = PAGE,
		.memory = tenant->memory,
		.offset = page * PAGE,
		.flags = IOASID_READ | IOASID_WRITE,
	};
	struct ioasid_error *error;

	broker(ioasid_map(tenant->client, NULL, tenant->space, &entry, 1, NULL, &error), &error,
	       "map a page");
}

static void unmap(struct tenant *tenant, enum page page)
{
	const struct ioasid_range range = {iova(page), PAGE};
	struct ioasid_error *error;

	broker(ioasid_unmap(tenant->client, NULL, tenant->space, &range, 1, NULL, NULL, &error),
	       &error, "unmap it");
}

static void give_back(struct tenant *tenant)
{
	struct ioasid_error *error;

	munmap((void *)tenant->bar, tenant->bar_size);
	close(tenant->cdev);
	broker(ioasid_release(tenant->client, NULL, &tenant->device, 1, &error), &error, "release");
	ioasid_client_unref(tenant->client);
}

/* ---- nvme: NVM Express base specification, 3.1 and 5.17 ---- */

#define NVME_CC	     0x14
#define NVME_CSTS    0x1c
#define NVME_AQA     0x24
#define NVME_ASQ     0x28
#define NVME_ACQ     0x30
#define NVME_TAIL    0x1000
#define NVME_ENTRIES 4u
#define NVME_SERIAL  4 /* where it is in what Identify Controller answers; 20 bytes */

static int nvme_ready(struct tenant *tenant, uint32_t ready)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	for (int i = 0; i < 5000; i++) {
		if ((read32(tenant, NVME_CSTS) & 3) == ready)
			return 0;
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

static void nvme_start(struct tenant *tenant)
{
	write32(tenant, NVME_CC, 0);
	need(nvme_ready(tenant, 0), "the controller stops");
	write32(tenant, NVME_AQA, (NVME_ENTRIES - 1) << 16 | (NVME_ENTRIES - 1));
	write64(tenant, NVME_ASQ, iova(COMMANDS));
	write64(tenant, NVME_ACQ, iova(RESULTS));
	/* Entries of 64 and 16 bytes, pages of 4 KiB, enabled. */
	write32(tenant, NVME_CC, 6u << 16 | 4u << 20 | 1);
	need(nvme_ready(tenant, 1), "and starts with queues in registered memory");
}

/* The n-th command: Identify Controller to DATA. */
static void nvme_identify(struct tenant *tenant, unsigned n)
{
	uint8_t *command = bytes(tenant, COMMANDS) + (size_t)n * 64;
	uint8_t *result = bytes(tenant, RESULTS) + (size_t)n * 16;

	put32(command, 0x06 | (0x100 + n) << 16);
	put64(command + 24, iova(DATA));
	put32(command + 40, 1);
	__sync_synchronize();
	write32(tenant, NVME_TAIL, n + 1);
	/* The phase bit, then the id of the command. */
	report(becomes(result + 14, 1, 1) && result[12] == n && result[13] == 1,
	       "the controller answers in memory", "it does not");
}

static void nvme(struct tenant *tenant, const char *serial)
{
	char wanted[21], got[21] = "";

	snprintf(wanted, sizeof(wanted), "%-20s", serial);
	map(tenant, COMMANDS);
	map(tenant, RESULTS);
	map(tenant, DATA);
	nvme_start(tenant);
	nvme_identify(tenant, 0);
	memcpy(got, bytes(tenant, DATA) + NVME_SERIAL, 20);
	report(!strcmp(got, wanted), "Identify: the serial number is the disk's", got);
	memset(bytes(tenant, DATA), 0xee, PAGE);
	unmap(tenant, DATA);
	nvme_identify(tenant, 1);
	report(bytes(tenant, DATA)[NVME_SERIAL] == 0xee && bytes(tenant, DATA)[0] == 0xee,
	       "Identify after unmap: nothing arrives", "it does");
	map(tenant, DATA);
	nvme_identify(tenant, 2);
	memcpy(got, bytes(tenant, DATA) + NVME_SERIAL, 20);
	report(!strcmp(got, wanted), "mapped again, the number arrives", got);
	write32(tenant, NVME_CC, 0);
	need(nvme_ready(tenant, 0), "the controller stops");
}

/* ---- e1000e: Intel 82574 datasheet, 7.2 and 10.2.6; descriptors of the old kind ---- */

#define NIC_SEND_CONTROL 0x0400
#define NIC_RING	 0x3800
#define NIC_RING_BYTES	 0x3808
#define NIC_HEAD	 0x3810
#define NIC_TAIL	 0x3818
#define NIC_DESCRIPTORS	 8u

static uint8_t *nic_descriptor(struct tenant *tenant, unsigned n)
{
	return bytes(tenant, RESULTS) + (size_t)n * 16;
}

/* Sends a frame with the n-th descriptor, and asks for its status. */
static void nic_send(struct tenant *tenant, unsigned n)
{
	uint8_t *descriptor = nic_descriptor(tenant, n);

	put64(descriptor, iova(COMMANDS));
	put32(descriptor + 8, 64 | 0x0bu << 24);
	put32(descriptor + 12, 0);
	__sync_synchronize();
	write32(tenant, NIC_TAIL, n + 1);
}

static void nic(struct tenant *tenant)
{
	const struct timespec moment = {.tv_nsec = 300000000};

	map(tenant, COMMANDS);
	map(tenant, RESULTS);
	memset(bytes(tenant, COMMANDS), 0xff, 12);
	write64(tenant, NIC_RING, iova(RESULTS));
	write32(tenant, NIC_RING_BYTES, NIC_DESCRIPTORS * 16);
	write32(tenant, NIC_HEAD, 0);
	write32(tenant, NIC_TAIL, 0);
	write32(tenant, NIC_SEND_CONTROL, 0x0a);
	nic_send(tenant, 0);
	report(becomes(nic_descriptor(tenant, 0) + 12, 1, 1),
	       "the device says in the ring that the frame was sent", "it does not");
	nic_send(tenant, 1);
	report(becomes(nic_descriptor(tenant, 1) + 12, 1, 1), "and the next one", "it does not");
	unmap(tenant, RESULTS);
	nic_send(tenant, 2);
	nanosleep(&moment, NULL);
	report(!(nic_descriptor(tenant, 2)[12] & 1), "after unmap nothing arrives", "it does");
	write32(tenant, NIC_SEND_CONTROL, 0);
}

int main(int argc, char **argv)
{
	bool is_nvme = argc == 5 && !strcmp(argv[3], "nvme");
	struct tenant tenant = {.cdev = -1};

	if (!is_nvme && (argc != 4 || strcmp(argv[3], "e1000e") != 0)) {
		fprintf(stderr, "usage: host_device SOCKET DEVICE nvme SERIAL\n"
				"       host_device SOCKET DEVICE e1000e\n");
		return 2;
	}
	tenant.device = argv[2];
	take(&tenant, argv[1]);
	if (is_nvme)
		nvme(&tenant, argv[4]);
	else
		nic(&tenant);
	give_back(&tenant);
	return report_failed;
}
