/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_OUTCOME_H
#define IOASID_BROKER_OUTCOME_H

#include "server/broker/scratch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a request can end; outcome.c has the one table to status, reason and details. */
enum outcome_code {
	OUTCOME_OK,
	OUTCOME_MALFORMED,
	OUTCOME_INVALID_FIELD,
	OUTCOME_NOT_FOUND,
	OUTCOME_ROLE_FORBIDDEN,
	OUTCOME_POLICY_FORBIDDEN,
	OUTCOME_TICKET_REFUSED,
	OUTCOME_NO_TENANT,
	OUTCOME_QUOTA,
	OUTCOME_RATE,
	OUTCOME_FORMAT_UNSUPPORTED,
	OUTCOME_GROUP_INCOMPLETE,
	OUTCOME_NOT_CLAIMED,
	OUTCOME_NOT_ATTACHED,
	OUTCOME_DEVICE_IN_USE,
	OUTCOME_INCOMPATIBLE,
	OUTCOME_WOULD_SPLIT,
	OUTCOME_MEMORY_UNSUITABLE,
	OUTCOME_WRONG_STATE,
	OUTCOME_OVERLAP,
	OUTCOME_NAME_TAKEN,
	OUTCOME_KEY_REUSED,
	OUTCOME_ALREADY_ATTACHED,
	OUTCOME_BUSY,
	OUTCOME_SHIM_GONE,
	OUTCOME_SHUTTING_DOWN,
	OUTCOME_REGISTRY_FULL,
	OUTCOME_UNIMPLEMENTED,
	OUTCOME_CANCELLED,
	OUTCOME_NO_MEMORY,
	OUTCOME_INTERNAL,
	_OUTCOME_MAX,
};

#define OUTCOME_VIOLATIONS_MAX 96
/*
 * gRPC clients accept 8 KiB of metadata.  A text that quotes the caller is cut, and of the
 * violations only as many are kept as fit.
 */
#define OUTCOME_TEXT_MAX	 400
#define OUTCOME_VIOLATIONS_BYTES 5000

/* One line of BadRequest, QuotaFailure or PreconditionFailure. */
struct outcome_violation {
	const char *subject;
	const char *description;
};

/*
 * The outcome of one request.  Strings live in the request's scratch or are static, so that
 * filling one in can fail only by leaving text out.
 */
struct outcome {
	enum outcome_code code;
	const char *message;
	struct outcome_violation violations[OUTCOME_VIOLATIONS_MAX];
	size_t n_violations;
	size_t violations_bytes;
	size_t n_metadata;
	struct {
		const char *key;
		const char *value;
	} metadata[8];
	uint64_t retry_after_us;
};

/* Formats a text of at most OUTCOME_TEXT_MAX bytes, cut at a character.  NULL: no memory. */
const char *outcome_text(struct scratch *scratch, const char *format, va_list ap);

/* A grpc_status_code. */
int outcome_status(enum outcome_code code);
/* "QUOTA"; "OK" for OUTCOME_OK. */
const char *outcome_reason(enum outcome_code code);

void outcome_init(struct outcome *outcome);
/* Sets code and message.  Returns the code, so that a handler can return it. */
int outcome_set(struct outcome *outcome, struct scratch *scratch, enum outcome_code code,
		const char *format, ...) __attribute__((format(printf, 4, 5)));
void outcome_add_violation(struct outcome *outcome, struct scratch *scratch, const char *subject,
			   const char *format, ...) __attribute__((format(printf, 4, 5)));
void outcome_add_metadata(struct outcome *outcome, struct scratch *scratch, const char *key,
			  const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Serializes google.rpc.Status into the scratch; 0 bytes if that has no room. */
size_t outcome_pack_details(const struct outcome *outcome, struct scratch *scratch,
			    uint8_t **ret_bytes);

/*
 * The same with ErrorInfo alone and a message cut to fit: for when there is no memory.
 * Returns the size; allocates nothing.
 */
#define OUTCOME_MINIMAL_SIZE 512
size_t outcome_pack_minimal(enum outcome_code code, const char *message,
			    uint8_t ret_bytes[static OUTCOME_MINIMAL_SIZE]);

#endif
