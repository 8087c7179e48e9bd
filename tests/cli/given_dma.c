/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that `ioasidctl exec` runs: it knows no socket, no lease and no device but those it was
 * given, and does DMA with each device in memory of its own.
 *
 *	ioasid-given-dma [hold | again]
 *
 * hold: says "ready" and stays, with everything mapped.  again: waits for a line on standard input
 * first, and does the DMA once more.  It says "dma DEVICE LEASE" for each device that did.
 */
#include <ioasid.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE 65536u
#define IOVA 0x100000ull

static struct ioasid_error *error;

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, error ? error->message : strerror(errno));
	exit(9);
}

static uint8_t *memory_new(int *ret_fd)
{
	int fd = memfd_create("given", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	uint8_t *bytes;

	if (fd < 0 || ftruncate(fd, SIZE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		die("memfd");
	bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (bytes == MAP_FAILED)
		die("mmap");
	*ret_fd = fd;
	return bytes;
}

static void dma(struct ioasid_client *client, const char *device, uint8_t *bytes, uint8_t seed)
{
	struct ioasid_dma_result *result;
	uint8_t data[5000];

	memset(data, seed, sizeof(data));
	if (ioasid_dma_write(client, NULL, device, IOASID_NO_PASID, IOVA + 10, data, sizeof(data),
			     &result, &error) < 0)
		die("dma write");
	if (result->fault || memcmp(bytes + 10, data, sizeof(data)) || bytes[9] || bytes[5010]) {
		fprintf(stderr, "%s wrote something else\n", device);
		exit(9);
	}
	ioasid_dma_result_free(result);
	memset(bytes, 0, SIZE);
}

int main(int argc, char **argv)
{
	const struct ioasid_scope scope = {.flags = IOASID_SCOPE_RETRY};
	const char *mode = argc > 1 ? argv[1] : "";
	char name[IOASID_LEASE_NAME_SIZE];
	struct ioasid_client *client;
	struct ioasid_memory *memory;
	struct ioasid_given *given;
	uint64_t ioasid;
	uint8_t *bytes;
	int fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (ioasid_given_read(&given, &error) < 0)
		die("given");
	if (ioasid_connect(NULL, NULL, &client, &error) < 0)
		die("connect");
	if (ioasid_lease_adopt_given(client, name, &error) < 0)
		die("adopt");
	if (strcmp(name, given->lease)) {
		fprintf(stderr, "adopted %s and was given %s\n", name, given->lease);
		return 9;
	}
	bytes = memory_new(&fd);
	if (ioasid_register_memory(client, &scope, fd, 0, 0, IOASID_READ | IOASID_WRITE, NULL,
				   &memory, &error) < 0)
		die("register memory");
	for (int round = 0; round < (strcmp(mode, "again") ? 1 : 2); round++) {
		if (round) {
			puts("ready");
			if (getchar() == EOF)
				return 9;
		}
		for (size_t i = 0; i < given->n_devices; i++) {
			const char *device = given->devices[i];
			struct ioasid_alloc_request request = {
				.kind = IOASID_KIND_KERNEL,
				.n_devices = 1,
				.devices = &device,
			};
			struct ioasid_map_entry entry = {
				.iova = IOVA,
				.length = SIZE,
				.memory = memory->id,
				.flags = IOASID_READ | IOASID_WRITE,
			};

			/* A simulated device has no fd. */
			if (ioasid_given_device_fd(device, &fd) != -ENODATA)
				die("device fd");
			if (!round &&
			    (ioasid_alloc(client, &scope, &request, &ioasid, NULL, &error) < 0 ||
			     ioasid_map(client, &scope, ioasid, &entry, 1, NULL, &error) < 0 ||
			     ioasid_attach(client, &scope, device, IOASID_NO_PASID, ioasid,
					   &error) < 0))
				die(device);
			dma(client, device, bytes, (uint8_t)(0x5a + i + (size_t)round));
			printf("dma %s %s\n", device, name);
		}
	}
	if (!strcmp(mode, "hold")) {
		puts("ready");
		for (;;)
			pause();
	}
	/* What is left ends with the lease. */
	ioasid_memory_free(memory);
	ioasid_given_free(given);
	ioasid_client_unref(client);
	return 0;
}
