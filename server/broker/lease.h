/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_LEASE_H
#define IOASID_BROKER_LEASE_H

#include "server/broker/state.h"

/*
 * A new lease of `tenant`, held by `session`; name NULL: the session's connection lease.
 * -ENOMEM, QUOTA_E_REFUSED.
 */
int lease_new(struct broker_session *session, struct tenant *tenant, const char *name,
	      struct quota_refusal *ret_refusal, struct lease **ret_lease);
/* The same without a holder, for restore.c; not written. */
int lease_make(struct broker *broker, struct tenant *tenant, const char *name, uint64_t serial,
	       struct quota_refusal *ret_refusal, struct lease **ret_lease);
/*
 * One that could not be restored: its records go at once, the shim's context has been left or
 * freed already.
 */
void lease_discard(struct lease *lease);
/* lease->watch.fd is the pidfd of the process whose end closes it.  -errno. */
int lease_watch_process(struct lease *lease);
/* Ends a watch of the lease; fine on one that is none. */
void lease_unwatch(struct lease *lease, struct broker_watch *watch);
/*
 * Ends a lease: invisible at once, its waiting calls are cancelled, its objects go when the
 * call in flight has ended and DMA is over.
 */
void lease_close(struct lease *lease, const char *why);
/* The same, but that what it is to the kernel and in the registry stays for the next broker. */
void lease_leave(struct lease *lease, const char *why);
/*
 * The holder is gone: a connection lease closes, a named one lingers or is kept, one that is left
 * stays.
 */
void lease_drop_holder(struct lease *lease);
void lease_set_holder(struct lease *lease, struct broker_session *session);
/* Its calls in the lease are cancelled; nobody holds the lease then. */
void lease_take_from_holder(struct lease *lease);
/* Lingering leases whose time is over close; lowers *next_us to the next one's time. */
void lease_expire(struct broker *broker, uint64_t now_us, uint64_t *next_us);

/* Held by the session; name "" is the connection lease of that tenant.  NULL: none. */
struct lease *lease_find_held(struct broker_session *session, const struct tenant *tenant,
			      const char *name);
/* Any open named lease of the tenant. */
struct lease *lease_find_named(struct tenant *tenant, const char *name);
/* [A-Za-z0-9._-]{1,128} */
bool lease_name_is_valid(const char *name);

/*
 * Its protection domain, made when first asked for.  A shim error; ret_reason as in
 * shim_ctx_new().  Within an op of the lease.
 */
int lease_context(struct lease *lease, char *ret_reason, struct shim_ctx **ret_ctx);

/* Refuses so much more of IOASIDS or REGISTERED_BYTES if the call's lease may not hold it. */
int lease_limit_check(struct broker_call *call, enum quota_resource resource, uint64_t requested);

/* ---- objects by id ---- */

/* NULL: no such object of that type, visible in this lease. */
struct object *lease_object(struct lease *lease, enum object_type type, uint64_t id);
/* The first visible object of that type with an id greater than `after`. */
struct object *lease_object_after(struct lease *lease, enum object_type type, uint64_t after);
/* Gives the object its id and makes it visible.  Cannot fail. */
void lease_publish(struct lease *lease, struct object *object);
/* Makes it invisible; it stays in lease->unlisted. */
void lease_unpublish(struct object *object);
/* An invisible one is about to be freed. */
void lease_forget(struct object *object);
/* The first object with an id greater than `after`, invisible ones included. */
struct object *lease_any_after(struct lease *lease, uint64_t after);

#endif
