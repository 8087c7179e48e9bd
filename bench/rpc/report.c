/* SPDX-License-Identifier: Apache-2.0 */
/* Percentiles, medians, and the end of a run that cannot go on. */
#include "bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void die(const char *format, ...)
{
	va_list arguments;

	fputs("bench_rpc: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

void samples_add(struct samples *samples, uint64_t ns)
{
	if (samples->n == samples->capacity) {
		size_t capacity = samples->capacity ? samples->capacity * 2 : 65536;

		samples->ns = reallocarray(samples->ns, capacity, sizeof(*samples->ns));
		if (!samples->ns)
			die("out of memory");
		samples->capacity = capacity;
	}
	samples->ns[samples->n++] = ns > UINT32_MAX ? UINT32_MAX : ns;
}

static int compare_ns(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

double samples_percentile_us(struct samples *samples, double p)
{
	if (!samples->n)
		return 0;
	qsort(samples->ns, samples->n, sizeof(*samples->ns), compare_ns);
	return samples->ns[(size_t)(p * (samples->n - 1))] / 1e3;
}

void samples_free(struct samples *samples)
{
	free(samples->ns);
	*samples = (struct samples){0};
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare_double);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}
