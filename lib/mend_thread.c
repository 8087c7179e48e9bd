/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of a client: sleeps while the connection is good, makes another when it is not.
 *
 * What it sleeps in is always poll(), on an eventfd by which others have it look again, and
 * on the socket while there is one.  It tries as long as a call waits or the client holds
 * something; a program that holds nothing and asks nothing costs no try.
 */
#include "mend_thread.h"
#include "cancel.h"
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAUSE_FIRST_MS 5
#define PAUSE_MAX_MS   500
/* The broker audits each refusal; a call that waits does not wait so long. */
#define PAUSE_REFUSED_MS 5000
/* A listener that takes nobody in is tried again rather than waited for. */
#define CONNECT_TIMEOUT_MS 500
/* A connection that answered nothing and ended this soon was none. */
#define FLAPPING_US 1000000

void mend_kick(struct mend *mend)
{
	if (mend->started)
		(void)eventfd_write(mend->eventfd, 1);
}

struct link *mend_drop_link(struct ioasid_client *client)
{
	struct mend *mend = &client->mend;
	struct link *link = client->link;

	client->link = NULL;
	mend->flapping = !link->answered && time_now_us() - link->opened_us < FLAPPING_US;
	if (!mend->flapping || !mend->outage_us)
		mend->outage_us = time_now_us();
	return link;
}

bool mend_learned(struct mend *mend, const struct link *link, const struct mend_status *status)
{
	if (!holds_set_own_tenant(&mend->holds, status->tenant))
		return false;
	mend->known = link->epoch;
	mend->generation = status->generation;
	explicit_bzero(mend->tokens, sizeof(mend->tokens));
	mend->n_tokens = status->token.length ? 1 : 0;
	mend->tokens[0] = status->token;
	return true;
}

/* Leases may be under this connection's token, too: the newest is the last. */
static void add_token(struct mend *mend, const struct link_token *token)
{
	if (!token->length)
		return;
	/* The first is the one that the leases were surely under, and stays. */
	if (mend->n_tokens == MEND_TOKENS)
		memmove(&mend->tokens[1], &mend->tokens[2],
			(MEND_TOKENS - 2) * sizeof(mend->tokens[0]));
	else
		mend->n_tokens++;
	mend->tokens[mend->n_tokens - 1] = *token;
}

/* Under lock: the connection becomes the client's. */
static int publish(struct ioasid_client *client, struct link *link,
		   const struct mend_status *status, struct ioasid_error **ret_error)
{
	struct mend *mend = &client->mend;
	int r = mend_adopt_rest(client, link, ret_error);

	if (r < 0)
		return r;
	if (mend->closing || mend->disconnected)
		return error_cancelled("connect", ret_error);
	if (status->tenant && !mend_learned(mend, link, status))
		return error_no_memory(ret_error);
	holds_finish(&mend->holds, link->epoch);
	/* The program's fd keeps its number. */
	(void)dup3(link->fd, client->fd, O_CLOEXEC);
	client->link = link;
	client->epoch = link->epoch;
	mend->restarts++;
	return 0;
}

/* One connection, with everything that was held.  Not under the lock. */
static int try_once(struct ioasid_client *client, struct ioasid_error **ret_error)
{
	struct mend *mend = &client->mend;
	struct mend_status status = {0};
	bool taken = false, take_back;
	struct link *link;
	int r;

	r = link_open(client->path,
		      client->connect_timeout_ms < CONNECT_TIMEOUT_MS ? client->connect_timeout_ms
								      : CONNECT_TIMEOUT_MS,
		      client->epoch + 1, &link, ret_error);
	if (r < 0)
		return r;
	pthread_mutex_lock(&client->lock);
	holds_start(&mend->holds);
	take_back = mend->known || holds_any(&mend->holds);
	pthread_mutex_unlock(&client->lock);
	if (take_back)
		r = mend_take_back(client, link, &status, &taken, ret_error);
	pthread_mutex_lock(&client->lock);
	if (!r)
		r = publish(client, link, &status, ret_error);
	if (r < 0 && taken)
		add_token(mend, &status.token);
	pthread_mutex_unlock(&client->lock);
	if (r < 0)
		link_unref(link);
	mend_status_deinit(&status);
	return r;
}

static bool is_refusal(const struct ioasid_error *error)
{
	return error->origin == IOASID_ORIGIN_BROKER && ioasid_error_is_denied(error);
}

/* Under lock, which it drops meanwhile. */
static int attempt(struct ioasid_client *client)
{
	struct mend *mend = &client->mend;
	struct ioasid_error *error = NULL;
	int r;

	mend->begun++;
	pthread_mutex_unlock(&client->lock);
	r = try_once(client, &error);
	pthread_mutex_lock(&client->lock);
	ioasid_error_free(mend->error);
	mend->error = error;
	mend->refused = error && is_refusal(error);
	mend->done = mend->begun;
	pthread_cond_broadcast(&mend->changed);
	return r;
}

/* Under lock, which it drops meanwhile: until a kick, the end of the connection, or so long. */
static void doze(struct ioasid_client *client, int timeout_ms)
{
	struct mend *mend = &client->mend;
	struct link *link = client->link ? link_ref(client->link) : NULL, *old = NULL;
	struct pollfd p[2] = {
		{.fd = mend->eventfd, .events = POLLIN},
		{.fd = link ? link->fd : -1, .events = POLLRDHUP},
	};
	eventfd_t ignored;

	pthread_mutex_unlock(&client->lock);
	(void)poll(p, 2, timeout_ms);
	(void)eventfd_read(mend->eventfd, &ignored);
	pthread_mutex_lock(&client->lock);
	if (link && p[1].revents && client->link == link)
		old = mend_drop_link(client);
	pthread_mutex_unlock(&client->lock);
	link_unref(old);
	link_unref(link);
	pthread_mutex_lock(&client->lock);
}

static void *mend_thread(void *argument)
{
	struct ioasid_client *client = argument;
	struct mend *mend = &client->mend;
	int pause_ms = 0;

	pthread_mutex_lock(&client->lock);
	while (!mend->closing) {
		if (client->link) {
			doze(client, -1);
			if (!client->link && !mend->flapping)
				pause_ms = 0;
			continue;
		}
		if (mend->disconnected || (!mend->waiters && !holds_any(&mend->holds))) {
			mend->idle = true;
			doze(client, -1);
			mend->idle = false;
			continue;
		}
		if (pause_ms)
			doze(client, pause_ms);
		if (mend->closing || client->link)
			continue;
		(void)attempt(client);
		pause_ms = pause_ms ? pause_ms * 2 : PAUSE_FIRST_MS;
		if (pause_ms > PAUSE_MAX_MS)
			pause_ms = PAUSE_MAX_MS;
		if (mend->refused)
			pause_ms = PAUSE_REFUSED_MS;
	}
	pthread_mutex_unlock(&client->lock);
	return NULL;
}

int mend_start(struct ioasid_client *client)
{
	struct mend *mend = &client->mend;
	sigset_t all, before;
	int r;

	if (mend->started)
		return 0;
	if (mend->eventfd < 0)
		mend->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mend->eventfd < 0)
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = -pthread_create(&mend->thread, NULL, mend_thread, client);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	mend->started = !r;
	return r;
}

void mend_disconnect(struct ioasid_client *client)
{
	struct mend *mend = &client->mend;

	pthread_mutex_lock(&client->lock);
	mend->disconnected = true;
	if (client->link)
		link_shut(client->link);
	pthread_cond_broadcast(&mend->changed);
	mend_kick(mend);
	pthread_mutex_unlock(&client->lock);
	ioasid_cancel_fire(mend->cancel);
}

void mend_stop(struct ioasid_client *client)
{
	struct mend *mend = &client->mend;
	bool started;

	pthread_mutex_lock(&client->lock);
	mend->closing = true;
	started = mend->started;
	mend_kick(mend);
	pthread_mutex_unlock(&client->lock);
	ioasid_cancel_fire(mend->cancel);
	if (started)
		pthread_join(mend->thread, NULL);
}
