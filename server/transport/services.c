/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the standard services; see services.h. */
#include "services.h"

#include <string.h>

const struct service_method *service_find(const char *path, size_t length)
{
	static const struct service_method *const methods[] = {
		&health_check,
		&health_watch,
		&reflection_info,
	};

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strlen(methods[i]->path) == length && !memcmp(methods[i]->path, path, length))
			return methods[i];
	return NULL;
}
