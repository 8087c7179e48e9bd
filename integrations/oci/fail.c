/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See fail.h.  The text comes from the broker, from annotations and from file names, and goes
 * to terminals and logs: what would move a cursor is shown as "?", and a line stays one line.
 */
#include "integrations/oci/fail.h"

#include "integrations/json/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char message[2048];

static void store(const char *format, va_list args)
{
	if (message[0])
		return;
	vsnprintf(message, sizeof(message), format, args);
	utf8_make_plain(message);
}

int hook_fail(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	store(format, args);
	va_end(args);
	return error;
}

/* What the line for people does not say by itself: which companion, which other field. */
static void add_violations(const struct ioasid_error *error)
{
	size_t n = strlen(message);

	for (size_t i = 0; i < error->n_violations && n < sizeof(message) - 1; i++) {
		const struct ioasid_violation *v = &error->violations[i];

		if (v->kind == IOASID_VIOLATION_QUOTA || strstr(error->message, v->description))
			continue;
		snprintf(message + n, sizeof(message) - n, "; %s: %s", v->subject, v->description);
		n = strlen(message);
	}
	utf8_make_plain(message);
}

int hook_fail_broker(struct ioasid_error *error, const char *format, ...)
{
	int r = error->error;
	char what[512];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (!message[0]) {
		hook_fail(r, "%s: %s [%s]", what, error->message, error->reason);
		add_violations(error);
	}
	ioasid_error_free(error);
	return r;
}

const char *hook_message(void)
{
	return message[0] ? message : NULL;
}

void hook_forgive(void)
{
	message[0] = '\0';
}
