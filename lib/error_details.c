/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The broker's refusals: google.rpc.Status in grpc-status-details-bin, whose details are
 * messages named by a type URL.  A detail of a type that is not known, or that does not
 * parse, is left out; the status itself must parse and agree with the call's status code,
 * or the whole is taken for something that no broker sent.
 */
#include "error.h"
#include "result.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "rpc_status.pb-c.h"

/* What a refusal may hold at most; a broker sends far fewer. */
#define LIST_MAX 4096

struct decoder {
	struct result *result;
	struct ioasid_error *error;
	struct ioasid_violation *violations;
};

static const char *type_name(const char *url)
{
	const char *slash = strrchr(url, '/');

	return slash ? slash + 1 : url;
}

static void *unpack(struct decoder *decoder, const ProtobufCMessageDescriptor *descriptor,
		    const Ioasid__Rpcstatus__Detail *detail)
{
	return protobuf_c_message_unpack(descriptor, result_allocator(decoder->result),
					 detail->value.len, detail->value.data);
}

static void add_violation(struct decoder *decoder, enum ioasid_violation_kind kind,
			  const char *type, const char *subject, const char *description)
{
	decoder->violations[decoder->error->n_violations++] = (struct ioasid_violation){
		.kind = kind,
		.type = type,
		.subject = subject,
		.description = description,
	};
}

/* Makes room for n more; false: no memory, or more than a refusal may hold. */
static bool grow_violations(struct decoder *decoder, size_t n)
{
	struct ioasid_violation *grown;

	if (n > LIST_MAX || decoder->error->n_violations + n > LIST_MAX)
		return false;
	grown = result_alloc(decoder->result, decoder->error->n_violations + n, sizeof(*grown));
	if (!grown)
		return false;
	if (decoder->error->n_violations)
		memcpy(grown, decoder->violations, decoder->error->n_violations * sizeof(*grown));
	decoder->violations = grown;
	return true;
}

static void decode_info(struct decoder *decoder, const Ioasid__Rpcstatus__Detail *detail)
{
	const Ioasid__Rpcstatus__ErrorInfo *info =
		unpack(decoder, &ioasid__rpcstatus__error_info__descriptor, detail);
	struct ioasid_metadata *metadata;

	if (!info)
		return;
	decoder->error->reason = info->reason;
	if (!info->n_metadata || info->n_metadata > LIST_MAX)
		return;
	metadata = result_alloc(decoder->result, info->n_metadata, sizeof(*metadata));
	if (!metadata)
		return;
	for (size_t i = 0; i < info->n_metadata; i++) {
		metadata[i].key = info->metadata[i]->key;
		metadata[i].value = info->metadata[i]->value;
	}
	decoder->error->metadata = metadata;
	decoder->error->n_metadata = info->n_metadata;
}

static void decode_quota(struct decoder *decoder, const Ioasid__Rpcstatus__Detail *detail)
{
	const Ioasid__Rpcstatus__QuotaFailure *failure =
		unpack(decoder, &ioasid__rpcstatus__quota_failure__descriptor, detail);

	if (!failure || !grow_violations(decoder, failure->n_violations))
		return;
	for (size_t i = 0; i < failure->n_violations; i++)
		add_violation(decoder, IOASID_VIOLATION_QUOTA, "", failure->violations[i]->subject,
			      failure->violations[i]->description);
}

static void decode_precondition(struct decoder *decoder, const Ioasid__Rpcstatus__Detail *detail)
{
	const Ioasid__Rpcstatus__PreconditionFailure *failure =
		unpack(decoder, &ioasid__rpcstatus__precondition_failure__descriptor, detail);

	if (!failure || !grow_violations(decoder, failure->n_violations))
		return;
	for (size_t i = 0; i < failure->n_violations; i++)
		add_violation(decoder, IOASID_VIOLATION_PRECONDITION, failure->violations[i]->type,
			      failure->violations[i]->subject, failure->violations[i]->description);
}

static void decode_request(struct decoder *decoder, const Ioasid__Rpcstatus__Detail *detail)
{
	const Ioasid__Rpcstatus__BadRequest *bad =
		unpack(decoder, &ioasid__rpcstatus__bad_request__descriptor, detail);

	if (!bad || !grow_violations(decoder, bad->n_field_violations))
		return;
	for (size_t i = 0; i < bad->n_field_violations; i++)
		add_violation(decoder, IOASID_VIOLATION_FIELD, "", bad->field_violations[i]->field,
			      bad->field_violations[i]->description);
}

static void decode_retry(struct decoder *decoder, const Ioasid__Rpcstatus__Detail *detail)
{
	const Ioasid__Rpcstatus__RetryInfo *info =
		unpack(decoder, &ioasid__rpcstatus__retry_info__descriptor, detail);
	const Ioasid__Rpcstatus__Duration *delay = info ? info->retry_delay : NULL;

	if (!delay || delay->seconds < 0 || delay->seconds > INT32_MAX || delay->nanos < 0)
		return;
	/* Rounded up: an early retry would be refused again. */
	decoder->error->retry_delay_ms =
		delay->seconds * 1000 + ((int64_t)delay->nanos + 999999) / 1000000;
}

static const struct {
	const char *name;
	void (*decode)(struct decoder *decoder, const Ioasid__Rpcstatus__Detail *detail);
} types[] = {
	{"google.rpc.ErrorInfo", decode_info},
	{"google.rpc.QuotaFailure", decode_quota},
	{"google.rpc.PreconditionFailure", decode_precondition},
	{"google.rpc.BadRequest", decode_request},
	{"google.rpc.RetryInfo", decode_retry},
};

int error_from_details(const char *method, enum ioasid_code code, const char *message,
		       const void *details, size_t n_details, struct ioasid_error **ret_error)
{
	__attribute__((cleanup(result_freep))) struct result *result = NULL;
	const Ioasid__Rpcstatus__Status *status;
	struct decoder decoder;

	result = result_new(sizeof(*decoder.error));
	if (!result)
		return error_no_memory(ret_error);
	decoder = (struct decoder){.result = result, .error = result_root(result)};
	status = (const Ioasid__Rpcstatus__Status *)protobuf_c_message_unpack(
		&ioasid__rpcstatus__status__descriptor, result_allocator(result), n_details,
		details);
	if (!status)
		return result_failed(result) ? error_no_memory(ret_error) : -EBADMSG;
	if (status->code != (int32_t)code)
		return -EBADMSG;

	*decoder.error = (struct ioasid_error){
		.code = code,
		.origin = IOASID_ORIGIN_BROKER,
		.reason = "",
		.message = *status->message ? status->message : result_strdup(result, message),
		.method = result_strdup(result, method),
		.retry_delay_ms = -1,
	};
	for (size_t i = 0; i < status->n_details; i++)
		for (size_t j = 0; j < sizeof(types) / sizeof(types[0]); j++)
			if (!strcmp(type_name(status->details[i]->type_url), types[j].name))
				types[j].decode(&decoder, status->details[i]);
	decoder.error->violations = decoder.violations;
	decoder.error->error = error_errno_of_code(code, decoder.error->reason);
	if (result_failed(result))
		return error_no_memory(ret_error);

	int r = decoder.error->error;

	if (ret_error) {
		*ret_error = decoder.error;
		result = NULL;
	}
	return r;
}
