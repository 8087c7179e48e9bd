/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many threads on one client of a real broker, which $IOASID_SOCKET names: workers whose
 * every answer is checked, calls that are cancelled at any moment, a watch, and lists.  In
 * the end the lease is closed and nothing is charged.
 *
 * A program of its own and not beside a fake broker, so that ThreadSanitizer sees the
 * library and one side of gRPC only.
 */
#include <ioasid.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define N_WORKERS    8
#define N_ROUNDS     60
#define N_CANCELLERS 3
#define MEMORY_SIZE  65536
#define IOVA	     0x1000000u

static struct ioasid_client *client;
static uint64_t memory;
static _Atomic unsigned failures;
static _Atomic unsigned n_cancelled;
static _Atomic bool over;

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			failures++;                                                                \
		}                                                                                  \
	} while (0)

/* error: set where r is not 0. */
static bool ok(const char *what, int r, struct ioasid_error *const *error)
{
	if (!r)
		return true;
	fprintf(stderr, "%s: %s\n", what, (*error)->message);
	ioasid_error_free(*error);
	failures++;
	return false;
}

static void one_round(uint64_t offset)
{
	const struct ioasid_alloc_request request = {.kind = IOASID_KIND_KERNEL};
	const struct ioasid_map_entry entry = {
		.iova = IOVA,
		.length = 4096,
		.memory = memory,
		.offset = offset,
		.flags = IOASID_READ | IOASID_WRITE,
	};
	const struct ioasid_range range = {IOVA, 4096};
	struct ioasid_translation *translation;
	struct ioasid_mappings *mappings;
	struct ioasid_error *error;
	uint64_t id, n, bytes;

	if (!ok("alloc", ioasid_alloc(client, NULL, &request, &id, NULL, &error), &error))
		return;
	if (ok("map", ioasid_map(client, NULL, id, &entry, 1, NULL, &error), &error)) {
		/* The same place again: refused, and nothing is changed. */
		CHECK(ioasid_map(client, NULL, id, &entry, 1, NULL, &error) == -EEXIST);
		CHECK(!strcmp(error->reason, "OVERLAP"));
		ioasid_error_free(error);
		if (ok("translate",
		       ioasid_translate(client, NULL, id, IOVA + 0x123, IOASID_ACCESS_WRITE,
					&translation, &error),
		       &error)) {
			CHECK(!translation->fault && translation->memory == memory);
			CHECK(translation->offset == offset + 0x123);
			ioasid_translation_free(translation);
		}
		if (ok("list", ioasid_mapping_list(client, NULL, id, &mappings, &error), &error)) {
			CHECK(mappings->n == 1 && mappings->items[0]->offset == offset);
			ioasid_mappings_free(mappings);
		}
		if (ok("unmap", ioasid_unmap(client, NULL, id, &range, 1, &n, &bytes, &error),
		       &error))
			CHECK(n == 1 && bytes == 4096);
	}
	ok("free", ioasid_free(client, NULL, id, NULL, &error), &error);
	CHECK(ioasid_free(client, NULL, id, NULL, &error) == -ENOENT);
	CHECK(ioasid_error_is_not_found(error));
	ioasid_error_free(error);
}

static void *worker(void *argument)
{
	for (int i = 0; i < N_ROUNDS; i++)
		one_round((uint64_t)(i % 16) * 4096);
	return NULL;
}

static void *fire(void *argument)
{
	poll(NULL, 0, 1);
	ioasid_cancel_fire(argument);
	return NULL;
}

/* Calls that end well or cancelled, and nothing in between. */
static void *canceller(void *argument)
{
	while (!over) {
		struct ioasid_cancel *cancel = ioasid_cancel_new();
		const struct ioasid_scope scope = {.cancel = cancel};
		pthread_t thread;

		pthread_create(&thread, NULL, fire, cancel);
		for (;;) {
			struct ioasid_quota *quota;
			struct ioasid_error *error;

			if (!ioasid_quota_get(client, &scope, &quota, &error)) {
				CHECK(!strcmp(quota->tenant, "org"));
				ioasid_quota_free(quota);
				continue;
			}
			CHECK(error->error == -ECANCELED);
			ioasid_error_free(error);
			break;
		}
		n_cancelled++;
		pthread_join(thread, NULL);
		ioasid_cancel_unref(cancel);
	}
	return NULL;
}

/* Every event of the workers, in order, or told to be lost. */
static void *watcher(void *argument)
{
	struct ioasid_watch *watch = argument;
	uint64_t n = 0, lost = 0, last = 0;

	for (;;) {
		struct ioasid_event *event;
		struct ioasid_error *error;
		int r = ioasid_watch_next_event(watch, IOASID_NO_TIMEOUT, &event, &error);

		if (r < 0) {
			CHECK(r == -ECANCELED);
			ioasid_error_free(error);
			break;
		}
		CHECK(event->sequence > last);
		last = event->sequence;
		lost += event->lost;
		n++;
		ioasid_event_free(event);
	}
	CHECK(n + lost >= 2 * N_WORKERS * N_ROUNDS);
	return NULL;
}

static void register_memory(void)
{
	int fd = memfd_create("live", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct ioasid_memory *registered;
	struct ioasid_error *error;
	void *bytes;

	if (fd < 0 || ftruncate(fd, MEMORY_SIZE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		abort();
	bytes = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (bytes == MAP_FAILED)
		abort();
	munmap(bytes, MEMORY_SIZE);
	if (!ok("register",
		ioasid_register_memory(client, NULL, fd, 0, 0, IOASID_READ | IOASID_WRITE, "live",
				       &registered, &error),
		&error))
		exit(EXIT_FAILURE);
	memory = registered->id;
	ioasid_memory_free(registered);
	close(fd);
}

static void check_nothing_left(void)
{
	struct ioasid_quota *quota;
	struct ioasid_error *error;

	ok("close", ioasid_lease_close(client, NULL, &error), &error);
	if (!ok("quota", ioasid_quota_get(client, NULL, &quota, &error), &error))
		return;
	for (size_t i = 0; i < quota->n_resources; i++) {
		const struct ioasid_resource_usage *usage = quota->resources[i];

		if (!strcmp(usage->resource, "ioasids") ||
		    !strcmp(usage->resource, "map_entries") ||
		    !strcmp(usage->resource, "registered_bytes"))
			CHECK(!usage->used);
	}
	ioasid_quota_free(quota);
}

int main(void)
{
	pthread_t workers[N_WORKERS], cancellers[N_CANCELLERS], watching;
	struct ioasid_watch *watch;
	struct ioasid_error *error;

	if (!ok("connect", ioasid_connect(NULL, NULL, &client, &error), &error) ||
	    !ok("watch", ioasid_watch_events(client, NULL, NULL, &watch, &error), &error))
		return EXIT_FAILURE;
	register_memory();
	pthread_create(&watching, NULL, watcher, watch);
	for (size_t i = 0; i < N_WORKERS; i++)
		pthread_create(&workers[i], NULL, worker, NULL);
	for (size_t i = 0; i < N_CANCELLERS; i++)
		pthread_create(&cancellers[i], NULL, canceller, NULL);
	for (size_t i = 0; i < N_WORKERS; i++)
		pthread_join(workers[i], NULL);
	over = true;
	for (size_t i = 0; i < N_CANCELLERS; i++)
		pthread_join(cancellers[i], NULL);
	check_nothing_left();
	/* The last events may be on their way. */
	poll(NULL, 0, 500);
	ioasid_watch_cancel(watch);
	pthread_join(watching, NULL);
	ioasid_watch_close(watch);
	ioasid_client_unref(client);
	printf("%u rounds, %u tokens fired, %u failures\n", N_WORKERS * N_ROUNDS, n_cancelled,
	       failures);
	return failures || !n_cancelled ? EXIT_FAILURE : EXIT_SUCCESS;
}
