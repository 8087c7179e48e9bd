/* SPDX-License-Identifier: Apache-2.0 */
/* P6, what a server costs that nobody uses; and what one costs that is used. */
#include "bench.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A number after a name in a /proc status file; 0: there is none. */
static unsigned long status_number(const char *path, const char *name)
{
	unsigned long value = 0;
	char line[256];
	FILE *file = fopen(path, "r");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			value = strtoul(line + strlen(name), NULL, 10);
	if (file)
		fclose(file);
	return value;
}

/* Times that any thread went from sleeping to running. */
static unsigned long wakeups(pid_t pid)
{
	unsigned long sum = 0;
	char path[300];
	struct dirent *entry;
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	threads = opendir(path);
	while (threads && (entry = readdir(threads))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%.32s/status", pid, entry->d_name);
		sum += status_number(path, "voluntary_ctxt_switches:");
	}
	if (threads)
		closedir(threads);
	return sum;
}

uint64_t process_cpu_ns(pid_t pid)
{
	uint64_t sum = 0;
	char path[300];
	struct dirent *entry;
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	threads = opendir(path);
	while (threads && (entry = readdir(threads))) {
		uint64_t ns;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/task/%.32s/schedstat", pid, entry->d_name);
		file = fopen(path, "r");
		if (file && fscanf(file, "%" SCNu64, &ns) == 1)
			sum += ns;
		if (file)
			fclose(file);
	}
	if (threads)
		closedir(threads);
	return sum;
}

void idle_report(pid_t pid, double seconds)
{
	struct timespec settle = {.tv_sec = 3};
	struct timespec pause = {.tv_sec = (time_t)seconds};
	unsigned long before;
	char path[64];

	nanosleep(&settle, NULL);
	before = wakeups(pid);
	nanosleep(&pause, NULL);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	printf("P6  idle: RSS %.1f MB (goal <= 20), %.1f wake-ups a minute (goal 0 without a "
	       "watchdog), %lu threads\n",
	       status_number(path, "VmRSS:") / 1024.0, (wakeups(pid) - before) * 60 / seconds,
	       status_number(path, "Threads:"));
}
