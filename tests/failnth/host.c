/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"

#include "rpc_status.pb-c.h"

#include <stdio.h>
#include <string.h>

void host_init(struct host *host)
{
	memset(host, 0, sizeof(*host));
	host->now_us = 1000000;
	host->last = &host->first;
}

static uint64_t host_monotonic_us(void *data)
{
	struct host *host = data;

	return host->now_us;
}

static uint64_t host_realtime_us(void *data)
{
	struct host *host = data;

	return host->now_us + 1700000000000000u;
}

static void host_submit(void *data, struct broker_work *work)
{
	struct host *host = data;

	work->next = NULL;
	*host->last = work;
	host->last = &work->next;
}

static int host_watch(void *data, struct broker_watch *watch)
{
	struct host *host = data;

	host->n_watches++;
	return 0;
}

static void host_unwatch(void *data, struct broker_watch *watch)
{
	struct host *host = data;

	host->n_watches--;
}

static void host_kick(void *data, void *connection)
{
	struct host *host = data;

	host->n_kicked++;
}

static void host_audit(void *data, const char *line, size_t length)
{
	struct host *host = data;

	host->n_audited++;
}

static void host_log(void *data, int level, const char *line)
{
}

const struct broker_host_ops host_ops = {
	.monotonic_us = host_monotonic_us,
	.realtime_us = host_realtime_us,
	.submit = host_submit,
	.watch = host_watch,
	.unwatch = host_unwatch,
	.kick = host_kick,
	.audit = host_audit,
	.log = host_log,
};

void host_pump(struct host *host, struct broker *broker)
{
	for (;;) {
		struct broker_work *work = host->first;

		if (work) {
			host->first = work->next;
			if (!host->first)
				host->last = &host->first;
			work->run(work);
			work->done(work);
		} else if (broker_next_deadline(broker) <= host->now_us) {
			broker_tick(broker);
		} else {
			return;
		}
	}
}

/* The reason of the ErrorInfo in a google.rpc.Status.  protobuf-c's own malloc is not wrapped. */
static void host_decode(struct host *host, const uint8_t *details, size_t length)
{
	Ioasid__Rpcstatus__Status *status =
		ioasid__rpcstatus__status__unpack(NULL, length, details);

	for (size_t i = 0; status && i < status->n_details; i++) {
		Ioasid__Rpcstatus__ErrorInfo *info;

		if (!strstr(status->details[i]->type_url, "google.rpc.ErrorInfo"))
			continue;
		info = ioasid__rpcstatus__error_info__unpack(NULL, status->details[i]->value.len,
							     status->details[i]->value.data);
		if (info)
			snprintf(host->reason, sizeof(host->reason), "%s", info->reason);
		for (size_t k = 0; info && k < info->n_metadata; k++)
			host->partial |= !strcmp(info->metadata[k]->key, "done");
		ioasid__rpcstatus__error_info__free_unpacked(info, NULL);
	}
	ioasid__rpcstatus__status__free_unpacked(status, NULL);
}

static void host_finish(void *userdata, const struct broker_answer *answer)
{
	struct host *host = userdata;

	host->answered = true;
	host->code = answer->code;
	snprintf(host->message, sizeof(host->message), "%s", answer->message ?: "");
	host->reason[0] = '\0';
	host->partial = false;
	if (answer->n_details)
		host_decode(host, answer->details, answer->n_details);
	host->n_response = 0;
	if (answer->response &&
	    protobuf_c_message_get_packed_size(answer->response) <= sizeof(host->response))
		host->n_response = protobuf_c_message_pack(answer->response, host->response);
}

static void host_send(void *userdata, const ProtobufCMessage *message)
{
	struct host *host = userdata;

	host->sent = true;
}

static const struct broker_call_ops call_ops = {.finish = host_finish, .send = host_send};

int host_call(struct host *host, struct broker *broker, struct broker_session *session,
	      const char *method, const uint8_t *request, size_t length)
{
	const struct broker_method *found = broker_method_find(method, strlen(method));
	struct broker_call *call = NULL;

	if (!found)
		return -1;
	host->answered = false;
	broker_call_start(session, found, request, length, &call_ops, host, &call);
	host_pump(host, broker);
	return host->answered ? host->code : -1;
}

int host_stream(struct host *host, struct broker *broker, struct broker_session *session,
		const char *method, const uint8_t *request, size_t length)
{
	const struct broker_method *found = broker_method_find(method, strlen(method));
	struct broker_call *call = NULL;

	if (!found)
		return -1;
	host->answered = false;
	host->sent = false;
	broker_call_start(session, found, request, length, &call_ops, host, &call);
	host_pump(host, broker);
	while (!host->answered && host->sent) {
		host->sent = false;
		broker_call_writable(call);
		host_pump(host, broker);
	}
	if (!host->answered) {
		broker_call_cancel(call);
		host_pump(host, broker);
	}
	return host->answered ? host->code : -1;
}
