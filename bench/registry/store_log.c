/* SPDX-License-Identifier: Apache-2.0 */
/* The registry itself, with the room that each change takes first, and its compactions. */

#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

static struct registry *log_open(const char *folder)
{
	static const struct registry_boot_id boot = {{1}};
	struct registry *registry = NULL;
	struct registry_image *image = NULL;
	struct registry_problem problem;

	must(!registry_open(folder, &registry, &image, &problem), "registry_open");
	registry_image_free(image);
	must(!registry_begin(registry, &boot, NULL), "registry_begin");
	must(!registry_commit(registry), "registry_commit");
	return registry;
}

static void *open_store(const char *folder)
{
	return log_open(folder);
}

#define RECORDS_MAX 1024

static void apply(void *store, const struct record *records, size_t n)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT, *drops[] = {&drop};
	static Ioasid__Registry__Ioasid *ioasids[RECORDS_MAX];
	static Ioasid__Registry__Mapping *mappings[RECORDS_MAX];
	static Ioasid__Registry__Key *keys[RECORDS_MAX];
	struct registry_room room = {0};

	batch.ioasids = ioasids;
	batch.mappings = mappings;
	batch.keys = keys;
	batch.drops = drops;
	for (size_t i = 0; i < n; i++) {
		void *message = (void *)(uintptr_t)records[i].message;

		switch (records[i].kind) {
		case KIND_LEASE:
			batch.lease = message;
			break;
		case KIND_IOASID:
			ioasids[batch.n_ioasids++] = message;
			break;
		case KIND_MAPPING:
			mappings[batch.n_mappings++] = message;
			break;
		case KIND_KEY:
			keys[batch.n_keys++] = message;
			break;
		case KIND_INTENT:
			batch.intent = message;
			drop.intent = !message;
			batch.n_drops = !message;
			break;
		}
	}
	must(!registry_room_take(store, REGISTRY_GROWS, registry_batch_size(&batch), &room),
	     "registry_room_take");
	registry_append(store, &room, records->lease, &batch);
}

static void close_store(void *store)
{
	registry_close(store);
}

static size_t load(const char *folder)
{
	struct registry *registry = NULL;
	struct registry_image *image = NULL;
	struct registry_problem problem;
	size_t n = 0;

	must(!registry_open(folder, &registry, &image, &problem) && image, "registry_open");
	must(!image->damaged, "damage");
	for (size_t i = 0; i < image->n_leases; i++) {
		must(!*image->leases[i].damage, image->leases[i].damage);
		n += 1 + image->leases[i].n_ioasids + image->leases[i].n_mappings;
	}
	registry_image_free(image);
	registry_close(registry);
	return n;
}

static uint64_t bytes(const char *folder)
{
	struct registry_image *image = NULL;
	struct registry_problem problem;
	uint64_t n;

	must(!registry_load(folder, &image, &problem), "registry_load");
	n = image->bytes;
	registry_image_free(image);
	return n;
}

const struct store store_log = {"log", open_store, apply, close_store, load, bytes};
