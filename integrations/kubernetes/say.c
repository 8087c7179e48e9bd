/* SPDX-License-Identifier: Apache-2.0 */
/* One write a line, so that threads do not mix theirs. */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME "ioasid-device-plugin: "

void say(const char *format, ...)
{
	char line[1024] = NAME;
	size_t n = strlen(NAME);
	va_list args;

	va_start(args, format);
	vsnprintf(line + n, sizeof(line) - n - 1, format, args);
	va_end(args);
	for (; line[n]; n++)
		if ((unsigned char)line[n] < ' ' || line[n] == 0x7f)
			line[n] = '?';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0) {
		/* Nobody reads it. */
	}
}
