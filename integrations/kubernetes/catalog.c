/* SPDX-License-Identifier: Apache-2.0 */
/* A lock around inventory.c. */
#include "catalog.h"
#include "prefer.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct catalog {
	pthread_mutex_t lock;
	struct inventory *inventory;
};

int catalog_new(struct inventory *inventory, struct catalog **ret_catalog)
{
	struct catalog *catalog = calloc(1, sizeof(*catalog));

	if (!catalog)
		return -ENOMEM;
	pthread_mutex_init(&catalog->lock, NULL);
	catalog->inventory = inventory;
	*ret_catalog = catalog;
	return 0;
}

void catalog_free(struct catalog *catalog)
{
	if (!catalog)
		return;
	inventory_free(catalog->inventory);
	pthread_mutex_destroy(&catalog->lock);
	free(catalog);
}

void catalog_replace(struct catalog *catalog, struct inventory *inventory)
{
	struct inventory *last;

	pthread_mutex_lock(&catalog->lock);
	last = catalog->inventory;
	catalog->inventory = inventory;
	pthread_mutex_unlock(&catalog->lock);
	inventory_free(last);
}

/* Under the lock. */
static int check(const struct inventory_resource *resource, char *const *ids, size_t n,
		 char problem[CONFIG_PROBLEM_SIZE])
{
	if (!n || n > resource->n_ids) {
		snprintf(problem, CONFIG_PROBLEM_SIZE, "%zu ids asked for, and there are %zu", n,
			 resource->n_ids);
		return CATALOG_E_UNKNOWN;
	}
	for (size_t i = 0; i < n; i++) {
		bool again = false;

		for (size_t k = 0; k < i; k++)
			again = again || !strcmp(ids[k], ids[i]);
		if (again || !inventory_find(resource, ids[i])) {
			snprintf(problem, CONFIG_PROBLEM_SIZE, "id \"%.64s\" is %s", ids[i],
				 again ? "there twice" : "none of this resource (any more)");
			return CATALOG_E_UNKNOWN;
		}
	}
	return 0;
}

int catalog_check(struct catalog *catalog, unsigned resource, char *const *ids, size_t n,
		  char problem[CONFIG_PROBLEM_SIZE])
{
	int r;

	pthread_mutex_lock(&catalog->lock);
	r = check(&catalog->inventory->resources[resource], ids, n, problem);
	pthread_mutex_unlock(&catalog->lock);
	return r;
}

static int fill(const struct inventory_resource *resource, char *const *ids, size_t n,
		struct record *record, char problem[CONFIG_PROBLEM_SIZE])
{
	int r = check(resource, ids, n, problem);

	if (!r)
		r = record_set_ids(record, ids, n);
	/* A start that waits for its pod asks again. */
	record_drop_devices(record);
	for (size_t i = 0; i < record->n_ids && !r; i++) {
		const struct inventory_id *id = inventory_find(resource, record->ids[i]);

		if (record->n_devices + id->n_addresses > CATALOG_DEVICES_MAX) {
			snprintf(problem, CONFIG_PROBLEM_SIZE,
				 "more than %d devices for one container", CATALOG_DEVICES_MAX);
			return CATALOG_E_UNKNOWN;
		}
		for (size_t k = 0; k < id->n_addresses && !r; k++)
			r = record_add_device(record, id->addresses[k]);
	}
	return r;
}

int catalog_fill(struct catalog *catalog, unsigned resource, char *const *ids, size_t n,
		 struct record *record, char problem[CONFIG_PROBLEM_SIZE])
{
	int r;

	pthread_mutex_lock(&catalog->lock);
	r = fill(&catalog->inventory->resources[resource], ids, n, record, problem);
	pthread_mutex_unlock(&catalog->lock);
	return r;
}

int catalog_prefer(struct catalog *catalog, unsigned resource, char *const *available,
		   size_t n_available, char *const *must_include, size_t n_must_include,
		   size_t size, char **ret_names)
{
	const struct inventory_id **chosen = calloc(size + 1, sizeof(*chosen));
	int r;

	if (!chosen)
		return -ENOMEM;
	pthread_mutex_lock(&catalog->lock);
	r = prefer(&catalog->inventory->resources[resource], available, n_available, must_include,
		   n_must_include, size, chosen);
	for (size_t i = 0; i < size && !r; i++) {
		ret_names[i] = strdup(chosen[i]->name);
		if (ret_names[i])
			continue;
		r = -ENOMEM;
		while (i)
			free(ret_names[--i]);
	}
	pthread_mutex_unlock(&catalog->lock);
	free(chosen);
	return r;
}
