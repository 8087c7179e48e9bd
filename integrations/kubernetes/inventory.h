/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_INVENTORY_H
#define KUBERNETES_INVENTORY_H

/*
 * What is offered: for each resource of the configuration its ids, made from the devices that
 * the broker told of.  An isolation group is one id of one resource, or none: the first
 * resource that one of its devices matches has all of it, and it is healthy only if every one
 * of its devices may be had.  A group of which no tenant may have the whole is not offered.
 *
 * Pure: no I/O, no clock.  An inventory never changes once it is made (any thread).
 */

#include "config.h"

/* One device as one tenant sees it. */
struct inventory_device {
	const char *address;
	const char *vendor_device;
	const char *class_code;
	uint32_t group;
	int32_t numa_node;
	/* Free, or held by a lease of this plugin. */
	bool usable;
	/* Its group has devices that this tenant may not have. */
	bool incomplete;
};

struct inventory_id {
	/* [A-Za-z0-9._-], the name of a folder: "0000-02-00.0_0000-02-00.1", "ioas-0007". */
	char *name;
	/* In order; none for an id without a device. */
	size_t n_addresses;
	char **addresses;
	/* Of all of them; -1: unknown, or not one. */
	int32_t numa_node;
	bool healthy;
};

struct inventory_resource {
	/* In order of their names. */
	size_t n_ids;
	struct inventory_id *ids;
};

struct inventory {
	size_t n_resources;
	struct inventory_resource *resources;
};

/* An id's name with its NUL. */
#define INVENTORY_NAME_SIZE 128
/* Groups beyond this are not offered, however many the broker tells of. */
#define INVENTORY_IDS_MAX 4096

/* alive false: the broker is gone, and nothing is healthy.  Devices may be there repeatedly. */
int inventory_new(const struct config *config, const struct inventory_device *devices,
		  size_t n_devices, bool alive, struct inventory **ret_inventory);
void inventory_free(struct inventory *inventory);
bool inventory_resource_equal(const struct inventory_resource *a,
			      const struct inventory_resource *b);
/* NULL: no such id. */
const struct inventory_id *inventory_find(const struct inventory_resource *resource,
					  const char *name);

#endif
