/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared virtual addressing: the device is given pointers.  What it does there happens to the
 * memory of this program as it is mapped then: nothing is registered, nothing is mapped for it.
 * libioasid's service thread does it on the software IOMMU (docs/process.md).
 *
 * usage: ioasid-example-process DEVICE
 *
 * $IOASID_SOCKET names the broker's socket.  The device is a simulated one.
 */
#include <ioasid.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE	  4096ul
#define TEXT_SIZE 32

struct program {
	struct ioasid_client *client;
	struct ioasid_service *service;
	const char *device;
	uint64_t space;
};

static const char constant[TEXT_SIZE] = "a constant";

static int complain(const char *what, struct ioasid_error *error)
{
	fprintf(stderr, "%s: %s [%s %s]\n", what, error->message, ioasid_code_name(error->code),
		error->reason);
	ioasid_error_free(error);
	return EXIT_FAILURE;
}

static int unexpected(const char *what)
{
	fprintf(stderr, "%s: not as expected\n", what);
	return EXIT_FAILURE;
}

static int share(struct program *p)
{
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_PROCESS,
		.n_devices = 1,
		.devices = &p->device,
		.label = "my own addresses",
	};
	struct ioasid_error *error;

	if (ioasid_claim(p->client, NULL, &p->device, 1, NULL, &error) < 0)
		return complain("claim", error);
	if (ioasid_service_start(p->client, NULL, &p->service, &error) < 0)
		return complain("service", error);
	if (ioasid_alloc(p->client, NULL, &request, &p->space, NULL, &error) < 0)
		return complain("alloc", error);
	if (ioasid_attach(p->client, NULL, p->device, IOASID_NO_PASID, p->space, &error) < 0)
		return complain("attach", error);
	printf("ioasid %" PRIu64 ": the addresses of this process, no memory registered\n",
	       p->space);
	return EXIT_SUCCESS;
}

/* Why the IOMMU blocked it; 0: all of it moved.  Negative: the broker could not be asked. */
static int device_reads(struct program *p, const void *from, char *ret_text)
{
	struct ioasid_dma_result *result;
	struct ioasid_error *error;
	int cause;

	if (ioasid_dma_read(p->client, NULL, p->device, IOASID_NO_PASID, (uintptr_t)from, ret_text,
			    TEXT_SIZE, &result, &error) < 0)
		return -complain("dma read", error);
	cause = result->fault ? (int)result->fault->cause : 0;
	ioasid_dma_result_free(result);
	return cause;
}

static int device_writes(struct program *p, const void *to, const char *text)
{
	char bytes[TEXT_SIZE] = {0};
	struct ioasid_dma_result *result;
	struct ioasid_error *error;
	int cause;

	snprintf(bytes, sizeof(bytes), "%s", text);
	if (ioasid_dma_write(p->client, NULL, p->device, IOASID_NO_PASID, (uintptr_t)to, bytes,
			     sizeof(bytes), &result, &error) < 0)
		return -complain("dma write", error);
	cause = result->fault ? (int)result->fault->cause : 0;
	ioasid_dma_result_free(result);
	return cause;
}

static int use_the_heap(struct program *p)
{
	char *heap = calloc(1, TEXT_SIZE), seen[TEXT_SIZE];
	int status = EXIT_FAILURE;

	if (!heap)
		return unexpected("calloc");
	if (device_writes(p, heap, "from the device") || strcmp(heap, "from the device") != 0) {
		unexpected("the heap, written by the device");
		goto out;
	}
	printf("malloc: the device wrote, the program reads \"%s\"\n", heap);
	snprintf(heap, TEXT_SIZE, "from the program");
	if (device_reads(p, heap, seen) || memcmp(heap, seen, TEXT_SIZE) != 0) {
		unexpected("the heap, read by the device");
		goto out;
	}
	printf("malloc: the program wrote, the device reads \"%s\"\n", seen);
	status = EXIT_SUCCESS;
out:
	free(heap);
	return status;
}

/* The page tables of the process hold for the device, too. */
static int use_a_constant(struct program *p)
{
	char seen[TEXT_SIZE];

	if (device_reads(p, constant, seen) || memcmp(constant, seen, TEXT_SIZE) != 0)
		return unexpected("a constant, read by the device");
	if (device_writes(p, constant, "overwritten") != IOASID_FAULT_PERMISSION ||
	    strcmp(constant, "a constant") != 0)
		return unexpected("a constant, written by the device");
	printf("constant: the device reads \"%s\", and is refused to write it: %s\n", seen,
	       ioasid_fault_cause_name(IOASID_FAULT_PERMISSION));
	return EXIT_SUCCESS;
}

static int use_a_mapping(struct program *p)
{
	char *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char seen[TEXT_SIZE];

	if (map == MAP_FAILED)
		return unexpected("mmap");
	if (device_writes(p, map, "into a page nobody touched") ||
	    strcmp(map, "into a page nobody touched") != 0) {
		munmap(map, PAGE);
		return unexpected("a mapping, written by the device");
	}
	printf("mmap: the device wrote \"%s\"\n", map);
	/* Kept out of reach rather than unmapped: a free address could be another thread's. */
	if (mprotect(map, PAGE, PROT_NONE) ||
	    device_reads(p, map, seen) != IOASID_FAULT_NOT_PRESENT) {
		munmap(map, PAGE);
		return unexpected("a mapping that is gone");
	}
	printf("mprotect: the same address, no longer accessible: %s\n",
	       ioasid_fault_cause_name(IOASID_FAULT_NOT_PRESENT));
	munmap(map, PAGE);
	return EXIT_SUCCESS;
}

static int give_back(struct program *p)
{
	struct ioasid_error *error;

	if (ioasid_detach(p->client, NULL, p->device, IOASID_NO_PASID, &error) < 0)
		return complain("detach", error);
	if (ioasid_free(p->client, NULL, p->space, NULL, &error) < 0)
		return complain("free", error);
	if (ioasid_release(p->client, NULL, &p->device, 1, &error) < 0)
		return complain("release", error);
	printf("all given back\n");
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct program program = {0};
	struct ioasid_error *error;
	int status;

	if (argc != 2) {
		fprintf(stderr, "usage: %s DEVICE\n", argv[0]);
		return 2;
	}
	program.device = argv[1];
	if (ioasid_connect(NULL, NULL, &program.client, &error) < 0)
		return complain("connect", error);
	status = share(&program);
	status = status ?: use_the_heap(&program);
	status = status ?: use_a_constant(&program);
	status = status ?: use_a_mapping(&program);
	status = status ?: give_back(&program);
	/* Before the client; whatever a failure left behind ends with the connection. */
	ioasid_service_stop(program.service);
	ioasid_client_unref(program.client);
	return status;
}
