/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VMM does for a guest that has a virtual IOMMU: the guest's memory is one address space
 * (its guest-physical one), the guest writes a page table into it, and a device goes through
 * both.  The guest's part is played here: it writes x86-64 tables (Intel SDM vol 3, 4.5), changes
 * an entry, tells the IOMMU so, and answers a page fault of its device.
 *
 * usage: ioasid-example-nested DEVICE
 *
 * $IOASID_SOCKET names the broker's socket.  The device is a simulated one with page requests.
 */
#include <ioasid.h>

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	  4096ull
#define RAM	  (64 * PAGE)
#define TEXT_SIZE 32

/* Where the guest has what: addresses of the guest's memory. */
#define FIRST_PAGE  (16 * PAGE)
#define SECOND_PAGE (17 * PAGE)
#define ROOT	    (32 * PAGE) /* level 4; 3, 2 and 1 in the pages behind */

/* What the device calls it. */
#define BUFFER 0x7f0000005000ull
#define LATER  0x7f0000006000ull

#define P   (1ull << 0)
#define RW  (1ull << 1)
#define USR (1ull << 2)

struct guest {
	struct ioasid_client *client;
	const char *device;
	uint8_t *ram;
	uint64_t memory, physical, virtual;
};

static int complain(const char *what, struct ioasid_error *error)
{
	fprintf(stderr, "%s: %s [%s %s]\n", what, error->message, ioasid_code_name(error->code),
		error->reason);
	for (size_t i = 0; i < error->n_violations; i++)
		fprintf(stderr, "  %s %s: %s\n", error->violations[i].type,
			error->violations[i].subject, error->violations[i].description);
	ioasid_error_free(error);
	return EXIT_FAILURE;
}

/* ---- the guest: tables in its own memory ---- */

static uint64_t *table(struct guest *g, unsigned level)
{
	return (uint64_t *)(g->ram + ROOT + (4 - level) * PAGE);
}

static unsigned int table_index(uint64_t address, unsigned level)
{
	return address >> (12 + 9 * (level - 1)) & 511;
}

/* One table a level is enough for a guest with two pages next to each other. */
static void map_page(struct guest *g, uint64_t address, uint64_t page)
{
	for (unsigned level = 4; level > 1; level--)
		table(g, level)[table_index(address, level)] =
			(ROOT + (4 - level + 1) * PAGE) | P | RW | USR;
	table(g, 1)[table_index(address, 1)] = page | P | RW | USR;
}

static int make_ram(struct guest *g)
{
	int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	if (ftruncate(fd, RAM) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		goto fail;
	g->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (g->ram == MAP_FAILED)
		goto fail;
	snprintf((char *)g->ram + FIRST_PAGE, TEXT_SIZE, "the first page");
	snprintf((char *)g->ram + SECOND_PAGE, TEXT_SIZE, "the second page");
	return fd;
fail:
	close(fd);
	return -1;
}

/* ---- the VMM ---- */

/* Guest-physical addresses: what isolates this guest from everybody else. */
static int make_physical(struct guest *g, int fd)
{
	static const enum ioasid_format format = IOASID_FORMAT_VTDSS_4L;
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_KERNEL,
		.n_devices = 1,
		.devices = &g->device,
		.n_candidates = 1,
		.candidates = &format,
		.label = "guest-physical",
	};
	struct ioasid_map_entry entry = {.length = RAM, .flags = IOASID_READ | IOASID_WRITE};
	struct ioasid_memory *memory;
	struct ioasid_error *error;

	if (ioasid_claim(g->client, NULL, &g->device, 1, NULL, &error) < 0)
		return complain("claim", error);
	if (ioasid_register_memory(g->client, NULL, fd, 0, 0, IOASID_READ | IOASID_WRITE, "ram",
				   &memory, &error) < 0)
		return complain("register memory", error);
	entry.memory = memory->id;
	g->memory = memory->id;
	ioasid_memory_free(memory);
	if (ioasid_alloc(g->client, NULL, &request, &g->physical, NULL, &error) < 0)
		return complain("alloc", error);
	if (ioasid_map(g->client, NULL, g->physical, &entry, 1, NULL, &error) < 0)
		return complain("map", error);
	printf("guest-physical: ioasid %" PRIu64 ", %llu KiB of memory from address 0\n",
	       g->physical, RAM >> 10);
	return EXIT_SUCCESS;
}

/* The guest's own table on top; its tables are addresses of the guest's memory. */
static int make_virtual(struct guest *g)
{
	static const enum ioasid_format format = IOASID_FORMAT_X86_64_4L;
	const struct ioasid_page_table written = {.root = ROOT, .format = format};
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_USER,
		.n_devices = 1,
		.devices = &g->device,
		.parent = g->physical,
		.n_candidates = 1,
		.candidates = &format,
		.flags = IOASID_ALLOC_FAULTS,
		.table = &written,
		.label = "guest-virtual",
	};
	struct ioasid_error *error;

	if (ioasid_alloc(g->client, NULL, &request, &g->virtual, NULL, &error) < 0)
		return complain("alloc", error);
	if (ioasid_attach(g->client, NULL, g->device, IOASID_NO_PASID, g->virtual, &error) < 0)
		return complain("attach", error);
	printf("guest-virtual: ioasid %" PRIu64 ", the guest's table at 0x%llx\n", g->virtual,
	       ROOT);
	return EXIT_SUCCESS;
}

static int expect(struct guest *g, uint64_t address, const char *expected, const char *what)
{
	struct ioasid_dma_result *result;
	struct ioasid_error *error;
	char text[TEXT_SIZE];
	bool same;

	if (ioasid_dma_read(g->client, NULL, g->device, IOASID_NO_PASID, address, text,
			    sizeof(text), &result, &error) < 0)
		return complain("dma read", error);
	same = !result->fault && !strncmp(text, expected, sizeof(text));
	ioasid_dma_result_free(result);
	if (!same) {
		fprintf(stderr, "%s: the device did not read \"%s\"\n", what, expected);
		return EXIT_FAILURE;
	}
	printf("%s: the device reads \"%s\" at 0x%" PRIx64 "\n", what, expected, address);
	return EXIT_SUCCESS;
}

static int invalidate(struct guest *g, uint64_t address)
{
	const struct ioasid_invalidate_entry entry = {
		.granularity = IOASID_GRANULARITY_RANGE,
		.flags = IOASID_INVALIDATE_LEAF,
		.iova = address,
		.length = PAGE,
		.pasid = IOASID_NO_PASID,
	};
	struct ioasid_error *error;
	size_t done;

	if (ioasid_invalidate(g->client, NULL, g->virtual, &entry, 1, &done, NULL, &error) < 0)
		return complain("invalidate", error);
	return EXIT_SUCCESS;
}

static int change_a_page(struct guest *g)
{
	int status;

	map_page(g, BUFFER, FIRST_PAGE);
	status = expect(g, BUFFER, "the first page", "through both stages");
	map_page(g, BUFFER, SECOND_PAGE);
	status = status ?: expect(g, BUFFER, "the first page", "entry changed, not invalidated");
	status = status ?: invalidate(g, BUFFER);
	return status ?: expect(g, BUFFER, "the second page", "invalidated");
}

static void *read_later(void *data)
{
	struct guest *g = data;

	return (void *)(intptr_t)expect(g, LATER, "the first page", "fault answered");
}

/* The device waits for a page that is not there; the guest brings it. */
static int answer_a_fault(struct guest *g)
{
	struct ioasid_fault_event *fault;
	struct ioasid_watch *watch;
	struct ioasid_error *error;
	int status = EXIT_FAILURE;
	pthread_t thread;
	void *result;

	if (ioasid_watch_faults(g->client, NULL, g->virtual, 0, &watch, &error) < 0)
		return complain("watch faults", error);
	if (pthread_create(&thread, NULL, read_later, g)) {
		ioasid_watch_close(watch);
		return EXIT_FAILURE;
	}
	if (ioasid_watch_next_fault(watch, 30000, &fault, &error) < 0) {
		complain("next fault", error);
	} else {
		printf("page request: %s wants 0x%" PRIx64 ", cookie %" PRIu64 "\n", fault->device,
		       fault->fault->address, fault->cookie);
		map_page(g, LATER, FIRST_PAGE);
		status = EXIT_SUCCESS;
		if (ioasid_fault_respond(g->client, NULL, fault->cookie,
					 IOASID_FAULT_RESPONSE_SUCCESS, &error) < 0)
			status = complain("respond", error);
		ioasid_fault_event_free(fault);
	}
	pthread_join(thread, &result);
	ioasid_watch_close(watch);
	return status ?: (int)(intptr_t)result;
}

static int give_back(struct guest *g)
{
	struct ioasid_error *error;

	if (ioasid_detach(g->client, NULL, g->device, IOASID_NO_PASID, &error) < 0)
		return complain("detach", error);
	if (ioasid_free(g->client, NULL, g->virtual, NULL, &error) < 0 ||
	    ioasid_free(g->client, NULL, g->physical, NULL, &error) < 0)
		return complain("free", error);
	if (ioasid_unregister_memory(g->client, NULL, g->memory, NULL, &error) < 0)
		return complain("unregister memory", error);
	if (ioasid_release(g->client, NULL, &g->device, 1, &error) < 0)
		return complain("release", error);
	printf("all given back\n");
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct ioasid_error *error;
	struct guest guest = {0};
	int fd, status;

	if (argc != 2) {
		fprintf(stderr, "usage: %s DEVICE\n", argv[0]);
		return 2;
	}
	guest.device = argv[1];
	if (ioasid_connect(NULL, NULL, &guest.client, &error) < 0)
		return complain("connect", error);
	fd = make_ram(&guest);
	if (fd < 0) {
		perror("memfd");
		ioasid_client_unref(guest.client);
		return EXIT_FAILURE;
	}
	status = make_physical(&guest, fd);
	status = status ?: make_virtual(&guest);
	status = status ?: change_a_page(&guest);
	status = status ?: answer_a_fault(&guest);
	status = status ?: give_back(&guest);
	/* Whatever a failure left behind ends with the connection. */
	ioasid_client_unref(guest.client);
	munmap(guest.ram, RAM);
	close(fd);
	return status;
}
