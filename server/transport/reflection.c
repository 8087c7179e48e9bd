/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grpc.reflection.v1alpha.ServerReflection: one answer for each question on a stream, each
 * asked for after the last one is out, so a stream holds one question at most.
 */
#include "server.h"
#include "services.h"

#include "grpc/reflection/v1alpha/reflection.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define REQUEST_MAX	 4096
#define SERVICES_MAX	 16
#define SERVICE_NAME_MAX 128

typedef Grpc__Reflection__V1alpha__ServerReflectionRequest Question;
typedef Grpc__Reflection__V1alpha__ServerReflectionResponse Answer;
#define ASKS(what)    GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##what
#define ANSWERS(what) GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##what

static void send_error(struct call *call, Answer *answer, int code, const char *message)
{
	Grpc__Reflection__V1alpha__ErrorResponse error =
		GRPC__REFLECTION__V1ALPHA__ERROR_RESPONSE__INIT;

	error.error_code = code;
	error.error_message = (char *)message;
	answer->message_response_case = ANSWERS(ERROR_RESPONSE);
	answer->error_response = &error;
	call_send(call, &answer->base);
}

static void send_file(struct call *call, Answer *answer, const uint8_t *file, size_t size)
{
	Grpc__Reflection__V1alpha__FileDescriptorResponse response =
		GRPC__REFLECTION__V1ALPHA__FILE_DESCRIPTOR_RESPONSE__INIT;
	ProtobufCBinaryData bytes = {.data = (uint8_t *)file, .len = size};

	response.n_file_descriptor_proto = 1;
	response.file_descriptor_proto = &bytes;
	answer->message_response_case = ANSWERS(FILE_DESCRIPTOR_RESPONSE);
	answer->file_descriptor_response = &response;
	call_send(call, &answer->base);
}

static void send_services(struct call *call, Answer *answer)
{
	Grpc__Reflection__V1alpha__ListServiceResponse response =
		GRPC__REFLECTION__V1ALPHA__LIST_SERVICE_RESPONSE__INIT;
	Grpc__Reflection__V1alpha__ServiceResponse services[SERVICES_MAX];
	Grpc__Reflection__V1alpha__ServiceResponse *pointers[SERVICES_MAX];
	char names[SERVICES_MAX][SERVICE_NAME_MAX];
	size_t n = 0;

	for (; n < SERVICES_MAX && descriptors_service_at(n, names[n], SERVICE_NAME_MAX); n++) {
		grpc__reflection__v1alpha__service_response__init(&services[n]);
		services[n].name = names[n];
		pointers[n] = &services[n];
	}
	response.n_service = n;
	response.service = pointers;
	answer->message_response_case = ANSWERS(LIST_SERVICES_RESPONSE);
	answer->list_services_response = &response;
	call_send(call, &answer->base);
}

static void reflection_answer(struct call *call, Question *question)
{
	Answer answer = GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION_RESPONSE__INIT;
	const uint8_t *file;
	size_t size;

	answer.valid_host = question->host;
	answer.original_request = question;
	switch (question->message_request_case) {
	case ASKS(LIST_SERVICES):
		send_services(call, &answer);
		return;
	case ASKS(FILE_BY_FILENAME):
		if (descriptors_find_file(question->file_by_filename, &file, &size))
			send_file(call, &answer, file, size);
		else
			send_error(call, &answer, GRPC_STATUS_NOT_FOUND, "no such file");
		return;
	case ASKS(FILE_CONTAINING_SYMBOL):
		if (descriptors_find_symbol(question->file_containing_symbol, &file, &size))
			send_file(call, &answer, file, size);
		else
			send_error(call, &answer, GRPC_STATUS_NOT_FOUND, "no such symbol");
		return;
	case ASKS(FILE_CONTAINING_EXTENSION):
	case ASKS(ALL_EXTENSION_NUMBERS_OF_TYPE):
		send_error(call, &answer, GRPC_STATUS_NOT_FOUND, "there are no extensions");
		return;
	default:
		send_error(call, &answer, GRPC_STATUS_INVALID_ARGUMENT, "an empty question");
		return;
	}
}

static void info_received(struct call *call, const uint8_t *bytes, size_t length)
{
	Question *question = NULL;

	if (!bytes) {
		call_finish(call, GRPC_STATUS_OK, NULL, NULL, NULL);
		return;
	}
	if (length <= REQUEST_MAX)
		question = grpc__reflection__v1alpha__server_reflection_request__unpack(
			NULL, length, bytes);
	if (!question) {
		call_finish(call, GRPC_STATUS_INVALID_ARGUMENT, "MALFORMED",
			    "not a ServerReflectionRequest", NULL);
		return;
	}
	reflection_answer(call, question);
	grpc__reflection__v1alpha__server_reflection_request__free_unpacked(question, NULL);
}

static void info_writable(struct call *call)
{
	call_receive(call);
}

const struct service_method reflection_info = {
	.path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
	.received = info_received,
	.writable = info_writable,
	.is_streaming = true,
};
