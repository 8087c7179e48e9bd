/* SPDX-License-Identifier: Apache-2.0 */
/* See log.h.  One write(2) a line, so that lines of threads do not mix. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void keeper_log(int level, const char *format, ...)
{
	char line[1024];
	size_t n = 0;
	va_list args;

	if (getenv("JOURNAL_STREAM"))
		n = snprintf(line, sizeof(line), "<%d>", level);
	n += snprintf(line + n, sizeof(line) - n, "ioasid-keeper: ");
	va_start(args, format);
	vsnprintf(line + n, sizeof(line) - 1 - n, format, args);
	va_end(args);
	n = strlen(line);
	line[n] = '\n';
	/* Nobody is left to be told that the log is gone. */
	if (write(STDERR_FILENO, line, n + 1) < 0)
		return;
}
