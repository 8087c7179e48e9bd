/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The armed place of ioasidd_crash.  Compiled into that program only.
 *
 * The environment is read once, before there are other threads (the first call is made where
 * the broker is made).  Only "shim" is passed on workers; the count is atomic for that.
 */
#include "server/broker/fault_point.h"

#include <signal.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	bool read;
	char method[64];
	char step[64];
	atomic_uint left; /* 0: not armed */
	const char *file; /* NULL: at any time */
	const char *here;
	const struct op *_Atomic op;
} armed;

static void read_environment(void)
{
	const char *text = getenv("IOASID_CRASH");
	unsigned n = 1;

	armed.read = true;
	armed.file = getenv("IOASID_CRASH_WHILE");
	if (text && sscanf(text, "%63[^:]:%63[^:]:%u", armed.method, armed.step, &n) >= 2)
		armed.left = n;
}

static bool is_any(const char *word)
{
	return !strcmp(word, "any");
}

static bool is_armed_for(const char *method)
{
	const char *slash;

	if (!armed.read)
		read_environment();
	if (!armed.left)
		return false;
	if (is_any(armed.method))
		return true;
	if (!method)
		return false;
	slash = strrchr(method, '/');
	return !strcmp(slash ? slash + 1 : method, armed.method);
}

void fault_point(const char *method, const char *step)
{
	if (is_armed_for(method) && (is_any(armed.step) || !strcmp(step, armed.step)) &&
	    (!armed.file || !access(armed.file, F_OK)) && atomic_fetch_sub(&armed.left, 1) == 1)
		raise(SIGKILL);
}

void fault_point_enter(const char *method)
{
	armed.here = method;
}

void fault_point_here(const char *step)
{
	fault_point(armed.here, step);
}

void fault_point_start(const struct op *op, const char *method)
{
	if (is_armed_for(method))
		armed.op = op;
}

void fault_point_ran(const struct op *op)
{
	if (armed.left && (armed.op == op || is_any(armed.method)))
		fault_point(armed.method, "shim");
}
