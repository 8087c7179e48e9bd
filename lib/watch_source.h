/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_WATCH_SOURCE_H
#define LIBIOASID_WATCH_SOURCE_H

/*
 * Where the messages of a watch come from: a stream, and after a restart of the broker the
 * next one, from the last sequence number on.  When it is not sure that nothing is missing
 * in between, a message of the library's own says so.
 *
 * One thread reads; source_stop() alone may come from others.
 */

#include "stream.h"

#include <pthread.h>

enum watch_kind {
	WATCH_EVENTS,
	WATCH_FAULTS,
};

struct watch_source {
	enum watch_kind kind;
	const struct method *method;
	/* References of its own, texts in the request. */
	struct call call;
	/* A copy. */
	ProtobufCMessage *request;
	struct stream stream;
	_Atomic bool stop;
	pthread_mutex_t lock;
	/* Under lock: there is a stream to cancel. */
	bool open;

	/* Of the reader: sequence number of the last message. */
	uint64_t last;
	/* Of the registry, when the stream was opened; 0: not known. */
	uint64_t generation;
	/* The stream took the place of another, and nothing has come from it yet. */
	bool fresh;
	/* A gap is to be told; has been told of this stream. */
	bool gap;
	bool told;
};

/* On failure nothing is left.  The error goes to the call's. */
int source_open(struct watch_source *source, enum watch_kind kind, struct call *call,
		const struct method *method, const ProtobufCMessage *request);
/* Size of the root into which source_read() puts a message. */
size_t source_root_size(const struct watch_source *source);
/* As stream_read(), but that an end of the connection is none of the watch. */
int source_read(struct watch_source *source, struct result *into, struct ioasid_error **ret_error);
/* The reader finds an end soon. */
void source_stop(struct watch_source *source);
void source_close(struct watch_source *source);

#endif
