/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a guest program reports: one line a check, which tests/guest/run counts.  A program goes
 * on after a check that failed, unless what follows would mean nothing without it (need()).
 */
#ifndef TESTS_GUEST_REPORT_H
#define TESTS_GUEST_REPORT_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int report_failed __attribute__((unused));

/* "ok NAME", or "not ok NAME: why".  Returns good. */
static inline int report(int good, const char *name, const char *why)
{
	if (good) {
		printf("ok %s\n", name);
	} else {
		printf("not ok %s: %s\n", name, why);
		report_failed = 1;
	}
	fflush(stdout);
	return good;
}

/* A call that returns 0, a descriptor, or -errno. */
static inline int report_call(int ret, const char *name)
{
	return report(ret >= 0, name, ret < 0 ? strerror(-ret) : "");
}

/* A call that must return exactly -error. */
static inline void report_refused(int ret, int error, const char *name)
{
	char why[160];

	snprintf(why, sizeof(why), "got %s, not %s", ret < 0 ? strerror(-ret) : "success",
		 strerror(error));
	report(ret == -error, name, why);
}

/* The same, and the end of the program if it fails. */
static inline void need(int ret, const char *name)
{
	if (!report_call(ret, name))
		exit(1);
}

#endif
