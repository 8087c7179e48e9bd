/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the library: how they are made, copied, freed and asked.  Decoding what the
 * broker sends is error_details.c.
 *
 * An error is a result whose root is struct ioasid_error, except the constant one for the
 * lack of memory, which is never freed.
 */
#include "error.h"
#include "result.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct ioasid_error no_memory = {
	.error = -ENOMEM,
	.code = IOASID_RESOURCE_EXHAUSTED,
	.origin = IOASID_ORIGIN_LOCAL,
	.reason = "OUT_OF_MEMORY",
	.message = "out of memory in the client",
	.method = "",
	.retry_delay_ms = -1,
};

int error_no_memory(struct ioasid_error **ret_error)
{
	if (ret_error)
		*ret_error = (struct ioasid_error *)&no_memory;
	return -ENOMEM;
}

static int make(const struct error_info *info, struct ioasid_error **ret_error, const char *format,
		va_list args)
{
	char message[512];
	struct result *result;
	struct ioasid_error *error;

	if (!ret_error)
		return info->error;
	result = result_new(sizeof(*error));
	if (!result)
		return error_no_memory(ret_error);
	vsnprintf(message, sizeof(message), format, args);
	error = result_root(result);
	*error = (struct ioasid_error){
		.error = info->error,
		.code = info->code,
		.origin = info->origin,
		.reason = info->reason,
		.message = result_strdup(result, message),
		.method = result_strdup(result, info->method ?: ""),
		.retry_delay_ms = -1,
	};
	if (result_failed(result)) {
		result_free(result);
		return error_no_memory(ret_error);
	}
	*ret_error = error;
	return info->error;
}

int error_make(const struct error_info *info, struct ioasid_error **ret_error, const char *format,
	       ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = make(info, ret_error, format, args);
	va_end(args);
	return r;
}

int error_invalid(const char *method, struct ioasid_error **ret_error, const char *format, ...)
{
	const struct error_info info = {
		.error = -EINVAL,
		.code = IOASID_INVALID_ARGUMENT,
		.origin = IOASID_ORIGIN_LOCAL,
		.reason = "INVALID_CALL",
		.method = method,
	};
	va_list args;
	int r;

	va_start(args, format);
	r = make(&info, ret_error, format, args);
	va_end(args);
	return r;
}

int error_connection_lost(const char *method, const char *text, struct ioasid_error **ret_error)
{
	return error_make(
		&(const struct error_info){
			.error = -ECONNRESET,
			.code = IOASID_UNAVAILABLE,
			.origin = IOASID_ORIGIN_CONNECTION,
			.reason = "CONNECTION_LOST",
			.method = method,
		},
		ret_error, "the connection to the broker is lost%s%s", text && *text ? ": " : "",
		text ?: "");
}

int error_timed_out(const char *method, struct ioasid_error **ret_error)
{
	return error_make(
		&(const struct error_info){
			.error = -ETIMEDOUT,
			.code = IOASID_DEADLINE_EXCEEDED,
			.origin = IOASID_ORIGIN_LOCAL,
			.reason = "TIMED_OUT",
			.method = method,
		},
		ret_error, "no answer within the time-out");
}

int error_cancelled(const char *method, struct ioasid_error **ret_error)
{
	return error_make(
		&(const struct error_info){
			.error = -ECANCELED,
			.code = IOASID_CANCELLED,
			.origin = IOASID_ORIGIN_LOCAL,
			.reason = "CANCELLED",
			.method = method,
		},
		ret_error, "cancelled by this program");
}

int error_bad_answer(const char *method, const char *text, struct ioasid_error **ret_error)
{
	return error_make(
		&(const struct error_info){
			.error = -EPROTO,
			.code = IOASID_INTERNAL,
			.origin = IOASID_ORIGIN_GRPC,
			.reason = "BAD_ANSWER",
			.method = method,
		},
		ret_error, "the answer makes no sense: %s", text);
}

int error_copy(const struct ioasid_error *error, struct ioasid_error **ret_error)
{
	struct ioasid_metadata *metadata;
	struct ioasid_violation *violations;
	struct ioasid_error *copy;
	struct result *result;

	if (!ret_error)
		return error->error;
	if (error == &no_memory)
		return error_no_memory(ret_error);
	result = result_new(sizeof(*copy));
	if (!result)
		return error_no_memory(ret_error);
	copy = result_root(result);
	*copy = *error;
	copy->reason = result_strdup(result, error->reason);
	copy->message = result_strdup(result, error->message);
	copy->method = result_strdup(result, error->method);
	metadata = result_alloc(result, error->n_metadata, sizeof(*metadata));
	for (size_t i = 0; metadata && i < error->n_metadata; i++) {
		metadata[i].key = result_strdup(result, error->metadata[i].key);
		metadata[i].value = result_strdup(result, error->metadata[i].value);
	}
	copy->metadata = metadata;
	violations = result_alloc(result, error->n_violations, sizeof(*violations));
	for (size_t i = 0; violations && i < error->n_violations; i++) {
		const struct ioasid_violation *from = &error->violations[i];

		violations[i].kind = from->kind;
		violations[i].type = result_strdup(result, from->type);
		violations[i].subject = result_strdup(result, from->subject);
		violations[i].description = result_strdup(result, from->description);
	}
	copy->violations = violations;
	if (result_failed(result)) {
		result_free(result);
		return error_no_memory(ret_error);
	}
	*ret_error = copy;
	return error->error;
}

int error_errno_of_code(enum ioasid_code code, const char *reason)
{
	switch (code) {
	case IOASID_INVALID_ARGUMENT:
		return -EINVAL;
	case IOASID_NOT_FOUND:
		return -ENOENT;
	case IOASID_PERMISSION_DENIED:
		return -EACCES;
	case IOASID_UNAUTHENTICATED:
		return -EPERM;
	case IOASID_RESOURCE_EXHAUSTED:
		return !strcmp(reason, "RATE") ? -EAGAIN : -EDQUOT;
	case IOASID_FAILED_PRECONDITION:
		return -EBUSY;
	case IOASID_ALREADY_EXISTS:
		return -EEXIST;
	case IOASID_ABORTED:
		return -EAGAIN;
	case IOASID_UNAVAILABLE:
		return -EHOSTDOWN;
	case IOASID_UNIMPLEMENTED:
		return -EOPNOTSUPP;
	case IOASID_CANCELLED:
		return -ECANCELED;
	case IOASID_DEADLINE_EXCEEDED:
		return -ETIMEDOUT;
	default:
		return -EIO;
	}
}

void ioasid_error_free(struct ioasid_error *error)
{
	if (error != &no_memory)
		result_free_root(error);
}

const char *ioasid_error_metadata(const struct ioasid_error *error, const char *key)
{
	for (size_t i = 0; error && key && i < error->n_metadata; i++)
		if (!strcmp(error->metadata[i].key, key))
			return error->metadata[i].value;
	return NULL;
}

uint64_t ioasid_error_done(const struct ioasid_error *error)
{
	const char *text = ioasid_error_metadata(error, "done");
	unsigned long long value;
	char *end;

	if (!text || *text < '0' || *text > '9')
		return 0;
	errno = 0;
	value = strtoull(text, &end, 10);
	return errno || *end ? 0 : value;
}

bool ioasid_error_is_denied(const struct ioasid_error *error)
{
	return error &&
	       (error->code == IOASID_PERMISSION_DENIED || error->code == IOASID_UNAUTHENTICATED);
}

bool ioasid_error_is_quota(const struct ioasid_error *error)
{
	/* gRPC itself says RESOURCE_EXHAUSTED of messages that are too long. */
	return error && error->code == IOASID_RESOURCE_EXHAUSTED &&
	       error->origin == IOASID_ORIGIN_BROKER;
}

bool ioasid_error_is_not_found(const struct ioasid_error *error)
{
	return error && error->code == IOASID_NOT_FOUND;
}

bool ioasid_error_is_no_server(const struct ioasid_error *error)
{
	return error && error->code == IOASID_UNAVAILABLE &&
	       (error->origin == IOASID_ORIGIN_CONNECT ||
		error->origin == IOASID_ORIGIN_CONNECTION);
}

bool ioasid_error_is_lease_lost(const struct ioasid_error *error)
{
	return error && error->origin == IOASID_ORIGIN_LOCAL &&
	       !strcmp(error->reason, "LEASE_LOST");
}

bool ioasid_error_is_retryable(const struct ioasid_error *error)
{
	if (!error || error->origin != IOASID_ORIGIN_BROKER)
		return false;
	return error->code == IOASID_ABORTED || error->code == IOASID_UNAVAILABLE ||
	       (error->code == IOASID_RESOURCE_EXHAUSTED && !strcmp(error->reason, "RATE"));
}
