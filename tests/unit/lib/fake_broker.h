/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAKE_BROKER_H
#define TESTS_FAKE_BROKER_H

/*
 * A server that does what a test tells it to, well or badly: gRPC and the fd-passing
 * protocol on one socket, in this process.  Each call runs the handler on a thread of its
 * own, with blocking functions to answer it.
 */

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake_broker;
struct fake_call;

/* "/ioasid.v1.Broker/Alloc".  Must finish the call. */
typedef void (*fake_handler_t)(struct fake_call *call, const char *path, void *userdata);

/* What an IOFD connection does with the 32 bytes and the fd (-1: none) that came. */
typedef void (*fake_fd_handler_t)(int connection, const uint8_t request[static 32], int fd,
				  void *userdata);

/* Asserts; the socket is in a directory of its own. */
struct fake_broker *fake_broker_new(fake_handler_t handler, fake_fd_handler_t fd_handler,
				    void *userdata);
/* The same at that path, which is the caller's; what was there goes. */
struct fake_broker *fake_broker_new_at(const char *path, fake_handler_t handler,
				       fake_fd_handler_t fd_handler, void *userdata);
/* Waits for every call that is under way. */
void fake_broker_free(struct fake_broker *broker);
const char *fake_broker_path(const struct fake_broker *broker);
/* Ends every connection, as a broker that dies does. */
void fake_broker_hang_up(struct fake_broker *broker);
/* The same, and takes no more in: what SIGKILL does.  From any thread, also of a handler. */
void fake_broker_kill(struct fake_broker *broker);

/* Number of its connection among all that there ever were in this process, from 1. */
uint64_t fake_call_connection(const struct fake_call *call);
/* The request's bytes. */
const uint8_t *fake_call_request(struct fake_call *call, size_t *ret_length);
/* Unpacked; freed with the call. */
void *fake_call_unpack(struct fake_call *call, const ProtobufCMessageDescriptor *descriptor);
/* One message; false: the client has gone. */
bool fake_call_send(struct fake_call *call, const ProtobufCMessage *message);
bool fake_call_send_bytes(struct fake_call *call, const void *bytes, size_t length);
/* The status; details may be NULL. */
void fake_call_finish(struct fake_call *call, int code, const char *message, const void *details,
		      size_t n_details);
/* send and finish with OK. */
void fake_call_reply(struct fake_call *call, const ProtobufCMessage *message);
/* Until the client has cancelled, its deadline has passed, or the connection has ended. */
void fake_call_wait_cancelled(struct fake_call *call);

#endif
