/* SPDX-License-Identifier: Apache-2.0 */
/* See reason.h. */
#include "reason.h"

#include "client.h"

#include <stdarg.h>
#include <stdio.h>

int reason_refuse(char *ret_reason, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ret_reason, KEEPER_REASON_MAX, format, args);
	va_end(args);
	return error;
}
