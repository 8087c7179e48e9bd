/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_RECORD_H
#define KUBERNETES_RECORD_H

/*
 * What is bound: which ids of which resource went to which container, as which lease of which
 * tenant.  The table is written to STATE_DIR/state.json before a lease is asked for and again
 * when it is there, so a plugin that was killed in between knows every lease that it may have
 * opened, and how to take each back: by its secret, or else by the key of its OpenLease.
 *
 * Bound: an id is in one record at most.  Not thread-safe.
 */

#include "config.h"

#include <ioasid.h>

/* The longest that the broker allows. */
#define RECORD_LINGER_SECONDS 86400

enum record_error {
	/* The file makes no sense; the problem says where. */
	RECORD_E_INVALID = 1,
};

struct record {
	struct record *next;
	char *resource;
	size_t n_ids;
	/* In order; the first names the folder. */
	char **ids;
	size_t n_devices;
	char **devices;
	char *tenant;
	/* The broker's, of the tenant. */
	char *socket;
	char *namespace;
	char *pod;
	char *container;
	char lease[IOASID_LEASE_NAME_SIZE];
	char key[IOASID_KEY_SIZE];
	uint64_t max_ioasids;
	uint64_t max_registered_bytes;
	/* How long the lease lasts while nobody holds it. */
	uint64_t linger_seconds;
	bool has_secret;
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	/* The lease is to be closed; the ids are nobody's. */
	bool closing;
	/* Looks at the kubelet's pods, one after the other, that did not find the container. */
	unsigned missed;
	/* When it was last known to be held; 0: not since this plugin started. */
	uint64_t held_us;
};

struct record_table {
	struct record *first;
	int state_fd;
};

struct record *record_new(void);
void record_free(struct record *record);
/* Copies of names; sorted.  -ENOMEM leaves the record as it was. */
int record_set_ids(struct record *record, char *const *ids, size_t n);
void record_drop_devices(struct record *record);
int record_add_device(struct record *record, const char *address);
bool record_has_id(const struct record *record, const char *id);

/* Takes the record over. */
void records_add(struct record_table *table, struct record *record);
void records_drop(struct record_table *table, struct record *record);
int records_save(const struct record_table *table);
/* Nothing there: an empty table. */
int records_load(int state_fd, struct record_table *ret_table, char problem[CONFIG_PROBLEM_SIZE]);
void records_clear(struct record_table *table);

/* The text of lease.json; the caller frees it. */
int record_lease_text(const struct record *record, char **ret_text);

#endif
