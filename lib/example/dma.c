/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main job of a program that drives a device itself, as a DPDK application or a VMM
 * does: claim a device, register memory, get an I/O address space of a format that the
 * device can use, map, attach, let the device do DMA, take all of it down.
 *
 * usage: ioasid-example-dma [DEVICE]
 *
 * $IOASID_SOCKET names the broker's socket.  Without DEVICE, the first free device that is
 * alone in its isolation group.  The DMA is done by a simulated device (DeviceDma); with a
 * real one, this is where ioasid_device_fd() gives the fd to drive it by.
 */
#include <ioasid.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY_SIZE (2u << 20)
#define IOVA	    0x100000000ull

/* Says what went wrong, in all the detail that the broker gave. */
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

/* Guest memory: a memfd that is never going to shrink under a device. */
static int make_memory(size_t size, uint8_t **ret_bytes)
{
	int fd = memfd_create("dma", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *bytes;

	if (fd < 0)
		return -1;
	if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		goto fail;
	/*
	 * Registration refuses holes, so every page must exist in our own name.  Populating
	 * does that; fallocate() alone does not, its pages look like holes until touched.
	 */
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (bytes == MAP_FAILED)
		goto fail;
	*ret_bytes = bytes;
	return fd;
fail:
	close(fd);
	return -1;
}

static int choose_device(struct ioasid_client *client, char *ret_address, size_t size,
			 struct ioasid_error **ret_error)
{
	struct ioasid_devices *devices;
	int r = ioasid_device_list(client, NULL, false, &devices, ret_error);

	if (r < 0)
		return r;
	for (size_t i = 0; i < devices->n; i++) {
		const struct ioasid_device *device = devices->items[i];

		if (device->state == IOASID_DEVICE_FREE && !device->n_group_members) {
			snprintf(ret_address, size, "%s", device->address);
			break;
		}
	}
	ioasid_devices_free(devices);
	return 0;
}

/* The device writes a pattern and reads another one back. */
static int check_dma(struct ioasid_client *client, const char *device, uint8_t *memory)
{
	uint8_t pattern[4096], seen[sizeof(pattern)];
	struct ioasid_dma_result *result;
	struct ioasid_error *error;

	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + (i >> 8));
	if (ioasid_dma_write(client, NULL, device, IOASID_NO_PASID, IOVA + 100, pattern,
			     sizeof(pattern), &result, &error) < 0)
		return complain("dma write", error);
	if (result->fault || memcmp(memory + 100, pattern, sizeof(pattern))) {
		fprintf(stderr, "the device's bytes did not arrive\n");
		ioasid_dma_result_free(result);
		return EXIT_FAILURE;
	}
	ioasid_dma_result_free(result);

	memset(memory + 8192, 0x5a, sizeof(seen));
	if (ioasid_dma_read(client, NULL, device, IOASID_NO_PASID, IOVA + 8192, seen, sizeof(seen),
			    &result, &error) < 0)
		return complain("dma read", error);
	if (result->fault || memcmp(memory + 8192, seen, sizeof(seen))) {
		fprintf(stderr, "the device read something else\n");
		ioasid_dma_result_free(result);
		return EXIT_FAILURE;
	}
	ioasid_dma_result_free(result);
	printf("dma: %zu bytes written and %zu read by %s, all as expected\n", sizeof(pattern),
	       sizeof(seen), device);
	return EXIT_SUCCESS;
}

/* After the unmap the IOMMU must block the same access. */
static int check_blocked(struct ioasid_client *client, const char *device)
{
	struct ioasid_dma_result *result;
	struct ioasid_error *error;
	uint8_t byte;

	if (ioasid_dma_read(client, NULL, device, IOASID_NO_PASID, IOVA, &byte, 1, &result,
			    &error) < 0)
		return complain("dma read", error);
	if (!result->fault) {
		fprintf(stderr, "the device still reaches unmapped memory\n");
		ioasid_dma_result_free(result);
		return EXIT_FAILURE;
	}
	printf("unmapped: the device is blocked, %s at 0x%" PRIx64 "\n",
	       ioasid_fault_cause_name(result->fault->cause), result->fault->address);
	ioasid_dma_result_free(result);
	return EXIT_SUCCESS;
}

static void print_choice(const struct ioasid_choice *choice)
{
	printf("format: %s, %u-bit addresses\n", ioasid_format_name(choice->format) ?: "unknown",
	       choice->input_bits);
	for (size_t i = 0; i < choice->n_passed_over; i++)
		printf("  passed over: %s, because %s (%s %s)\n",
		       ioasid_format_name(choice->passed_over[i]->format) ?: "unknown",
		       choice->passed_over[i]->reason,
		       ioasid_refused_by_name(choice->passed_over[i]->by) ?: "unknown",
		       choice->passed_over[i]->who);
}

static int work(struct ioasid_client *client, const char *device, int fd, uint8_t *bytes)
{
	/* Best first; the answer says which one it is and why not an earlier one. */
	static const enum ioasid_format candidates[] = {
		IOASID_FORMAT_X86_64_5L,
		IOASID_FORMAT_VTDSS_4L,
		IOASID_FORMAT_X86_64_4L,
	};
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_KERNEL,
		.n_devices = 1,
		.devices = &device,
		.n_candidates = sizeof(candidates) / sizeof(candidates[0]),
		.candidates = candidates,
		.label = "example",
	};
	/* Whatever is repeated because the broker was busy has its effect once. */
	const struct ioasid_scope scope = {.flags = IOASID_SCOPE_RETRY};
	struct ioasid_memory *memory;
	struct ioasid_offer *offer;
	struct ioasid_error *error;
	uint64_t ioasid, mappings;
	int status;

	if (ioasid_claim(client, &scope, &device, 1, NULL, &error) < 0)
		return complain("claim", error);
	printf("claimed: %s\n", device);

	if (ioasid_register_memory(client, &scope, fd, 0, 0, IOASID_READ | IOASID_WRITE, "example",
				   &memory, &error) < 0)
		return complain("register memory", error);
	printf("memory: id %" PRIu64 ", %" PRIu64 " bytes\n", memory->id, memory->length);

	const struct ioasid_map_entry entry = {
		.iova = IOVA,
		.length = memory->length,
		.memory = memory->id,
		.flags = IOASID_READ | IOASID_WRITE,
	};
	ioasid_memory_free(memory);

	if (ioasid_negotiate(client, NULL, &request, &offer, &error) < 0)
		return complain("negotiate", error);
	print_choice(offer->choice);
	if (!offer->within_quota)
		printf("quota would refuse: %s\n", offer->quota_refusal);
	ioasid_offer_free(offer);

	if (ioasid_alloc(client, &scope, &request, &ioasid, NULL, &error) < 0)
		return complain("alloc", error);
	printf("ioasid: id %" PRIu64 "\n", ioasid);
	if (ioasid_map(client, &scope, ioasid, &entry, 1, NULL, &error) < 0)
		return complain("map", error);
	if (ioasid_attach(client, &scope, device, IOASID_NO_PASID, ioasid, &error) < 0)
		return complain("attach", error);
	printf("attached: %s uses ioasid %" PRIu64 "\n", device, ioasid);

	status = check_dma(client, device, bytes);
	if (status != EXIT_SUCCESS)
		return status;

	if (ioasid_unmap_all(client, &scope, ioasid, &mappings, NULL, &error) < 0)
		return complain("unmap", error);
	status = check_blocked(client, device);
	if (status != EXIT_SUCCESS)
		return status;

	if (ioasid_detach(client, &scope, device, IOASID_NO_PASID, &error) < 0)
		return complain("detach", error);
	if (ioasid_free(client, &scope, ioasid, NULL, &error) < 0)
		return complain("free", error);
	if (ioasid_unregister_memory(client, &scope, entry.memory, NULL, &error) < 0)
		return complain("unregister memory", error);
	if (ioasid_release(client, &scope, &device, 1, &error) < 0)
		return complain("release", error);
	printf("all given back\n");
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct ioasid_client *client;
	struct ioasid_error *error;
	char device[64] = "";
	uint8_t *bytes;
	int fd, status;

	if (argc > 2) {
		fprintf(stderr, "usage: %s [DEVICE]\n", argv[0]);
		return 2;
	}
	if (ioasid_connect(NULL, NULL, &client, &error) < 0)
		return complain("connect", error);
	if (argc == 2)
		snprintf(device, sizeof(device), "%s", argv[1]);
	else if (choose_device(client, device, sizeof(device), &error) < 0) {
		ioasid_client_unref(client);
		return complain("list devices", error);
	}
	if (!*device) {
		fprintf(stderr, "no free device that is alone in its group\n");
		ioasid_client_unref(client);
		return EXIT_FAILURE;
	}

	fd = make_memory(MEMORY_SIZE, &bytes);
	if (fd < 0) {
		perror("memfd");
		ioasid_client_unref(client);
		return EXIT_FAILURE;
	}
	status = work(client, device, fd, bytes);
	/* Whatever a failure left behind ends with the connection. */
	ioasid_client_unref(client);
	munmap(bytes, MEMORY_SIZE);
	close(fd);
	return status;
}
