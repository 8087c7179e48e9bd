/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_STREAM_H
#define LIBIOASID_STREAM_H

/*
 * One request, many answers, read one at a time by one thread.  stream_cancel() and
 * stream_wake() alone may come from other threads.
 */

#include "call.h"
#include "cancel.h"

struct stream {
	struct ioasid_client *client;
	struct ioasid_cancel *cancel;
	struct link *link;
	struct cancel_node node;
	const struct method *method;
	grpc_completion_queue *queue;
	grpc_call *call;
	grpc_byte_buffer *sent;
	grpc_metadata_array initial;
	struct call_outcome outcome;
	bool first;
	bool finished;
};

/*
 * Takes references to the client and the token; the call's deadline is the stream's.  Waits
 * for a connection if there is none, until *stop if that is not NULL.
 */
int stream_open(struct stream *stream, struct call *call, const struct method *method,
		const ProtobufCMessage *request, const _Atomic bool *stop);
/*
 * The next answer, unpacked into a result.  Waits; -EPIPE with reason STREAM_ENDED when the
 * broker has ended the stream well.  After a failure only stream_close() may follow.  If it
 * was the connection that failed, the client makes another; the stream is not opened again.
 */
int stream_read(struct stream *stream, struct result *into, void *ret_message,
		struct ioasid_error **ret_error);
/* Between stream_open() and stream_close(), also of a stream that has ended. */
void stream_cancel(struct stream *stream);
/*
 * The reader waits, inside gRPC, until another thread wakes it.  Each wait is woken exactly
 * once, and no wake comes without a wait.
 */
void stream_wait(struct stream *stream);
void stream_wake(struct stream *stream);
/* Cancels what is left of it.  Safe on a stream of zeros. */
void stream_close(struct stream *stream);

#endif
