/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list: a client holds one or two leases, an agent some dozens.  Secrets are wiped before
 * their memory is given back.
 */
#include "hold.h"

#include <stdlib.h>
#include <string.h>

static const char *path_of(const struct holds *holds, const char *tenant)
{
	return *tenant ? tenant : holds->own_tenant ?: "";
}

bool holds_set_own_tenant(struct holds *holds, const char *tenant)
{
	char *copy = strdup(tenant);

	if (!copy)
		return false;
	free(holds->own_tenant);
	holds->own_tenant = copy;
	return true;
}

struct hold *hold_find(const struct holds *holds, const char *tenant, const char *name)
{
	const char *path = path_of(holds, tenant);
	struct hold *hold = holds->first;

	while (hold && (strcmp(hold->name, name) || strcmp(path_of(holds, hold->tenant), path)))
		hold = hold->next;
	return hold;
}

static void hold_free(struct hold *hold)
{
	explicit_bzero(hold->secret, sizeof(hold->secret));
	free(hold->tenant);
	free(hold->name);
	free(hold);
}

struct hold *hold_get(struct holds *holds, const char *tenant, const char *name, uint64_t since)
{
	struct hold *hold = hold_find(holds, tenant, name);

	if (hold)
		return hold;
	hold = calloc(1, sizeof(*hold));
	if (!hold)
		return NULL;
	hold->since = since;
	hold->tenant = strdup(tenant);
	hold->name = strdup(name);
	if (!hold->tenant || !hold->name) {
		hold_free(hold);
		return NULL;
	}
	hold->next = holds->first;
	holds->first = hold;
	return hold;
}

void hold_drop(struct holds *holds, struct hold *hold)
{
	struct hold **link = &holds->first;

	while (*link != hold)
		link = &(*link)->next;
	*link = hold->next;
	hold_free(hold);
}

unsigned holds_forget_lost(struct holds *holds)
{
	struct hold *hold, *next;
	unsigned n = 0;

	for (hold = holds->first; hold; hold = next) {
		next = hold->next;
		if (hold->state != HOLD_LOST)
			continue;
		hold_drop(holds, hold);
		n++;
	}
	return n;
}

void holds_deinit(struct holds *holds)
{
	while (holds->first)
		hold_drop(holds, holds->first);
	free(holds->own_tenant);
}

bool holds_any(const struct holds *holds)
{
	for (const struct hold *hold = holds->first; hold; hold = hold->next)
		if (hold->state != HOLD_LOST)
			return true;
	return false;
}

void holds_start(struct holds *holds)
{
	for (struct hold *hold = holds->first; hold; hold = hold->next)
		hold->back = hold->asked = false;
}

struct hold *holds_next_to_ask(const struct holds *holds)
{
	struct hold *hold = holds->first;

	while (hold && (!*hold->name || hold->state != HOLD_SURE || hold->back || hold->asked))
		hold = hold->next;
	return hold;
}

void holds_finish(struct holds *holds, uint64_t epoch)
{
	for (struct hold *hold = holds->first; hold; hold = hold->next) {
		if (hold->state == HOLD_LOST)
			continue;
		if (hold->back) {
			hold->state = HOLD_SURE;
		} else if (hold->state == HOLD_SURE) {
			hold->state = HOLD_LOST;
			explicit_bzero(hold->secret, sizeof(hold->secret));
		} else {
			hold->since = epoch;
		}
	}
}
