/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_SHIM_FAIL_H
#define IOASID_SHIM_FAIL_H

/*
 * A shim for tests that makes the n-th call that can fail, fail.  It wraps another shim
 * in place: the inner shim's objects go through it as they are.
 */

#include "shim.h"

/*
 * Takes inner over; shim_free(*ret_shim) ends both.  *ret_shim is inner itself, with
 * operations that count.  -ENOMEM.
 */
int fail_shim_new(struct shim *inner, struct shim **ret_shim);

/*
 * From now on the nth call (1: the next) that can fail returns error, once; 0 disarms.
 * What can fail: ctx_new, ctx_new_delegated, ctx_fd, holder_end, dev_bind, mem_register, pt_create,
 * pt_map, pt_unmap (after half of its mappings), pt_invalidate (after half of its entries),
 * pt_walk, attach, replace, detach, dma, dev_fd, and where the inner shim has them ctx_restore,
 * dev_restore, pt_restore, pt_restore_map, attach_restore, pt_undo_map (after half of its ranges),
 * ctx_restored, sweep. The count starts anew.  Any thread.
 */
void fail_shim_arm(struct shim *shim, uint64_t nth, int error);

/*
 * A device of a shim that has no fds gives an eventfd; while held, no device that is given
 * back is free, as if a last holder kept it open.  Any thread.
 */
void fail_shim_hold(struct shim *shim, bool held);

/*
 * A shim that gives no contexts away gives its own, with an eventfd for a descriptor: how many
 * processes of such contexts were to be ended (none is).
 */
unsigned fail_shim_holders_ended(struct shim *shim);

/* Calls that could fail since the shim was armed last, or made. */
uint64_t fail_shim_calls(struct shim *shim);

/* Whether the armed failure has happened. */
bool fail_shim_fired(struct shim *shim);

#endif
