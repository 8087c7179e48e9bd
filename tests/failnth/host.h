/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_FAILNTH_HOST_H
#define IOASID_TESTS_FAILNTH_HOST_H

#include "server/broker/broker.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A host of the broker without threads, sockets or a real clock.  Work runs in the loop
 * that waits for an answer, the clock stands still unless the test moves it, watched fds
 * become readable when the test says so.  One thread; nothing here allocates while a call
 * runs, so that every allocation counted is the broker's.
 */

#define HOST_ANSWER_MAX (256 * 1024)

struct host {
	uint64_t now_us;
	struct broker_work *first;
	struct broker_work **last;
	unsigned n_watches;
	unsigned n_kicked;
	unsigned n_audited;
	bool sent; /* a message of a stream, since the last look */
	/* The answer to the last call. */
	bool answered;
	int code;
	char message[512];
	char reason[64]; /* of ErrorInfo */
	bool partial;	 /* its metadata say how much was done */
	size_t n_response;
	uint8_t response[HOST_ANSWER_MAX];
};

void host_init(struct host *host);
extern const struct broker_host_ops host_ops;

/* Runs work until there is none. */
void host_pump(struct host *host, struct broker *broker);
/* One call, packed already, to its end.  Returns its status code; -1: it was never answered. */
int host_call(struct host *host, struct broker *broker, struct broker_session *session,
	      const char *method, const uint8_t *request, size_t length);
/* A stream: opened, read as long as there is something, cancelled.  Its status code. */
int host_stream(struct host *host, struct broker *broker, struct broker_session *session,
		const char *method, const uint8_t *request, size_t length);

#endif
