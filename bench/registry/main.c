/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Figures of the registry, on /dev/shm, each beside those of stores that could have been chosen:
 *
 *	1 an Alloc: the transaction of its intent and that of its result, ROUNDS x PAIRS
 *	2 a start: reading a million objects, each put alone, and put in hundreds
 *	3 bytes an object
 *
 * The stores take turns; what is compared is the median of the rounds' ratios, which says
 * something on a busy machine, too.  Nothing here passes or fails.
 */

#include "bench.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS	15
#define PAIRS	20000
#define LOADS	5
#define OBJECTS 1000000u

static const struct store *const stores[] = {
	&store_log,
#ifdef WITH_LMDB
	&store_lmdb,
#endif
#ifdef WITH_SQLITE
	&store_sqlite,
#endif
};
#define N_STORES (sizeof(stores) / sizeof(stores[0]))

void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "bench_registry: %s failed\n", what);
		exit(1);
	}
}

/* Of this thread, in user and in kernel: what others do meanwhile does not count. */
static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare);
	return values[n / 2];
}

uint64_t file_bytes(const char *folder, const char *name)
{
	char path[300];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return stat(path, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

static void folder_make(char folder[64])
{
	snprintf(folder, 64, "/dev/shm/ioasid-bench-XXXXXX");
	must(mkdtemp(folder), "mkdtemp");
}

static void folder_remove(const char *folder)
{
	struct dirent *entry;
	char path[400];
	DIR *dir = opendir(folder);

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (entry->d_name[0] != '.')
			unlink(path);
	}
	if (dir)
		closedir(dir);
	rmdir(folder);
}

/* A compaction of the log is not in these figures; what it costs is below. */
static void bench_alloc(void)
{
	static double times[N_STORES][ROUNDS], ratios[N_STORES][ROUNDS];
	char folders[N_STORES][64];
	void *opened[N_STORES];
	uint64_t n = 0;

	for (size_t s = 0; s < N_STORES; s++) {
		folder_make(folders[s]);
		opened[s] = stores[s]->open(folders[s]);
	}
	for (unsigned round = 0; round < ROUNDS; round++, n += PAIRS) {
		for (size_t s = 0; s < N_STORES; s++) {
			const double start = now_ns();
			struct alloc alloc;

			for (uint64_t i = 0; i < PAIRS; i++) {
				alloc_make(n + i, &alloc);
				stores[s]->apply(opened[s], alloc.intent, 1);
				stores[s]->apply(opened[s], alloc.result, 3);
			}
			times[s][round] = (now_ns() - start) / PAIRS;
			ratios[s][round] = times[s][round] / times[0][round];
		}
	}
	printf("1 intent and result of an Alloc, ns a pair\n");
	for (size_t s = 0; s < N_STORES; s++) {
		printf("  %-8s %9.0f  x %6.2f\n", stores[s]->name, median(times[s], ROUNDS),
		       median(ratios[s], ROUNDS));
		stores[s]->close(opened[s]);
		folder_remove(folders[s]);
	}
}

/* The n objects, put in transactions of so many; none spans two leases. */
static double fill(const struct store *store, const char *folder, unsigned many)
{
	static struct object objects[OBJECTS_PER_LEASE];
	static struct record records[OBJECTS_PER_LEASE];
	void *opened = store->open(folder);
	const double start = now_ns();
	double time;

	for (uint64_t n = 0; n < OBJECTS; n += many) {
		for (unsigned i = 0; i < many; i++) {
			object_make(n + i, &objects[i]);
			records[i] = objects[i].record;
		}
		store->apply(opened, records, many);
	}
	time = now_ns() - start;
	store->close(opened);
	return time / 1e6;
}

static void bench_load(unsigned many)
{
	printf("2 a million objects, %u a transaction: ms to put, ms to read, bytes an object\n",
	       many);
	for (size_t s = 0; s < N_STORES; s++) {
		double times[LOADS], put;
		char folder[64];

		folder_make(folder);
		put = fill(stores[s], folder, many);
		for (unsigned i = 0; i < LOADS; i++) {
			const double start = now_ns();

			must(stores[s]->load(folder) == OBJECTS, "load");
			times[i] = (now_ns() - start) / 1e6;
		}
		printf("  %-8s %9.0f %9.0f %9.1f\n", stores[s]->name, put, median(times, LOADS),
		       (double)stores[s]->bytes(folder) / OBJECTS);
		folder_remove(folder);
	}
}

/*
 * What a compaction of a million objects comes to, the third in a row: the spare holds a whole
 * old log, and nothing was appended meanwhile that would have cleaned it bit by bit.
 */
static void bench_compaction(void)
{
	static const struct registry_boot_id boot = {{1}};
	struct registry *registry;
	struct registry_stats stats;
	double begin, copy, commit;
	char folder[64];

	folder_make(folder);
	fill(&store_log, folder, 1);
	registry = store_log.open(folder);
	for (unsigned i = 0; i < 3; i++) {
		Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
		Ioasid__Registry__Mapping *mappings[1];
		struct object object;

		begin = now_ns();
		must(!registry_begin(registry, &boot, NULL), "registry_begin");
		copy = now_ns();
		for (uint64_t n = 11; n < OBJECTS; n++) {
			object_make(n % OBJECTS_PER_LEASE > 10 ? n : 11, &object);
			mappings[0] = &object.mapping;
			batch.mappings = mappings;
			batch.n_mappings = 1;
			must(!registry_append_new(registry, object.record.lease, &batch),
			     "registry_append_new");
		}
		commit = now_ns();
		must(!registry_commit(registry), "registry_commit");
	}
	registry_stats(registry, &stats);
	printf("3 a compaction of a million: begin %.2f ms, %.0f ns an object, commit %.2f ms;"
	       " %.0f bytes an object allocated\n",
	       (copy - begin) / 1e6, (commit - copy) / OBJECTS, (now_ns() - commit) / 1e6,
	       (double)stats.allocated / OBJECTS);
	registry_close(registry);
	folder_remove(folder);
}

int main(void)
{
	bench_alloc();
	bench_load(1);
	bench_load(100);
	bench_compaction();
	return 0;
}
