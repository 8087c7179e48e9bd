/* SPDX-License-Identifier: Apache-2.0 */
/* Records in memory; the file is in record_file.c. */
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct record *record_new(void)
{
	struct record *record = calloc(1, sizeof(*record));

	if (record) {
		record->max_ioasids = record->max_registered_bytes = UINT64_MAX;
		record->linger_seconds = RECORD_LINGER_SECONDS;
	}
	return record;
}

static void free_list(char **items, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(items[i]);
	free(items);
}

void record_free(struct record *record)
{
	if (!record)
		return;
	free_list(record->ids, record->n_ids);
	free_list(record->devices, record->n_devices);
	free(record->resource);
	free(record->tenant);
	free(record->socket);
	free(record->namespace);
	free(record->pod);
	free(record->container);
	explicit_bzero(record, sizeof(*record));
	free(record);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int record_set_ids(struct record *record, char *const *ids, size_t n)
{
	char **copies = calloc(n + 1, sizeof(*copies));

	if (!copies)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		copies[i] = strdup(ids[i]);
		if (!copies[i]) {
			free_list(copies, i);
			return -ENOMEM;
		}
	}
	qsort(copies, n, sizeof(*copies), by_text);
	free_list(record->ids, record->n_ids);
	record->ids = copies;
	record->n_ids = n;
	return 0;
}

void record_drop_devices(struct record *record)
{
	free_list(record->devices, record->n_devices);
	record->devices = NULL;
	record->n_devices = 0;
}

int record_add_device(struct record *record, const char *address)
{
	char **devices = realloc(record->devices, (record->n_devices + 1) * sizeof(*devices));

	if (!devices)
		return -ENOMEM;
	record->devices = devices;
	devices[record->n_devices] = strdup(address);
	if (!devices[record->n_devices])
		return -ENOMEM;
	record->n_devices++;
	return 0;
}

bool record_has_id(const struct record *record, const char *id)
{
	for (size_t i = 0; i < record->n_ids; i++)
		if (!strcmp(record->ids[i], id))
			return true;
	return false;
}

void records_add(struct record_table *table, struct record *record)
{
	record->next = table->first;
	table->first = record;
}

void records_drop(struct record_table *table, struct record *record)
{
	struct record **at = &table->first;

	while (*at != record)
		at = &(*at)->next;
	*at = record->next;
	record_free(record);
}

void records_clear(struct record_table *table)
{
	while (table->first)
		records_drop(table, table->first);
}
