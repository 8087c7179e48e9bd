/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program in a container that was given a lease: it finds it where the hook puts it, drives
 * every device of the lease file, and says so, one line a turn.
 *
 * usage: oci_tenant TURNS     0: for ever
 *
 * Each turn every device writes 4096 bytes into the program's memory, and is blocked beside
 * them.  "turn N: ADDRESS..." is printed only if both are so.  With the argument "ioasids" in
 * place of TURNS it allocates until it is refused and prints the refusal; with "memory" it
 * registers 64 KiB again and again until it is.
 */
#include <ioasid.h>

#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEASE_FILE  "/run/ioasid/lease.json"
#define MEMORY_SIZE (64u << 10)
#define IOVA	    0x100000000ull
#define DEVICES_MAX 64

static struct ioasid_client *client;
static struct ioasid_scope scope;
static const char *devices[DEVICES_MAX];
static size_t n_devices;
static uint8_t *bytes;

static void fail(const char *what, struct ioasid_error *error)
{
	printf("%s: %s [%s]\n", what, error->message, error->reason);
	exit(1);
}

static const char *member(struct json_object *file, const char *name)
{
	struct json_object *found;

	if (!json_object_object_get_ex(file, name, &found)) {
		printf(LEASE_FILE ": no %s\n", name);
		exit(1);
	}
	return json_object_get_string(found);
}

static void take_lease(void)
{
	struct json_object *file = json_object_from_file(LEASE_FILE), *list;
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	struct ioasid_error *error;
	const char *hex;

	if (!file) {
		printf(LEASE_FILE ": cannot read it\n");
		exit(1);
	}
	hex = member(file, "secret");
	for (size_t i = 0; i < sizeof(secret); i++)
		sscanf(hex + 2 * i, "%2hhx", &secret[i]);
	scope.lease = member(file, "lease");
	scope.flags = IOASID_SCOPE_RETRY;
	json_object_object_get_ex(file, "devices", &list);
	for (; n_devices < json_object_array_length(list); n_devices++)
		devices[n_devices] =
			json_object_get_string(json_object_array_get_idx(list, n_devices));
	if (ioasid_connect(NULL, NULL, &client, &error) < 0)
		fail("connect", error);
	if (ioasid_lease_adopt(client, NULL, scope.lease, secret, &error) < 0)
		fail("adopt", error);
}

static uint64_t register_memory(void)
{
	int fd = memfd_create("oci", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct ioasid_memory *memory;
	struct ioasid_error *error;

	if (fd < 0 || ftruncate(fd, MEMORY_SIZE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
		printf("memory: %m\n");
		exit(1);
	}
	bytes = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (bytes == MAP_FAILED) {
		printf("mmap: %m\n");
		exit(1);
	}
	if (ioasid_register_memory(client, &scope, fd, 0, 0, IOASID_READ | IOASID_WRITE, "oci",
				   &memory, &error) < 0)
		fail("memory", error);
	close(fd);
	return memory->id;
}

static uint64_t allocate(void)
{
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_KERNEL,
		.n_devices = n_devices,
		.devices = devices,
		.n_candidates = 1,
		.candidates = (const enum ioasid_format[]){IOASID_FORMAT_VTDSS_4L},
	};
	struct ioasid_error *error;
	uint64_t ioasid;

	if (ioasid_alloc(client, &scope, &request, &ioasid, NULL, &error) < 0)
		fail("ioasid", error);
	return ioasid;
}

static void prepare(void)
{
	struct ioasid_map_entry entry = {
		.iova = IOVA,
		.length = MEMORY_SIZE,
		.memory = register_memory(),
		.flags = IOASID_READ | IOASID_WRITE,
	};
	struct ioasid_error *error;
	uint64_t ioasid = allocate();

	if (ioasid_map(client, &scope, ioasid, &entry, 1, NULL, &error) < 0)
		fail("map", error);
	for (size_t i = 0; i < n_devices; i++)
		if (ioasid_attach(client, &scope, devices[i], IOASID_NO_PASID, ioasid, &error) < 0)
			fail("attach", error);
}

static bool write_by(const char *device, uint64_t iova, const uint8_t *data, size_t n)
{
	struct ioasid_dma_result *result;
	struct ioasid_error *error;
	bool done;

	if (ioasid_dma_write(client, &scope, device, IOASID_NO_PASID, iova, data, n, &result,
			     &error) < 0)
		fail("dma", error);
	done = !result->fault;
	ioasid_dma_result_free(result);
	return done;
}

static void turn(unsigned number)
{
	uint8_t data[4096];

	for (size_t i = 0; i < n_devices; i++) {
		memset(data, (int)(number + i + 1), sizeof(data));
		if (!write_by(devices[i], IOVA + 4096 * i, data, sizeof(data)) ||
		    memcmp(bytes + 4096 * i, data, sizeof(data))) {
			printf("%s: its bytes did not arrive\n", devices[i]);
			exit(1);
		}
		if (write_by(devices[i], IOVA + MEMORY_SIZE, data, 1)) {
			printf("%s: not blocked outside of its mapping\n", devices[i]);
			exit(1);
		}
	}
	printf("turn %u:", number);
	for (size_t i = 0; i < n_devices; i++)
		printf(" %s", devices[i]);
	puts("");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "1";

	setvbuf(stdout, NULL, _IOLBF, 0);
	take_lease();
	if (!strcmp(what, "ioasids"))
		for (unsigned i = 1;; i++) {
			allocate();
			printf("ioasids: %u\n", i);
		}
	if (!strcmp(what, "memory"))
		for (unsigned i = 1;; i++) {
			register_memory();
			printf("memory: %u\n", i);
		}
	prepare();
	for (unsigned i = 1, n = (unsigned)atoi(what); !n || i <= n; i++) {
		turn(i);
		if (!n)
			usleep(50000);
	}
	ioasid_client_unref(client);
	return 0;
}
