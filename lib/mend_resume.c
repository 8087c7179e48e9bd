/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking leases back on a new connection, in an order that the broker demands: Resume before
 * anything is made there, because a connection with a lease of its own gets no other.
 *
 * Every answer is one of three.  Done; no, for good (the broker does not know the token or
 * the lease); or not now, and then the whole connection is given up and the next try begins
 * from the start.
 */
#include "cancel.h"
#include "mend_thread.h"
#include "socket.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A broker that is busy with its own restart may let these wait. */
#define REQUEST_TIMEOUT_MS 30000
/*
 * A named lease may be held by a connection whose end the broker has not noticed; for two
 * seconds it is asked for again.
 */
#define ADOPT_TRIES    100
#define ADOPT_PAUSE_MS 20

void mend_status_deinit(struct mend_status *status)
{
	explicit_bzero(&status->token, sizeof(status->token));
	free(status->tenant);
	status->tenant = NULL;
}

int mend_ask_status(struct ioasid_client *client, struct link *link, uint64_t deadline_us,
		    struct ioasid_cancel *cancel, struct mend_status *ret_status,
		    struct ioasid_error **ret_error)
{
	__attribute__((cleanup(result_freep))) struct result *result = result_new(0);
	Ioasid__V1__GetStatusRequest request = IOASID__V1__GET_STATUS_REQUEST__INIT;
	const Ioasid__V1__GetStatusResponse *response;
	ProtobufCMessage *message;
	struct mend_status status = {0};
	int r;

	if (!result)
		return error_no_memory(ret_error);
	r = call_once(&(const struct call_target){client, link, cancel, deadline_us},
		      &method_get_status, &request.base, result, &message, ret_error);
	if (r < 0)
		return r;
	response = (const Ioasid__V1__GetStatusResponse *)message;
	if (response->resume_token.len <= LINK_TOKEN_MAX) {
		status.token.length = response->resume_token.len;
		if (status.token.length)
			memcpy(status.token.bytes, response->resume_token.data,
			       status.token.length);
	}
	status.generation = response->registry_generation;
	status.tenant = strdup(response->tenant);
	if (!status.tenant)
		return error_no_memory(ret_error);
	*ret_status = status;
	return 0;
}

/* The answer will be the same however often it is asked for. */
static bool is_final(const struct ioasid_error *error)
{
	if (error->origin != IOASID_ORIGIN_BROKER && error->origin != IOASID_ORIGIN_GRPC)
		return false;
	switch (error->code) {
	case IOASID_NOT_FOUND:
	case IOASID_INVALID_ARGUMENT:
	case IOASID_FAILED_PRECONDITION:
	case IOASID_PERMISSION_DENIED:
	case IOASID_UNIMPLEMENTED:
	case IOASID_ALREADY_EXISTS:
		return true;
	default:
		return false;
	}
}

/* Hands an error on, or drops the one that is final and returns 0. */
static int unless_final(int r, struct ioasid_error *error, struct ioasid_error **ret_error)
{
	if (r < 0 && !is_final(error)) {
		*ret_error = error;
		return r;
	}
	ioasid_error_free(error);
	return 0;
}

static int resume(struct ioasid_client *client, struct link *link, const struct link_token *token,
		  bool *ret_taken, struct ioasid_error **ret_error)
{
	static const struct method method =
		METHOD("Broker", "Resume", resume_response, false, OUTSIDE_LEASES);
	__attribute__((cleanup(result_freep))) struct result *result = result_new(0);
	Ioasid__V1__ResumeRequest request = IOASID__V1__RESUME_REQUEST__INIT;
	const Ioasid__V1__ResumeResponse *response;
	struct ioasid_error *error = NULL;
	ProtobufCMessage *message;
	int r;

	if (!result)
		return error_no_memory(ret_error);
	request.token.len = token->length;
	request.token.data = (uint8_t *)token->bytes;
	r = call_once(&(const struct call_target){client, link, client->mend.cancel,
						  time_deadline_us(REQUEST_TIMEOUT_MS)},
		      &method, &request.base, result, &message, &error);
	if (r < 0) {
		*ret_taken |= error->origin != IOASID_ORIGIN_BROKER;
		return unless_final(r, error, ret_error);
	}
	*ret_taken = true;
	response = (const Ioasid__V1__ResumeResponse *)message;
	pthread_mutex_lock(&client->lock);
	for (size_t i = 0; i < response->n_leases; i++) {
		const Ioasid__V1__Lease *lease = response->leases[i];
		struct hold *hold = hold_find(&client->mend.holds, lease->tenant, lease->name);

		if (hold && !lease->closing)
			hold->back = true;
	}
	pthread_mutex_unlock(&client->lock);
	return 0;
}

/* *ret_back: the lease is this connection's. */
static int adopt(struct ioasid_client *client, struct link *link, const struct hold *hold,
		 bool *ret_back, struct ioasid_error **ret_error)
{
	Ioasid__V1__AdoptLeaseRequest request = IOASID__V1__ADOPT_LEASE_REQUEST__INIT;
	Ioasid__V1__Scope scope = IOASID__V1__SCOPE__INIT;

	scope.tenant = hold->tenant;
	request.scope = &scope;
	request.name = hold->name;
	request.secret.len = IOASID_LEASE_SECRET_SIZE;
	request.secret.data = (uint8_t *)hold->secret;
	for (int i = 0;; i++) {
		__attribute__((cleanup(result_freep))) struct result *result = result_new(0);
		struct ioasid_error *error = NULL;
		ProtobufCMessage *message;
		int r;

		if (!result)
			return error_no_memory(ret_error);
		r = call_once(&(const struct call_target){client, link, client->mend.cancel,
							  time_deadline_us(REQUEST_TIMEOUT_MS)},
			      &method_adopt_lease, &request.base, result, &message, &error);
		*ret_back = !r;
		if (r < 0 && i < ADOPT_TRIES &&
		    (!strcmp(error->reason, "WRONG_STATE") || !strcmp(error->reason, "BUSY"))) {
			ioasid_error_free(error);
			cancel_sleep(client->mend.cancel, ADOPT_PAUSE_MS * 1000);
			continue;
		}
		return r < 0 ? unless_final(r, error, ret_error) : 0;
	}
}

static void copy_deinit(struct hold *copy)
{
	explicit_bzero(copy->secret, sizeof(copy->secret));
	free(copy->tenant);
	free(copy->name);
}

int mend_adopt_rest(struct ioasid_client *client, struct link *link,
		    struct ioasid_error **ret_error)
{
	struct holds *holds = &client->mend.holds;
	struct hold *hold;
	int r = 0;

	while (!r && (hold = holds_next_to_ask(holds))) {
		/* The program may close the lease meanwhile. */
		struct hold copy = *hold;
		bool back = false;

		hold->asked = true;
		copy.tenant = strdup(hold->tenant);
		copy.name = strdup(hold->name);
		pthread_mutex_unlock(&client->lock);
		if (copy.tenant && copy.name)
			r = adopt(client, link, &copy, &back, ret_error);
		else
			r = error_no_memory(ret_error);
		pthread_mutex_lock(&client->lock);
		hold = !r ? hold_find(holds, copy.tenant, copy.name) : NULL;
		if (hold && back)
			hold->back = true;
		copy_deinit(&copy);
	}
	return r;
}

int mend_take_back(struct ioasid_client *client, struct link *link, struct mend_status *ret_status,
		   bool *ret_taken, struct ioasid_error **ret_error)
{
	struct link_token tokens[MEND_TOKENS];
	struct mend_status status;
	size_t n_tokens;
	int r;

	r = mend_ask_status(client, link, time_deadline_us(REQUEST_TIMEOUT_MS), client->mend.cancel,
			    &status, ret_error);
	if (r < 0)
		return r;
	pthread_mutex_lock(&client->lock);
	if (!holds_set_own_tenant(&client->mend.holds, status.tenant))
		r = error_no_memory(ret_error);
	n_tokens = client->mend.n_tokens;
	memcpy(tokens, client->mend.tokens, sizeof(tokens));
	pthread_mutex_unlock(&client->lock);

	*ret_status = status;
	/* The newest first: most often there is one. */
	for (size_t i = n_tokens; !r && i; i--)
		r = resume(client, link, &tokens[i - 1], ret_taken, ret_error);
	explicit_bzero(tokens, sizeof(tokens));
	if (!r) {
		pthread_mutex_lock(&client->lock);
		*ret_taken |= holds_next_to_ask(&client->mend.holds) != NULL;
		r = mend_adopt_rest(client, link, ret_error);
		pthread_mutex_unlock(&client->lock);
	}
	return r;
}
