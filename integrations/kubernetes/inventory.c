/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices are sorted by group and address, so that a group is a run of them and every name
 * and order follows from the addresses alone.
 */
#include "inventory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_group(const void *a, const void *b)
{
	const struct inventory_device *x = a, *y = b;

	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	return strcmp(x->address, y->address);
}

static int by_name(const void *a, const void *b)
{
	const struct inventory_id *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static bool device_matches(const struct config_resource *resource,
			   const struct inventory_device *device)
{
	const char *pattern = resource->vendor_device;

	if (resource->class_prefix)
		return !strncmp(device->class_code, resource->class_prefix,
				strlen(resource->class_prefix));
	if (pattern)
		return pattern[5] == '*' ? !strncmp(device->vendor_device, pattern, 5)
					 : !strcmp(device->vendor_device, pattern);
	for (size_t i = 0; i < resource->n_addresses; i++)
		if (!strcmp(resource->addresses[i], device->address))
			return true;
	return false;
}

/* -1: none. */
static int group_resource(const struct config *config, const struct inventory_device *devices,
			  size_t n)
{
	for (size_t i = 0; i < config->n_resources; i++)
		for (size_t k = 0; k < n; k++)
			if (!config->resources[i].ioas &&
			    device_matches(&config->resources[i], &devices[k]))
				return i;
	return -1;
}

/*
 * All addresses where they have room; else the first, which no other group has, and how many
 * follow it.
 */
static char *group_name(const struct inventory_device *devices, size_t n)
{
	char name[INVENTORY_NAME_SIZE];
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		int more = snprintf(name + at, sizeof(name) - at, "%s%s", i ? "_" : "",
				    devices[i].address);

		if (more >= (int)(sizeof(name) - at)) {
			snprintf(name, sizeof(name), "%.20s_and-%zu", devices[0].address, n - 1);
			break;
		}
		at += more;
	}
	for (char *p = name; *p; p++)
		if (*p == ':')
			*p = '-';
	return strdup(name);
}

static int group_id(const struct inventory_device *devices, size_t n, bool alive,
		    struct inventory_id *id)
{
	id->addresses = calloc(n, sizeof(*id->addresses));
	id->name = group_name(devices, n);
	if (!id->addresses || !id->name)
		return -ENOMEM;
	id->numa_node = devices[0].numa_node;
	id->healthy = alive;
	for (size_t i = 0; i < n; i++) {
		id->addresses[id->n_addresses] = strdup(devices[i].address);
		if (!id->addresses[id->n_addresses])
			return -ENOMEM;
		id->n_addresses++;
		id->healthy = id->healthy && devices[i].usable;
		if (devices[i].numa_node != id->numa_node)
			id->numa_node = -1;
	}
	return 0;
}

static struct inventory_id *resource_append(struct inventory_resource *resource)
{
	struct inventory_id *ids;

	/* Powers of two, from 8 on. */
	if (resource->n_ids < 8 ? !resource->n_ids : !(resource->n_ids & (resource->n_ids - 1))) {
		ids = realloc(resource->ids,
			      (resource->n_ids < 8 ? 8 : 2 * resource->n_ids) * sizeof(*ids));
		if (!ids)
			return NULL;
		resource->ids = ids;
	}
	ids = &resource->ids[resource->n_ids++];
	memset(ids, 0, sizeof(*ids));
	ids->numa_node = -1;
	return ids;
}

static bool is_incomplete(const struct inventory_device *devices, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (devices[i].incomplete)
			return true;
	return false;
}

static int add_groups(const struct config *config, const struct inventory_device *devices,
		      size_t n_devices, bool alive, struct inventory *inventory)
{
	size_t n;

	for (size_t i = 0; i < n_devices; i += n) {
		struct inventory_resource *resource;
		struct inventory_id *id;
		int index, r;

		for (n = 1; i + n < n_devices && devices[i + n].group == devices[i].group; n++)
			;
		index = group_resource(config, &devices[i], n);
		if (index < 0 || is_incomplete(&devices[i], n))
			continue;
		resource = &inventory->resources[index];
		if (resource->n_ids == INVENTORY_IDS_MAX)
			continue;
		id = resource_append(resource);
		if (!id)
			return -ENOMEM;
		r = group_id(&devices[i], n, alive, id);
		if (r)
			return r;
	}
	return 0;
}

static int add_spaces(const struct config_resource *from, bool alive,
		      struct inventory_resource *resource)
{
	for (uint32_t i = 0; i < from->ioas; i++) {
		struct inventory_id *id = resource_append(resource);

		if (!id)
			return -ENOMEM;
		/* The suffix keeps two such resources from one folder. */
		if (asprintf(&id->name, "%s-%04u", from->suffix, i) < 0) {
			id->name = NULL;
			return -ENOMEM;
		}
		id->healthy = alive;
	}
	return 0;
}

/* Several tenants tell of the same device: it is as for the one that may have most. */
static size_t merge(struct inventory_device *devices, size_t n)
{
	size_t kept = 0;

	qsort(devices, n, sizeof(*devices), by_group);
	for (size_t i = 0; i < n; i++) {
		if (!kept || strcmp(devices[kept - 1].address, devices[i].address)) {
			devices[kept++] = devices[i];
			continue;
		}
		devices[kept - 1].usable = devices[kept - 1].usable || devices[i].usable;
		devices[kept - 1].incomplete =
			devices[kept - 1].incomplete && devices[i].incomplete;
	}
	return kept;
}

int inventory_new(const struct config *config, const struct inventory_device *devices,
		  size_t n_devices, bool alive, struct inventory **ret_inventory)
{
	struct inventory_device *sorted = calloc(n_devices + 1, sizeof(*sorted));
	struct inventory *inventory = calloc(1, sizeof(*inventory));
	int r = -ENOMEM;

	if (!sorted || !inventory)
		goto out;
	inventory->resources = calloc(config->n_resources + 1, sizeof(*inventory->resources));
	if (!inventory->resources)
		goto out;
	inventory->n_resources = config->n_resources;
	if (n_devices)
		memcpy(sorted, devices, n_devices * sizeof(*sorted));
	r = add_groups(config, sorted, merge(sorted, n_devices), alive, inventory);
	for (size_t i = 0; i < config->n_resources && !r; i++)
		r = add_spaces(&config->resources[i], alive, &inventory->resources[i]);
	if (r)
		goto out;
	for (size_t i = 0; i < inventory->n_resources; i++)
		if (inventory->resources[i].n_ids)
			qsort(inventory->resources[i].ids, inventory->resources[i].n_ids,
			      sizeof(struct inventory_id), by_name);
	*ret_inventory = inventory;
	inventory = NULL;
out:
	inventory_free(inventory);
	free(sorted);
	return r;
}

void inventory_free(struct inventory *inventory)
{
	if (!inventory)
		return;
	for (size_t i = 0; i < inventory->n_resources; i++) {
		struct inventory_resource *resource = &inventory->resources[i];

		for (size_t k = 0; k < resource->n_ids; k++) {
			for (size_t m = 0; m < resource->ids[k].n_addresses; m++)
				free(resource->ids[k].addresses[m]);
			free(resource->ids[k].addresses);
			free(resource->ids[k].name);
		}
		free(resource->ids);
	}
	free(inventory->resources);
	free(inventory);
}

bool inventory_resource_equal(const struct inventory_resource *a,
			      const struct inventory_resource *b)
{
	if (a->n_ids != b->n_ids)
		return false;
	for (size_t i = 0; i < a->n_ids; i++) {
		const struct inventory_id *x = &a->ids[i], *y = &b->ids[i];

		/* What a kubelet is told; the addresses are in the name, or counted there. */
		if (strcmp(x->name, y->name) || x->healthy != y->healthy ||
		    x->numa_node != y->numa_node)
			return false;
	}
	return true;
}

const struct inventory_id *inventory_find(const struct inventory_resource *resource,
					  const char *name)
{
	const struct inventory_id key = {.name = (char *)name};

	if (!resource->n_ids)
		return NULL;
	return bsearch(&key, resource->ids, resource->n_ids, sizeof(key), by_name);
}
