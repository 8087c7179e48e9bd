/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The list of formats that the software IOMMU can walk and build.  Order is the order of
 * preference in a device's capabilities.
 */

#include "soft/format.h"

#include <string.h>

static const struct soft_format *const formats[] = {
	&soft_format_x86_64_4l, &soft_format_x86_64_5l, &soft_format_vtdss_4l,
	&soft_format_vtdss_5l,	&soft_format_vtdss_3l,	&soft_format_ept_4l,
	&soft_format_ept_5l,
};

const struct soft_format *soft_format_at(size_t index)
{
	return index < sizeof(formats) / sizeof(formats[0]) ? formats[index] : NULL;
}

const struct soft_format *soft_format_find(enum shim_format id)
{
	const struct soft_format *format;

	for (size_t i = 0; (format = soft_format_at(i)); i++)
		if (format->id == id)
			return format;
	return NULL;
}

const struct soft_format *soft_format_by_name(const char *name, size_t length)
{
	const struct soft_format *format;

	for (size_t i = 0; (format = soft_format_at(i)); i++)
		if (strlen(format->name) == length && !memcmp(format->name, name, length))
			return format;
	return NULL;
}
