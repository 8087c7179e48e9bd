/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_KEY_TABLE_H
#define IOASID_BROKER_KEY_TABLE_H

#include "server/broker/charge.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Idempotency keys of one lease (or of the Admin service) and the answers that belong to
 * them.  KEY_TABLE_MAX of them; the oldest answered one makes way.
 */
#define KEY_TABLE_MAX 1024
#define KEY_MAX	      64 /* bytes */

struct key_table;
struct key_entry;

int key_table_new(struct key_table **ret_table); /* -ENOMEM */
void key_table_free(struct key_table *table);	 /* NULL-safe */

bool key_table_is_empty(const struct key_table *table);
/* NULL: the key is not known. */
struct key_entry *key_table_find(struct key_table *table, const char *key);
/*
 * Makes room for an answer before anything is done: the entry is charged and cannot fail
 * later for want of it.  -ENOMEM, QUOTA_E_REFUSED.
 */
int key_table_reserve(struct key_table *table, const char *key, const void *method, uint64_t hash,
		      struct tenant *tenant, struct quota_refusal *ret_refusal,
		      struct key_entry **ret_entry);
/* The request failed and changed nothing: the key is free again. */
void key_table_forget(struct key_table *table, struct key_entry *entry);
/*
 * Keeps the answer.  An answer for which there is no memory is kept as lost: a repeated
 * request is told so, it is not done twice.
 */
void key_entry_keep(struct key_table *table, struct key_entry *entry, const uint8_t *answer,
		    size_t length);
/* The answer could not be put together: as lost. */
void key_entry_lose(struct key_entry *entry);

/* In order of age; NULL: none.  table NULL: there is none. */
const struct key_entry *key_table_oldest(const struct key_table *table);
const struct key_entry *key_entry_newer(const struct key_entry *entry);

const struct charge *key_entry_charge(const struct key_entry *entry);
const char *key_entry_key(const struct key_entry *entry);
/* Grows with every entry of a table. */
uint64_t key_entry_order(const struct key_entry *entry);
const void *key_entry_method(const struct key_entry *entry);
uint64_t key_entry_hash(const struct key_entry *entry);
/* False: the request is in progress. */
bool key_entry_is_settled(const struct key_entry *entry);
/* False: the answer was lost. */
bool key_entry_answer(const struct key_entry *entry, const uint8_t **ret_bytes, size_t *ret_length);

#endif
