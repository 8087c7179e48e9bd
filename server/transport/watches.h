/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_WATCHES_H
#define IOASID_TRANSPORT_WATCHES_H

/*
 * Fds that the acceptor's epoll watches for the state thread: a dup of each connection (its
 * end is noticed at once) and the broker's pidfds.  Each fires once.
 *
 * What fired travels as a number, index and generation of a slot, never as a pointer: the
 * acceptor may hold an event of a watch that the state thread removes at that moment, and the
 * generation makes it void.  Memory is taken when a watch is added, so firing never fails.
 *
 * Threads: add, remove and deliver on the state thread; fire on the acceptor.
 */

#include "mailbox.h"

#include <stdint.h>

struct watches;

typedef void (*watch_fn)(void *userdata);

/* epoll_fd is borrowed; tag_base is set in every epoll event's data beside the token. */
int watches_new(int epoll_fd, uint64_t tag_base, struct mailbox *mailbox,
		struct watches **ret_watches);
void watches_free(struct watches *watches); /* NULL-safe */

/* events: of epoll(7).  fired() is called at most once and the watch is gone before. */
int watches_add(struct watches *watches, int fd, uint32_t events, watch_fn fired, void *userdata,
		uint64_t *ret_token);
/* Before the fd is closed.  fired() is not called any more. */
void watches_remove(struct watches *watches, uint64_t token);
void watches_fire(struct watches *watches, uint64_t token);

/*
 * Calls each() for every watch that has not fired, with what it was added with.  No watch is
 * removed meanwhile, so its fd and userdata are there; each() must not call watches_*().
 * Any thread.
 */
void watches_each(struct watches *watches,
		  void (*each)(watch_fn fired, int fd, void *userdata, void *argument),
		  void *argument);

#endif
