/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Map that pins for seconds: other tenants go on beside it, and the end of its client ends
 * it between two chunks.
 *
 *	pins beside|killed TENANTS-SOCKET ADMIN-SOCKET EDU
 *
 * The memory is BYTES long and mapped TIMES over, so that much is pinned and little is needed.
 * Times are of this run: what the quiet tenant takes beside the Map is compared with what the
 * Map takes, not with a number of seconds.
 */
#include "raw.h"
#include "report.h"

#include <fcntl.h>
#include <ioasid.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UID_ANA 61001
#define UID_BOB 61002
#define BYTES	(UINT64_C(64) << 20)
#define TIMES	192

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void ok(int r, struct ioasid_error *error, const char *what)
{
	if (r >= 0)
		return;
	printf("not ok %s: %s\n", what, error->message);
	exit(1);
}

/* Attaches an empty IOASID and maps into it; writes a byte when it begins, how long it took. */
static int pin(const char *socket, const char *device, int out)
{
	const struct ioasid_alloc_request request = {
		.kind = IOASID_KIND_KERNEL,
		.n_devices = 1,
		.devices = &device,
	};
	const struct ioasid_scope patient = {.timeout_ms = 110000};
	static struct ioasid_map_entry entries[TIMES];
	struct ioasid_client *client;
	struct ioasid_memory *memory;
	struct ioasid_error *error = NULL;
	double took;
	uint64_t id;
	int fd, r;

	if (raw_drop_to(UID_ANA))
		return 1;
	fd = memfd_create("pins", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, BYTES) ||
	    mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0) ==
		    MAP_FAILED ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return 1;
	r = ioasid_connect(socket, NULL, &client, &error);
	ok(r, error, "connect");
	r = ioasid_claim(client, NULL, &device, 1, NULL, &error);
	ok(r, error, "claim");
	r = ioasid_register_memory(client, &patient, fd, 0, 0, IOASID_READ | IOASID_WRITE, NULL,
				   &memory, &error);
	ok(r, error, "register");
	r = ioasid_alloc(client, NULL, &request, &id, NULL, &error);
	ok(r, error, "alloc");
	r = ioasid_attach(client, NULL, device, IOASID_NO_PASID, id, &error);
	ok(r, error, "attach");
	for (size_t i = 0; i < TIMES; i++)
		entries[i] = (struct ioasid_map_entry){
			.iova = (i + 64) * BYTES,
			.length = BYTES,
			.memory = memory->id,
			.flags = IOASID_READ | IOASID_WRITE,
		};
	took = 0;
	if (write(out, &took, sizeof(took)) != sizeof(took))
		return 1;
	took = now();
	r = ioasid_map(client, &patient, id, entries, TIMES, NULL, &error);
	ok(r, error, "map");
	took = now() - took;
	if (write(out, &took, sizeof(took)) != sizeof(took))
		return 1;
	ioasid_client_unref(client);
	return 0;
}

struct pinner {
	pid_t pid;
	int out;
};

/* Returns when its Map is about to begin. */
static void pinner_start(struct pinner *pinner, const char *socket, const char *device)
{
	int pipes[2];
	double zero;

	if (pipe(pipes))
		exit(1);
	pinner->pid = fork();
	if (pinner->pid == 0)
		_exit(pin(socket, device, pipes[1]));
	close(pipes[1]);
	pinner->out = pipes[0];
	if (read(pinner->out, &zero, sizeof(zero)) != sizeof(zero)) {
		report(0, "a map is begun", "its client ended");
		exit(1);
	}
}

/* The longest that a Free and an Alloc take, until a byte comes from fd, or for seconds. */
static double quiet(struct ioasid_client *client, int fd, double seconds, double *ret_map)
{
	const struct ioasid_alloc_request request = {.kind = IOASID_KIND_KERNEL};
	double end = now() + seconds, longest = 0;

	if (fd >= 0)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	while (now() < end) {
		struct ioasid_error *error = NULL;
		double start = now();
		uint64_t id;

		ok(ioasid_alloc(client, NULL, &request, &id, NULL, &error), error, "alloc");
		ok(ioasid_free(client, NULL, id, NULL, &error), error, "free");
		if (now() - start > longest)
			longest = now() - start;
		if (fd >= 0 && read(fd, ret_map, sizeof(*ret_map)) == sizeof(*ret_map))
			break;
	}
	return longest;
}

static bool claimed(struct ioasid_client *admin, const char *device)
{
	struct ioasid_device *d;
	struct ioasid_error *error = NULL;
	bool is;

	ok(ioasid_device_get(admin, NULL, device, &d, &error), error, "device");
	is = d->state != IOASID_DEVICE_FREE;
	ioasid_device_free(d);
	return is;
}

/* What the Map of a client takes, and another tenant beside it. */
static void test_beside(const char *tenants, const char *device, double *ret_map)
{
	struct ioasid_client *bob;
	struct ioasid_error *error = NULL;
	struct pinner pinner;
	double alone, beside;
	char why[160];

	pinner_start(&pinner, tenants, device);
	if (seteuid(UID_BOB))
		exit(1);
	ok(ioasid_connect(tenants, NULL, &bob, &error), error, "connect");
	beside = quiet(bob, pinner.out, 100, ret_map);
	waitpid(pinner.pid, NULL, 0);
	alone = quiet(bob, -1, 1, NULL);
	ioasid_client_unref(bob);
	printf("# Map: %.2f s; longest Alloc and Free of another tenant: %.3f s beside it, %.3f s "
	       "alone\n",
	       *ret_map, beside, alone);
	snprintf(why, sizeof(why), "it took %.2f s only: nothing is shown", *ret_map);
	report(*ret_map > 1, "a map takes long", why);
	snprintf(why, sizeof(why), "%.3f s beside a map of %.2f s", beside, *ret_map);
	report(beside < *ret_map / 5, "another tenant is not held up by it", why);
}

/* Its client is killed early on: how long until the device is free again. */
static void test_killed(const char *tenants, const char *admins, const char *device, double map)
{
	struct ioasid_client *admin;
	struct ioasid_error *error = NULL;
	struct pinner pinner;
	char why[160];
	double start;

	pinner_start(&pinner, tenants, device);
	ok(ioasid_connect(admins, NULL, &admin, &error), error, "connect");
	usleep(200000);
	kill(pinner.pid, SIGKILL);
	start = now();
	while (claimed(admin, device) && now() - start < 100)
		usleep(10000);
	waitpid(pinner.pid, NULL, 0);
	ioasid_client_unref(admin);
	printf("# ended %.2f s after its client\n", now() - start);
	snprintf(why, sizeof(why), "%.2f s, a whole map takes %.2f s", now() - start, map);
	/* Not all of it: how much of it depends on what else the machine does. */
	report(now() - start < map * 0.8, "the end of its client ends a map half-way", why);
}

int main(int argc, char **argv)
{
	double map;
	FILE *file;

	if (argc != 5 || (strcmp(argv[1], "beside") != 0 && strcmp(argv[1], "killed") != 0)) {
		fprintf(stderr, "usage: pins beside|killed TENANTS ADMIN EDU\n");
		return 2;
	}
	/* A process each: a fork takes no threads of a client along. */
	if (!strcmp(argv[1], "beside")) {
		test_beside(argv[2], argv[4], &map);
		file = seteuid(0) ? NULL : fopen("/tmp/map-seconds", "w");
		if (!file || fprintf(file, "%f\n", map) < 0 || fclose(file))
			return 1;
	} else {
		file = fopen("/tmp/map-seconds", "r");
		if (!file || fscanf(file, "%lf", &map) != 1)
			return 1;
		fclose(file);
		test_killed(argv[2], argv[3], argv[4], map);
	}
	return report_failed;
}
