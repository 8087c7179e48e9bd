/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BENCH_MEASURE_H
#define IOASID_BENCH_MEASURE_H

/*
 * How the benchmarks of the software IOMMU measure: the time of this thread, rounds that
 * alternate with a baseline, and the median of their ratios, which says something on a busy
 * machine too.  One thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define ROUNDS 15
#define K4     (4ull << 10)
#define M2     (2ull << 20)
#define G1     (1ull << 30)

static inline void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "bench: %s failed\n", what);
		exit(1);
	}
}

/* Of this thread, in user and in kernel: what others do meanwhile does not count. */
static inline double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static inline uint64_t rnd(void)
{
	static uint64_t seed = 88172645463325252ull;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static inline int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static inline double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	return values[ROUNDS / 2];
}

/* The compiler must not drop what is computed, nor start it before. */
static inline void use(uint64_t value)
{
	__asm__ volatile("" : : "r"(value) : "memory");
}

/* A random cycle through this many bytes, one pointer a cache line. */
static inline uint64_t *make_chase(uint64_t bytes)
{
	uint64_t n = bytes / 64, *chase;
	uint32_t *order;

	chase = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	order = malloc(n * sizeof(*order));
	must(chase != MAP_FAILED && order, "memory");
	for (uint64_t i = 0; i < n; i++)
		order[i] = (uint32_t)i;
	for (uint64_t i = n - 1; i > 0; i--) {
		uint64_t k = rnd() % i;
		uint32_t t = order[i];

		order[i] = order[k];
		order[k] = t;
	}
	for (uint64_t i = 0; i < n; i++)
		chase[8ull * order[i]] = 8ull * order[(i + 1) % n];
	free(order);
	return chase;
}

#endif
