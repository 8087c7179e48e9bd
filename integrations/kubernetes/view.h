/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_VIEW_H
#define KUBERNETES_VIEW_H

/*
 * What the broker has for the tenants of the configuration, and whether it is there at all.
 * Watches of the tenants' events say when to look again; a tenant's events may be missing
 * (there are WATCHES_MAX watches), so it is looked at every poll_seconds as well.  Main thread
 * only; blocks for some seconds at most.
 */

#include "inventory.h"

#include <poll.h>

#define VIEW_WATCHES_MAX 32

struct view;

int view_new(const struct config *config, bool (*owns)(void *userdata, const char *address),
	     void *userdata, struct view **ret_view);
void view_free(struct view *view);
/* Appends what to poll; returns how many, VIEW_WATCHES_MAX at most. */
size_t view_poll_fds(const struct view *view, struct pollfd *ret_fds);
/* After poll(): takes events off the watches.  True: it is time to look, at leases, too. */
bool view_events(struct view *view);
/*
 * Asks the broker.  While it does not answer the inventory is that of the last answer, healthy
 * for grace_seconds and then not.
 */
int view_refresh(struct view *view, struct inventory **ret_inventory);
/* Did the broker answer the last time? */
bool view_is_alive(const struct view *view);

#endif
