/* SPDX-License-Identifier: Apache-2.0 */
/* See nodes.h.  Whose a node is, sysfs says by its number, whatever its name in the container. */
#include "integrations/oci/nodes.h"

#include "integrations/oci/ask.h"
#include "integrations/oci/bundle.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/scope.h"
#include "integrations/oci/strict.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define WHAT "config.json of the bundle: linux"

static bool is_asked_for(const struct ask *ask, const char *device)
{
	for (size_t i = 0; i < ask->n_devices; i++)
		if (!strcmp(ask->devices[i], device))
			return true;
	return false;
}

/*
 * The device whose VFIO node has this number: in ".../0000:02:00.0/vfio-dev/vfio0" the component
 * before vfio-dev.  1: no node of VFIO's.
 */
static int device_of(const char *sysfs, uint64_t major, uint64_t minor, char ret_device[PATH_MAX])
{
	_cleanup_free_ char *path = NULL;
	char target[PATH_MAX], *end, *start;
	ssize_t n;

	if (asprintf(&path, "%s/dev/char/%" PRIu64 ":%" PRIu64, sysfs, major, minor) < 0) {
		path = NULL;
		return hook_fail(-ENOMEM, "out of memory");
	}
	n = readlink(path, target, sizeof(target) - 1);
	/* No device of the host has this number: there is nothing to open. */
	if (n < 0 && errno == ENOENT)
		return 1;
	if (n < 0 || n == sizeof(target) - 1)
		return hook_fail(n < 0 ? -errno : -ENAMETOOLONG, "%s: %s", path,
				 strerror(n < 0 ? errno : ENAMETOOLONG));
	target[n] = '\0';
	end = strstr(target, "/vfio-dev/");
	if (!end)
		return 1;
	*end = '\0';
	start = strrchr(target, '/');
	snprintf(ret_device, PATH_MAX, "%s", start ? start + 1 : target);
	return 0;
}

static int check_one(struct json_object *node, const struct ask *ask, const char *sysfs)
{
	static const char what[] = WHAT ".devices";
	struct json_object *major, *minor;
	char device[PATH_MAX];
	const char *type, *path;
	int r;

	if (!json_object_is_type(node, json_type_object))
		return hook_fail(-EINVAL, "%s: expected objects", what);
	r = strict_text(node, what, "type", true, &type);
	if (!r)
		r = strict_text(node, what, "path", true, &path);
	/* "u" is another word for "c". */
	if (r < 0 || (strcmp(type, "c") && strcmp(type, "u")))
		return r;
	/* Without a number the runtime has nothing to make. */
	if (!json_object_object_get_ex(node, "major", &major) ||
	    !json_object_object_get_ex(node, "minor", &minor))
		return 0;
	r = device_of(sysfs, json_object_get_uint64(major), json_object_get_uint64(minor), device);
	if (r)
		return r < 0 ? r : 0;
	if (is_asked_for(ask, device))
		return 0;
	return hook_fail(
		-EPERM,
		"%s is the node of %s, which the container does not ask for; if its name is "
		"of a CDI file, write that anew (ioasidctl cdi generate)",
		path, device);
}

int nodes_check(const struct bundle *bundle, const struct ask *ask, const char *sysfs)
{
	struct json_object *linux_part, *list = NULL;
	int r = strict_object(bundle->document, "config.json of the bundle", "linux", false,
			      &linux_part);

	if (!r && linux_part)
		r = strict_array(linux_part, WHAT, "devices", false, &list);
	for (size_t i = 0; !r && list && i < json_object_array_length(list); i++)
		r = check_one(json_object_array_get_idx(list, i), ask, sysfs);
	return r;
}
