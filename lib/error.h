/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_ERROR_H
#define LIBIOASID_ERROR_H

/*
 * Making struct ioasid_error.  Each maker returns the negative errno that belongs to the
 * error, and accepts a ret_error that is NULL.  Without memory the error is a constant one
 * that says so: whoever passes ret_error gets something to print.
 */

#include "ioasid.h"

struct error_info {
	int error;
	enum ioasid_code code;
	enum ioasid_error_origin origin;
	const char *reason;
	const char *method;
};

int error_make(const struct error_info *info, struct ioasid_error **ret_error, const char *format,
	       ...) __attribute__((format(printf, 3, 4)));
/* Of the library itself, reason INVALID_CALL, -EINVAL. */
int error_invalid(const char *method, struct ioasid_error **ret_error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int error_no_memory(struct ioasid_error **ret_error);
/* The connection ended under a call; text: what is known, may be NULL. */
int error_connection_lost(const char *method, const char *text, struct ioasid_error **ret_error);
int error_timed_out(const char *method, struct ioasid_error **ret_error);
int error_cancelled(const char *method, struct ioasid_error **ret_error);
/* The broker's answer makes no sense. */
int error_bad_answer(const char *method, const char *text, struct ioasid_error **ret_error);
/*
 * A refusal with the bytes of grpc-status-details-bin.  -EBADMSG, without an error: the
 * bytes are no such details.
 */
int error_from_details(const char *method, enum ioasid_code code, const char *message,
		       const void *details, size_t n_details, struct ioasid_error **ret_error);
/* A deep copy; the constant error for an error without one. */
int error_copy(const struct ioasid_error *error, struct ioasid_error **ret_error);

/* The negative errno of a status that the broker or gRPC gave. */
int error_errno_of_code(enum ioasid_code code, const char *reason);

#endif
