/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_CHARGE_H
#define IOASID_KEEPER_CHARGE_H

/*
 * Limits by owner and in total.  A charge is a member of the object that it pays for and
 * knows its owner; an owner exists while it has a charge.  Guarded by the vault's mutex.
 */

#include "protocol.h"

enum charge_kind {
	CHARGE_CONTEXT,
	CHARGE_DEVICE,
	CHARGE_FD,
	_CHARGE_KINDS,
};

struct charge_limits {
	unsigned total[_CHARGE_KINDS];
	unsigned owner[_CHARGE_KINDS];
};

struct charge_table {
	struct charge_limits limits;
	unsigned n[_CHARGE_KINDS];
	void *owners; /* tsearch(3) */
};

struct charge {
	enum charge_kind kind;
	struct charge_owner *owner; /* NULL: nothing is charged */
};

/* LIMIT or -ENOMEM. */
int charge_take(struct charge_table *table, enum charge_kind kind, const char *owner,
		char *ret_reason, struct charge *ret_charge);
void charge_give_back(struct charge_table *table, struct charge *charge);
const char *charge_owner_name(const struct charge *charge);
/* Asserts that nothing is charged. */
void charge_table_deinit(struct charge_table *table);

#endif
