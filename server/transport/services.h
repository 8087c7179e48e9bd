/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TRANSPORT_SERVICES_H
#define IOASID_TRANSPORT_SERVICES_H

/*
 * Services that every gRPC server has and that know no tenant: health and reflection.  They
 * run on the state thread, hold nothing but their call, and count against the same limits
 * of the connection as any other call.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct call;
struct transport;

struct service_method {
	const char *path;
	/* The first message, or, after call_receive(), the next; NULL: the client has no more. */
	void (*received)(struct call *call, const uint8_t *bytes, size_t length);
	/* Streams: the message of call_send() is out. */
	void (*writable)(struct call *call);
	bool is_streaming;
};

/* NULL: not one of these. */
const struct service_method *service_find(const char *path, size_t length);

extern const struct service_method health_check;
extern const struct service_method health_watch;
extern const struct service_method reflection_info;

/* Tells the watchers of health that the server ends. */
void health_stop(struct transport *transport);

/*
 * Finds the file that declares a symbol ("ioasid.v1.Broker.Alloc"), or a file by name, among
 * the served descriptors.  Returned bytes are static.  false: there is none.
 */
bool descriptors_find_symbol(const char *symbol, const uint8_t **ret_file, size_t *ret_size);
bool descriptors_find_file(const char *name, const uint8_t **ret_file, size_t *ret_size);
/* The n-th full name of a service, static with its length; NULL: no more. */
bool descriptors_service_at(size_t index, char *ret_name, size_t size);

#endif
