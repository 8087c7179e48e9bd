/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_KEPT_FD_H
#define IOASID_BROKER_KEPT_FD_H

#include "server/broker/state.h"

/*
 * Memfds of registered memory, of which the keeper holds a duplicate for the next broker, under
 * a name that follows from lease and id.
 */
struct kept_fd;
struct kept_fds;

/* keeper NULL: nothing is kept, and *ret_fds is NULL.  -ENOMEM. */
int kept_fds_new(struct broker *broker, struct keeper *keeper, struct kept_fds **ret_fds);
void kept_fds_free(struct kept_fds *fds); /* NULL-safe */
/* The broker ends: what is kept stays.  NULL-safe. */
void kept_fds_stop(struct kept_fds *fds);
bool kept_fds_are_kept(const struct broker *broker);
/* [blocking] Before the broker serves: drops every fd whose memory no lease has.  -errno. */
int kept_fds_reconcile(struct broker *broker, uint64_t *ret_dropped);
/* Has the keeper been started anew?  Then it is given everything again. */
void kept_fds_tick(struct broker *broker, uint64_t now_us, uint64_t *next_us);

/* owner is copied.  -ENOMEM. */
int kept_fd_new(struct broker *broker, const char *owner, uint64_t lease, uint64_t id,
		struct kept_fd **ret_kept);
/* Nothing is said to the keeper.  NULL-safe. */
void kept_fd_free(struct kept_fd *kept);
/* [blocking] Within an op.  -errno, or KEEPER_E_* with ret_reason (KEEPER_REASON_MAX). */
int kept_fd_hold(struct kept_fd *kept, int fd, char *ret_reason);
/* [blocking] What the last broker had it hold.  -errno, KEEPER_E_NOT_FOUND. */
int kept_fd_take(struct kept_fd *kept, int *ret_fd);
/* The keeper drops it, soon; takes it over.  NULL-safe. */
void kept_fd_drop(struct broker *broker, struct kept_fd *kept);

#endif
