/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Outcomes of requests and their form on the wire.  This is the only place that knows a
 * gRPC status code or a google.rpc detail; handlers speak of outcomes.  The table is the
 * status table at the top of proto/ioasid.proto.
 */
#include "server/broker/outcome.h"

#include "rpc_status.pb-c.h"

#include <stdio.h>
#include <string.h>

/* The numbers of grpc_status_code; the broker does not include gRPC. */
enum {
	STATUS_OK = 0,
	STATUS_CANCELLED = 1,
	STATUS_INVALID_ARGUMENT = 3,
	STATUS_NOT_FOUND = 5,
	STATUS_ALREADY_EXISTS = 6,
	STATUS_PERMISSION_DENIED = 7,
	STATUS_RESOURCE_EXHAUSTED = 8,
	STATUS_FAILED_PRECONDITION = 9,
	STATUS_ABORTED = 10,
	STATUS_UNIMPLEMENTED = 12,
	STATUS_INTERNAL = 13,
	STATUS_UNAVAILABLE = 14,
	STATUS_UNAUTHENTICATED = 16,
};

/* Which google.rpc message carries the violations. */
enum detail { DETAIL_NONE, DETAIL_BAD_REQUEST, DETAIL_QUOTA, DETAIL_PRECONDITION };

static const struct {
	int status;
	const char *reason;
	enum detail detail;
} outcomes[_OUTCOME_MAX] = {
	[OUTCOME_OK] = {STATUS_OK, "OK", DETAIL_NONE},
	[OUTCOME_MALFORMED] = {STATUS_INVALID_ARGUMENT, "MALFORMED", DETAIL_BAD_REQUEST},
	[OUTCOME_INVALID_FIELD] = {STATUS_INVALID_ARGUMENT, "INVALID_FIELD", DETAIL_BAD_REQUEST},
	[OUTCOME_NOT_FOUND] = {STATUS_NOT_FOUND, "NOT_FOUND", DETAIL_NONE},
	[OUTCOME_ROLE_FORBIDDEN] = {STATUS_PERMISSION_DENIED, "ROLE_FORBIDDEN", DETAIL_NONE},
	[OUTCOME_POLICY_FORBIDDEN] = {STATUS_PERMISSION_DENIED, "POLICY_FORBIDDEN", DETAIL_NONE},
	[OUTCOME_TICKET_REFUSED] = {STATUS_PERMISSION_DENIED, "TICKET_REFUSED", DETAIL_NONE},
	[OUTCOME_NO_TENANT] = {STATUS_UNAUTHENTICATED, "NO_TENANT", DETAIL_NONE},
	[OUTCOME_QUOTA] = {STATUS_RESOURCE_EXHAUSTED, "QUOTA", DETAIL_QUOTA},
	[OUTCOME_RATE] = {STATUS_RESOURCE_EXHAUSTED, "RATE", DETAIL_QUOTA},
	[OUTCOME_FORMAT_UNSUPPORTED] = {STATUS_FAILED_PRECONDITION, "FORMAT_UNSUPPORTED",
					DETAIL_PRECONDITION},
	[OUTCOME_GROUP_INCOMPLETE] = {STATUS_FAILED_PRECONDITION, "GROUP_INCOMPLETE",
				      DETAIL_PRECONDITION},
	[OUTCOME_NOT_CLAIMED] = {STATUS_FAILED_PRECONDITION, "NOT_CLAIMED", DETAIL_PRECONDITION},
	[OUTCOME_NOT_ATTACHED] = {STATUS_FAILED_PRECONDITION, "NOT_ATTACHED", DETAIL_PRECONDITION},
	[OUTCOME_DEVICE_IN_USE] = {STATUS_FAILED_PRECONDITION, "DEVICE_IN_USE",
				   DETAIL_PRECONDITION},
	[OUTCOME_INCOMPATIBLE] = {STATUS_FAILED_PRECONDITION, "INCOMPATIBLE", DETAIL_PRECONDITION},
	[OUTCOME_WOULD_SPLIT] = {STATUS_FAILED_PRECONDITION, "WOULD_SPLIT", DETAIL_PRECONDITION},
	[OUTCOME_MEMORY_UNSUITABLE] = {STATUS_FAILED_PRECONDITION, "MEMORY_UNSUITABLE",
				       DETAIL_PRECONDITION},
	[OUTCOME_WRONG_STATE] = {STATUS_FAILED_PRECONDITION, "WRONG_STATE", DETAIL_PRECONDITION},
	[OUTCOME_OVERLAP] = {STATUS_ALREADY_EXISTS, "OVERLAP", DETAIL_BAD_REQUEST},
	[OUTCOME_NAME_TAKEN] = {STATUS_ALREADY_EXISTS, "NAME_TAKEN", DETAIL_NONE},
	[OUTCOME_KEY_REUSED] = {STATUS_ALREADY_EXISTS, "KEY_REUSED", DETAIL_NONE},
	[OUTCOME_ALREADY_ATTACHED] = {STATUS_ALREADY_EXISTS, "ALREADY_ATTACHED", DETAIL_NONE},
	[OUTCOME_BUSY] = {STATUS_ABORTED, "BUSY", DETAIL_NONE},
	[OUTCOME_SHIM_GONE] = {STATUS_UNAVAILABLE, "SHIM_GONE", DETAIL_NONE},
	[OUTCOME_SHUTTING_DOWN] = {STATUS_UNAVAILABLE, "SHUTTING_DOWN", DETAIL_NONE},
	[OUTCOME_REGISTRY_FULL] = {STATUS_UNAVAILABLE, "REGISTRY_FULL", DETAIL_NONE},
	[OUTCOME_UNIMPLEMENTED] = {STATUS_UNIMPLEMENTED, "UNIMPLEMENTED", DETAIL_NONE},
	[OUTCOME_CANCELLED] = {STATUS_CANCELLED, "CANCELLED", DETAIL_NONE},
	[OUTCOME_NO_MEMORY] = {STATUS_INTERNAL, "INTERNAL", DETAIL_NONE},
	[OUTCOME_INTERNAL] = {STATUS_INTERNAL, "INTERNAL", DETAIL_NONE},
};

#define TYPE_URL "type.googleapis.com/google.rpc."

int outcome_status(enum outcome_code code)
{
	return outcomes[code].status;
}

const char *outcome_reason(enum outcome_code code)
{
	return outcomes[code].reason;
}

void outcome_init(struct outcome *outcome)
{
	outcome->code = OUTCOME_OK;
	outcome->message = "";
	outcome->n_violations = 0;
	outcome->violations_bytes = 0;
	outcome->n_metadata = 0;
	outcome->retry_after_us = 0;
}

const char *outcome_text(struct scratch *scratch, const char *format, va_list ap)
{
	char *text = scratch_vprintf(scratch, format, ap);
	size_t n;

	if (!text || strlen(text) <= OUTCOME_TEXT_MAX)
		return text;
	/* Not inside a character: UTF-8 continuation bytes are 10xxxxxx. */
	for (n = OUTCOME_TEXT_MAX - 3; n && (text[n] & 0xc0) == 0x80; n--)
		;
	memcpy(text + n, "...", 4);
	return text;
}

int outcome_set(struct outcome *outcome, struct scratch *scratch, enum outcome_code code,
		const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	outcome->code = code;
	outcome->message = outcome_text(scratch, format, ap) ?: "out of memory";
	va_end(ap);
	return code;
}

void outcome_add_violation(struct outcome *outcome, struct scratch *scratch, const char *subject,
			   const char *format, ...)
{
	struct outcome_violation *v;
	va_list ap;

	if (outcome->n_violations == OUTCOME_VIOLATIONS_MAX)
		return;
	v = &outcome->violations[outcome->n_violations];
	v->subject = scratch_strdup(scratch, subject);
	va_start(ap, format);
	v->description = outcome_text(scratch, format, ap);
	va_end(ap);
	if (!v->subject || !v->description)
		return;
	outcome->violations_bytes += strlen(v->subject) + strlen(v->description) + 16;
	if (outcome->violations_bytes <= OUTCOME_VIOLATIONS_BYTES)
		outcome->n_violations++;
}

void outcome_add_metadata(struct outcome *outcome, struct scratch *scratch, const char *key,
			  const char *format, ...)
{
	const size_t max = sizeof(outcome->metadata) / sizeof(outcome->metadata[0]);
	va_list ap;
	const char *value;

	if (outcome->n_metadata == max)
		return;
	va_start(ap, format);
	value = outcome_text(scratch, format, ap);
	va_end(ap);
	if (!value)
		return;
	outcome->metadata[outcome->n_metadata].key = key;
	outcome->metadata[outcome->n_metadata].value = value;
	outcome->n_metadata++;
}

static bool pack_detail(struct scratch *scratch, const char *type_url,
			const ProtobufCMessage *message, Ioasid__Rpcstatus__Detail *ret)
{
	size_t n = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = scratch_alloc(scratch, n);

	if (!bytes)
		return false;
	protobuf_c_message_pack(message, bytes);
	ioasid__rpcstatus__detail__init(ret);
	ret->type_url = (char *)type_url;
	ret->value = (ProtobufCBinaryData){.len = n, .data = bytes};
	return true;
}

static bool pack_error_info(const struct outcome *outcome, struct scratch *scratch,
			    Ioasid__Rpcstatus__Detail *ret)
{
	Ioasid__Rpcstatus__ErrorInfo info = IOASID__RPCSTATUS__ERROR_INFO__INIT;
	Ioasid__Rpcstatus__MetadataEntry entries[8], *pointers[8];

	info.reason = (char *)outcome_reason(outcome->code);
	info.domain = (char *)"ioasid";
	for (size_t i = 0; i < outcome->n_metadata; i++) {
		ioasid__rpcstatus__metadata_entry__init(&entries[i]);
		entries[i].key = (char *)outcome->metadata[i].key;
		entries[i].value = (char *)outcome->metadata[i].value;
		pointers[i] = &entries[i];
	}
	info.n_metadata = outcome->n_metadata;
	info.metadata = pointers;
	return pack_detail(scratch, TYPE_URL "ErrorInfo", &info.base, ret);
}

/*
 * BadRequest, QuotaFailure and PreconditionFailure differ in nothing but the names of the
 * strings of a line.
 */
static bool pack_violations(const struct outcome *outcome, struct scratch *scratch,
			    Ioasid__Rpcstatus__Detail *ret)
{
	size_t n = outcome->n_violations;
	void **lines = scratch_calloc(scratch, n, sizeof(*lines));

	if (!lines)
		return false;
	switch (outcomes[outcome->code].detail) {
	case DETAIL_BAD_REQUEST: {
		Ioasid__Rpcstatus__BadRequest m = IOASID__RPCSTATUS__BAD_REQUEST__INIT;
		Ioasid__Rpcstatus__FieldViolation *v = scratch_calloc(scratch, n, sizeof(*v));

		for (size_t i = 0; v && i < n; i++) {
			ioasid__rpcstatus__field_violation__init(&v[i]);
			v[i].field = (char *)outcome->violations[i].subject;
			v[i].description = (char *)outcome->violations[i].description;
			lines[i] = &v[i];
		}
		m.n_field_violations = n;
		m.field_violations = (void *)lines;
		return v && pack_detail(scratch, TYPE_URL "BadRequest", &m.base, ret);
	}
	case DETAIL_QUOTA: {
		Ioasid__Rpcstatus__QuotaFailure m = IOASID__RPCSTATUS__QUOTA_FAILURE__INIT;
		Ioasid__Rpcstatus__QuotaViolation *v = scratch_calloc(scratch, n, sizeof(*v));

		for (size_t i = 0; v && i < n; i++) {
			ioasid__rpcstatus__quota_violation__init(&v[i]);
			v[i].subject = (char *)outcome->violations[i].subject;
			v[i].description = (char *)outcome->violations[i].description;
			lines[i] = &v[i];
		}
		m.n_violations = n;
		m.violations = (void *)lines;
		return v && pack_detail(scratch, TYPE_URL "QuotaFailure", &m.base, ret);
	}
	case DETAIL_PRECONDITION: {
		Ioasid__Rpcstatus__PreconditionFailure m =
			IOASID__RPCSTATUS__PRECONDITION_FAILURE__INIT;
		Ioasid__Rpcstatus__PreconditionViolation *v =
			scratch_calloc(scratch, n, sizeof(*v));

		for (size_t i = 0; v && i < n; i++) {
			ioasid__rpcstatus__precondition_violation__init(&v[i]);
			v[i].type = (char *)outcome_reason(outcome->code);
			v[i].subject = (char *)outcome->violations[i].subject;
			v[i].description = (char *)outcome->violations[i].description;
			lines[i] = &v[i];
		}
		m.n_violations = n;
		m.violations = (void *)lines;
		return v && pack_detail(scratch, TYPE_URL "PreconditionFailure", &m.base, ret);
	}
	case DETAIL_NONE:
		break;
	}
	return false;
}

static bool pack_retry(const struct outcome *outcome, struct scratch *scratch,
		       Ioasid__Rpcstatus__Detail *ret)
{
	Ioasid__Rpcstatus__RetryInfo m = IOASID__RPCSTATUS__RETRY_INFO__INIT;
	Ioasid__Rpcstatus__Duration d = IOASID__RPCSTATUS__DURATION__INIT;

	d.seconds = (int64_t)(outcome->retry_after_us / 1000000);
	d.nanos = (int32_t)(outcome->retry_after_us % 1000000 * 1000);
	m.retry_delay = &d;
	return pack_detail(scratch, TYPE_URL "RetryInfo", &m.base, ret);
}

size_t outcome_pack_details(const struct outcome *outcome, struct scratch *scratch,
			    uint8_t **ret_bytes)
{
	Ioasid__Rpcstatus__Status status = IOASID__RPCSTATUS__STATUS__INIT;
	Ioasid__Rpcstatus__Detail details[3], *pointers[3];
	uint8_t *bytes;
	size_t n = 0, size;

	if (pack_error_info(outcome, scratch, &details[n]))
		n++;
	if (outcome->n_violations && pack_violations(outcome, scratch, &details[n]))
		n++;
	if (outcome->retry_after_us && pack_retry(outcome, scratch, &details[n]))
		n++;
	for (size_t i = 0; i < n; i++)
		pointers[i] = &details[i];
	status.code = outcome_status(outcome->code);
	status.message = (char *)outcome->message;
	status.n_details = n;
	status.details = pointers;
	size = ioasid__rpcstatus__status__get_packed_size(&status);
	bytes = scratch_alloc(scratch, size);
	if (!bytes)
		return 0;
	ioasid__rpcstatus__status__pack(&status, bytes);
	*ret_bytes = bytes;
	return size;
}

size_t outcome_pack_minimal(enum outcome_code code, const char *message,
			    uint8_t ret_bytes[static OUTCOME_MINIMAL_SIZE])
{
	Ioasid__Rpcstatus__Status status = IOASID__RPCSTATUS__STATUS__INIT;
	Ioasid__Rpcstatus__ErrorInfo info = IOASID__RPCSTATUS__ERROR_INFO__INIT;
	Ioasid__Rpcstatus__Detail detail = IOASID__RPCSTATUS__DETAIL__INIT, *details = &detail;
	uint8_t bytes[96];
	char text[128];

	snprintf(text, sizeof(text), "%s", message);
	info.reason = (char *)outcome_reason(code);
	info.domain = (char *)"ioasid";
	detail.type_url = (char *)TYPE_URL "ErrorInfo";
	detail.value.data = bytes;
	detail.value.len = ioasid__rpcstatus__error_info__pack(&info, bytes);
	status.code = outcome_status(code);
	status.message = text;
	status.n_details = 1;
	status.details = &details;
	return ioasid__rpcstatus__status__pack(&status, ret_bytes);
}
