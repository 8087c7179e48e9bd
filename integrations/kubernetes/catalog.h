/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_CATALOG_H
#define KUBERNETES_CATALOG_H

/*
 * The inventory of the moment, which the main thread replaces and the others ask.  Nothing of
 * it leaves the lock.
 */

#include "inventory.h"
#include "record.h"

struct catalog;

enum catalog_error {
	/* No such id, one twice, none at all, or too many devices; the problem says which. */
	CATALOG_E_UNKNOWN = 1,
};

/* Of one container: what a broker claims at one stroke. */
#define CATALOG_DEVICES_MAX 64

/* Takes a first inventory over, on success. */
int catalog_new(struct inventory *inventory, struct catalog **ret_catalog);
void catalog_free(struct catalog *catalog);
/* Takes the inventory over. */
void catalog_replace(struct catalog *catalog, struct inventory *inventory);
int catalog_check(struct catalog *catalog, unsigned resource, char *const *ids, size_t n,
		  char problem[CONFIG_PROBLEM_SIZE]);
/* Sets the ids of the record and their devices. */
int catalog_fill(struct catalog *catalog, unsigned resource, char *const *ids, size_t n,
		 struct record *record, char problem[CONFIG_PROBLEM_SIZE]);
/* prefer() with names, each of which the caller frees. */
int catalog_prefer(struct catalog *catalog, unsigned resource, char *const *available,
		   size_t n_available, char *const *must_include, size_t n_must_include,
		   size_t size, char **ret_names);

#endif
