/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_CDI_H
#define IOASID_CLI_CDI_H

/*
 * CDI files (Container Device Interface, cdiVersion 0.5.0) of kind ioasid.io/device: one file a
 * tenant, one name for each device that the tenant may have.  What a name does is call
 * ioasid-oci-hook with tenant and device, say in the environment where program and lease find
 * each other, and let the device's VFIO node in, if it has one.
 */

#include <stdbool.h>
#include <stddef.h>

struct json_object;

#define CDI_KIND "ioasid.io/device"

struct cdi_maker {
	const char *tenant;
	const char *hook;	 /* path of ioasid-oci-hook */
	const char *hook_config; /* NULL: the hook's own default */
};

struct cdi_device {
	const char *address;
	char *node; /* path of its VFIO node; NULL: it has none, or not for long */
};

/*
 * "acme-web-0000_01_00.0"; free().  A slash of the tenant is "-", a hyphen "--", and the
 * device is what stands behind the last "-": no two pairs have one name, since a component
 * of a tenant begins with a letter or digit.
 */
char *cdi_name(const char *tenant, const char *device);
/* "ioasid-acme-web.json"; free(). */
char *cdi_file_name(const char *tenant);
struct json_object *cdi_spec(const struct cdi_maker *maker, const struct cdi_device *devices,
			     size_t n);
/* Tenant and device of an element of "devices"; false: not made here.  Borrowed. */
bool cdi_device_of(struct json_object *device, const char **ret_tenant, const char **ret_address);
/* The node that such a file names for a device; NULL: none.  Borrowed. */
const char *cdi_node_in(struct json_object *spec, const char *tenant, const char *device);

#endif
