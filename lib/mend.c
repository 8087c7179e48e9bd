/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The side of the calls: waiting for a connection, and the record of what is held.  The
 * thread that makes connections is mend_thread.c.
 *
 * One lock, the client's.  A token is asked under it whether it was fired, and wakes the
 * waiters by taking it; so it is never held while a token is added or removed.
 */
#include "mend.h"
#include "cancel.h"
#include "mend_thread.h"
#include "socket.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Between the last answer and the end of a connection. */
#define HANG_UP_MS 100

bool mend_init(struct mend *mend, uint32_t limit_ms)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&mend->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	mend->eventfd = -1;
	mend->limit_ms = limit_ms;
	if (limit_ms)
		mend->cancel = ioasid_cancel_new();
	return !limit_ms || mend->cancel;
}

void mend_deinit(struct mend *mend)
{
	holds_deinit(&mend->holds);
	explicit_bzero(mend->tokens, sizeof(mend->tokens));
	ioasid_error_free(mend->error);
	ioasid_cancel_unref(mend->cancel);
	pthread_cond_destroy(&mend->changed);
	if (mend->eventfd >= 0)
		close(mend->eventfd);
}

void mend_wake(struct ioasid_client *client)
{
	pthread_mutex_lock(&client->lock);
	pthread_cond_broadcast(&client->mend.changed);
	pthread_mutex_unlock(&client->lock);
}

bool mend_helps(const struct ioasid_client *client, const struct ioasid_error *error)
{
	return client->mend.limit_ms && ioasid_error_is_no_server(error);
}

bool mend_cuts_off(const struct ioasid_client *client, const struct link *link,
		   const struct ioasid_error *error)
{
	if (mend_helps(client, error))
		return true;
	/* To a broker that ends connections, the callers have gone. */
	return client->mend.limit_ms && error->origin == IOASID_ORIGIN_BROKER &&
	       error->code == IOASID_CANCELLED && link_hung_up(link, HANG_UP_MS);
}

/* ---- waiting ---- */

/* Under lock. */
static uint64_t limit_us(const struct mend *mend)
{
	return mend->limit_ms == IOASID_NO_TIMEOUT
		       ? UINT64_MAX
		       : mend->outage_us + (uint64_t)mend->limit_ms * 1000;
}

/* Under lock: why there is no connection; 0: there may soon be one. */
static int why_not(const struct mend *mend, const struct call *call, const char *method,
		   const _Atomic bool *stop, uint64_t target, struct ioasid_error **ret_error)
{
	uint64_t now = time_now_us();

	if (cancel_fired(call->cancel) || (stop && *stop))
		return error_cancelled(method, ret_error);
	if (mend->disconnected)
		return error_connection_lost(method, "this program has ended it", ret_error);
	if (mend->refused && mend->done >= target)
		return error_copy(mend->error, ret_error);
	/* Whose time is over is told what it has waited for. */
	if (now >= call->deadline_us || (now >= limit_us(mend) && mend->done >= target))
		return error_connection_lost(method, mend->error ? mend->error->message : NULL,
					     ret_error);
	return 0;
}

/* Under lock. */
static void wait_once(struct ioasid_client *client, uint64_t deadline_us)
{
	struct mend *mend = &client->mend;
	uint64_t limit = limit_us(mend), now = time_now_us();
	bool over = now >= limit;
	uint64_t until = over || deadline_us < limit ? deadline_us : limit;

	if (mend->idle || mend->refused || over)
		mend_kick(mend);
	mend->waiters++;
	if (until == UINT64_MAX) {
		pthread_cond_wait(&mend->changed, &client->lock);
	} else {
		struct timespec ts = {.tv_sec = (time_t)(until / 1000000),
				      .tv_nsec = (long)(until % 1000000 * 1000)};

		(void)pthread_cond_timedwait(&mend->changed, &client->lock, &ts);
	}
	mend->waiters--;
}

/* Until there is a connection; takes the lock and leaves it. */
static int wait_for_link(struct call *call, const char *method, const _Atomic bool *stop,
			 struct ioasid_error **ret_error)
{
	struct ioasid_client *client = call->client;
	struct cancel_node node;
	uint64_t target;
	int r = 0;

	cancel_add_waiter(call->cancel, &node, &client->lock, &client->mend.changed);
	pthread_mutex_lock(&client->lock);
	/* A try that is under way may have begun before the broker was there. */
	target = client->mend.begun + 1;
	while (!client->link && !r) {
		r = why_not(&client->mend, call, method, stop, target, ret_error);
		if (!r)
			wait_once(client, call->deadline_us);
	}
	pthread_mutex_unlock(&client->lock);
	cancel_remove(call->cancel, &node);
	return r;
}

/* ---- entering ---- */

static int lost_error(const struct hold *hold, const struct mend *mend, const char *method,
		      struct ioasid_error **ret_error)
{
	return error_make(
		&(const struct error_info){
			.error = -ESTALE,
			.code = IOASID_FAILED_PRECONDITION,
			.origin = IOASID_ORIGIN_LOCAL,
			.reason = "LEASE_LOST",
			.method = method,
		},
		ret_error, "%s%s%s was lost when the broker was restarted: %s",
		*hold->name ? "lease \"" : "the connection lease", hold->name,
		*hold->name ? "\"" : "",
		mend->generation ? "the broker did not give it back"
				 : "this broker keeps no registry");
}

static bool wants_to_be_known(const struct method *method)
{
	return method->place == MAKES_LEASE || method->place == HOLDS;
}

/*
 * Under lock, with a connection: may the call be sent on it?  *ret_learn: not before
 * GetStatus was asked.
 */
static int may_enter(struct call *call, const struct method *method, uint64_t learned,
		     bool *ret_learn, struct ioasid_error **ret_error)
{
	struct ioasid_client *client = call->client;
	struct mend *mend = &client->mend;
	struct hold *hold;
	int r;

	*ret_learn = false;
	if (method->place == IN_LEASE || method->place == MAKES_LEASE) {
		hold = hold_find(&mend->holds, call->scope.tenant, call->scope.lease);
		if (hold && hold->state == HOLD_LOST)
			return lost_error(hold, mend, method->name, ret_error);
	}
	if (!wants_to_be_known(method))
		return 0;
	if (mend->known != client->link->epoch && learned != client->link->epoch) {
		*ret_learn = true;
		return 0;
	}
	r = mend_start(client);
	if (r < 0)
		return error_make(
			&(const struct error_info){
				.error = r,
				.code = IOASID_RESOURCE_EXHAUSTED,
				.reason = "INVALID_CALL",
				.method = method->name,
			},
			ret_error, "cannot make a thread or an eventfd: %s",
			strerrordesc_np(-r) ?: "unknown error");
	if (method->place == MAKES_LEASE && !*call->scope.lease &&
	    !hold_get(&mend->holds, call->scope.tenant, "", client->link->epoch))
		return error_no_memory(ret_error);
	return 0;
}

/* The broker's refusal is none of the call's: the call itself will be told. */
static bool ends_call(const struct ioasid_error *error)
{
	return !strcmp(error->reason, "CANCELLED") || !strcmp(error->reason, "TIMED_OUT") ||
	       !strcmp(error->reason, "OUT_OF_MEMORY");
}

/* GetStatus on the connection, in the time of the call. */
static int learn(struct call *call, struct link *link, struct ioasid_error **ret_error)
{
	struct ioasid_client *client = call->client;
	struct ioasid_error *error = NULL;
	struct mend_status status;
	int r = mend_ask_status(client, link, call->deadline_us, call->cancel, &status, &error);

	if (!r) {
		pthread_mutex_lock(&client->lock);
		if (client->link == link && !mend_learned(&client->mend, link, &status))
			r = error_no_memory(&error);
		pthread_mutex_unlock(&client->lock);
		mend_status_deinit(&status);
	}
	if (!r)
		return 0;
	if (mend_helps(client, error)) {
		mend_break(client, link);
		r = 0;
	} else if (!ends_call(error)) {
		r = 0;
	}
	if (r < 0 && ret_error)
		*ret_error = error;
	else
		ioasid_error_free(error);
	return r;
}

int mend_enter(struct call *call, const struct method *method, const _Atomic bool *stop,
	       struct link **ret_link, struct ioasid_error **ret_error)
{
	struct ioasid_client *client = call->client;
	uint64_t learned = 0;

	for (;;) {
		struct link *link = NULL;
		bool ask = false;
		int r = 0;

		pthread_mutex_lock(&client->lock);
		if (client->link) {
			if (client->mend.limit_ms)
				r = may_enter(call, method, learned, &ask, ret_error);
			if (!r)
				link = link_ref(client->link);
		}
		pthread_mutex_unlock(&client->lock);
		if (r < 0)
			return r;
		if (link && !ask) {
			*ret_link = link;
			return 0;
		}
		if (link) {
			learned = link->epoch;
			r = learn(call, link, ret_error);
			link_unref(link);
		} else {
			r = wait_for_link(call, method->name, stop, ret_error);
		}
		if (r < 0)
			return r;
	}
}

/* ---- what came of a call ---- */

void mend_break(struct ioasid_client *client, struct link *link)
{
	struct mend *mend = &client->mend;
	struct link *old = NULL;

	pthread_mutex_lock(&client->lock);
	if (mend->limit_ms && client->link == link) {
		old = mend_drop_link(client);
		/* Without a thread nobody would come; the next call tries again to have one. */
		if (mend_start(client) < 0) {
			client->link = old;
			old = NULL;
		}
		mend_kick(mend);
	}
	pthread_mutex_unlock(&client->lock);
	link_unref(old);
}

bool mend_settle(struct call *call, const struct method *method, const struct link *link)
{
	struct ioasid_client *client = call->client;
	struct mend *mend = &client->mend;
	struct hold *hold;
	bool ok = true;

	call->epoch = link->epoch;
	if (!mend->limit_ms || method->place != MAKES_LEASE || *call->scope.lease)
		return true;
	pthread_mutex_lock(&client->lock);
	hold = hold_find(&mend->holds, call->scope.tenant, "");
	if (!hold && link->epoch == client->epoch)
		hold = hold_get(&mend->holds, call->scope.tenant, "", link->epoch);
	if (!hold || hold->state == HOLD_LOST || link->epoch < hold->since)
		ok = link->epoch == client->epoch;
	else
		hold->state = HOLD_SURE;
	pthread_mutex_unlock(&client->lock);
	return ok;
}

uint64_t mend_generation(struct ioasid_client *client, const struct link *link)
{
	uint64_t generation;

	pthread_mutex_lock(&client->lock);
	generation = client->mend.known == link->epoch ? client->mend.generation : 0;
	pthread_mutex_unlock(&client->lock);
	return generation;
}

bool mend_moved(const struct call *call)
{
	struct ioasid_client *client = call->client;
	bool moved;

	if (!client->mend.limit_ms)
		return false;
	pthread_mutex_lock(&client->lock);
	moved = !client->link || client->epoch != call->epoch || link_hung_up(client->link, 0);
	pthread_mutex_unlock(&client->lock);
	return moved;
}

/* ---- leases ---- */

int mend_hold(const struct call *call, const char *name,
	      const uint8_t secret[IOASID_LEASE_SECRET_SIZE], struct ioasid_error **ret_error)
{
	struct ioasid_client *client = call->client;
	struct hold *hold;
	int r = 0;

	if (!client->mend.limit_ms)
		return 0;
	pthread_mutex_lock(&client->lock);
	if (call->epoch != client->epoch) {
		r = 1;
	} else {
		hold = hold_get(&client->mend.holds, call->scope.tenant, name, call->epoch);
		if (hold) {
			hold->state = HOLD_SURE;
			hold->since = call->epoch;
			memcpy(hold->secret, secret, IOASID_LEASE_SECRET_SIZE);
		} else {
			r = error_no_memory(ret_error);
		}
	}
	pthread_mutex_unlock(&client->lock);
	return r;
}

static struct hold *hold_of(const struct call *call)
{
	return hold_find(&call->client->mend.holds, call->scope.tenant, call->scope.lease);
}

void mend_release(const struct call *call)
{
	struct ioasid_client *client = call->client;
	struct hold *hold;

	pthread_mutex_lock(&client->lock);
	hold = hold_of(call);
	if (hold)
		hold_drop(&client->mend.holds, hold);
	pthread_mutex_unlock(&client->lock);
}
