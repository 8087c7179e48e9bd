/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.health.v1.Health.  All services of the server live and end together, so there is one
 * state: SERVING from the first connection to the orderly end.
 */
#include "server.h"
#include "services.h"

#include "grpc/health/v1/health.pb-c.h"

#include <string.h>

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

/* Bytes of a name that can be one of ours, with its framing. */
#define REQUEST_MAX 512

static bool service_is_served(const char *name)
{
	char served[128];

	if (!*name)
		return true;
	for (size_t i = 0; descriptors_service_at(i, served, sizeof(served)); i++)
		if (!strcmp(name, served))
			return true;
	return false;
}

/* false: the call has been refused. */
static bool request_read(struct call *call, const uint8_t *bytes, size_t length, bool *ret_served)
{
	Grpc__Health__V1__HealthCheckRequest *request = NULL;

	if (bytes && length <= REQUEST_MAX)
		request = grpc__health__v1__health_check_request__unpack(NULL, length, bytes);
	if (!request) {
		call_finish(call, GRPC_STATUS_INVALID_ARGUMENT, "MALFORMED",
			    "not a HealthCheckRequest", NULL);
		return false;
	}
	*ret_served = service_is_served(request->service);
	grpc__health__v1__health_check_request__free_unpacked(request, NULL);
	return true;
}

static void check_received(struct call *call, const uint8_t *bytes, size_t length)
{
	Grpc__Health__V1__HealthCheckResponse response =
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
	bool served;

	if (!request_read(call, bytes, length, &served))
		return;
	if (!served) {
		call_finish(call, GRPC_STATUS_NOT_FOUND, "NOT_FOUND", "no such service", NULL);
		return;
	}
	response.status =
		call->connection->transport->stopping ? STATUS(NOT_SERVING) : STATUS(SERVING);
	call_finish(call, GRPC_STATUS_OK, NULL, NULL, &response.base);
}

static void watch_send(struct call *call, int status)
{
	Grpc__Health__V1__HealthCheckResponse response =
		GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

	call->service_data = status;
	response.status = status;
	call_send(call, &response.base);
}

static void watch_received(struct call *call, const uint8_t *bytes, size_t length)
{
	bool served;

	if (request_read(call, bytes, length, &served))
		watch_send(call, served ? STATUS(SERVING) : STATUS(SERVICE_UNKNOWN));
}

/* The only change that comes is the server's end: told once, then the stream ends too. */
static void watch_writable(struct call *call)
{
	if (!call->connection->transport->stopping)
		return;
	if (call->service_data == STATUS(SERVING))
		watch_send(call, STATUS(NOT_SERVING));
	else
		call_finish(call, GRPC_STATUS_UNAVAILABLE, "SHUTTING_DOWN",
			    "the server is shutting down", NULL);
}

void health_stop(struct transport *transport)
{
	struct list *item, *call_item, *after;

	list_for_each (item, &transport->connections) {
		struct connection *connection = container_of(item, struct connection, link);

		list_for_each_safe (call_item, after, &connection->calls) {
			struct call *call = container_of(call_item, struct call, link);

			/* One whose message is under way is asked again when that is out. */
			if (call->service == &health_watch && call->headers_sent &&
			    !call->send_in_flight && !call->finished)
				watch_writable(call);
		}
	}
}

const struct service_method health_check = {
	.path = "/grpc.health.v1.Health/Check",
	.received = check_received,
};
const struct service_method health_watch = {
	.path = "/grpc.health.v1.Health/Watch",
	.received = watch_received,
	.writable = watch_writable,
	.is_streaming = true,
};
