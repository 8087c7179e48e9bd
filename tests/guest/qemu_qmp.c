/* SPDX-License-Identifier: Apache-2.0 */
/* See qemu_qmp.h.  QEMU ends each message with a line's end, and the tokener needs none. */
#include "qemu_qmp.h"

#include "qemu_socket.h"
#include "report.h"

#include <poll.h>
#include <stdarg.h>
#include <unistd.h>

#define WAIT_MS 10000

static char error_text[512];

static void __attribute__((noreturn)) broken(const char *what)
{
	report(0, "QMP", what);
	exit(1);
}

struct json_object *qmp_get(struct json_object *object, ...)
{
	const char *name;
	va_list args;

	va_start(args, object);
	while (object && (name = va_arg(args, const char *))) {
		struct json_object *member = NULL;

		json_object_object_get_ex(object, name, &member);
		object = member;
	}
	va_end(args);
	return object;
}

/* The next message, or NULL after wait_ms without one. */
static struct json_object *next_message(struct qmp *qmp, int wait_ms)
{
	struct pollfd p = {.fd = qmp->fd, .events = POLLIN};
	struct json_object *message;
	size_t used;
	ssize_t n;

	for (;;) {
		if (qmp->have) {
			message = json_tokener_parse_ex(qmp->tokener, qmp->bytes, (int)qmp->have);
			used = json_tokener_get_parse_end(qmp->tokener);
			qmp->have -= used;
			memmove(qmp->bytes, qmp->bytes + used, qmp->have);
			if (message)
				return message;
			if (json_tokener_get_error(qmp->tokener) != json_tokener_continue)
				broken("no JSON");
		}
		if (poll(&p, 1, wait_ms) <= 0)
			return NULL;
		n = read(qmp->fd, qmp->bytes, sizeof(qmp->bytes));
		if (n <= 0)
			broken("QEMU has closed it");
		qmp->have = (size_t)n;
	}
}

/* The next message that is no event. */
static struct json_object *next_answer(struct qmp *qmp)
{
	for (;;) {
		struct json_object *message = next_message(qmp, 6 * WAIT_MS);
		struct json_object *event;

		if (!message)
			broken("no answer");
		event = qmp_get(message, "event", NULL);
		if (!event)
			return message;
		json_object_object_add(qmp->events, json_object_get_string(event), message);
	}
}

void qmp_connect(struct qmp *qmp, const char *path)
{
	const char *error;

	*qmp = (struct qmp){
		.fd = qemu_socket_connect(path),
		.tokener = json_tokener_new(),
		.events = json_object_new_object(),
	};
	need(qmp->fd, "QMP");
	qmp->greeting = next_answer(qmp);
	json_object_put(qmp_do(qmp, "{\"execute\": \"qmp_capabilities\"}", -1, &error));
}

void qmp_close(struct qmp *qmp)
{
	json_tokener_free(qmp->tokener);
	json_object_put(qmp->greeting);
	json_object_put(qmp->events);
	close(qmp->fd);
}

struct json_object *qmp_do(struct qmp *qmp, const char *command, int fd, const char **ret_error)
{
	struct json_object *message, *result;

	if (!qemu_socket_send(qmp->fd, command, strlen(command), fd))
		broken("QEMU takes no command");
	message = next_answer(qmp);
	result = json_object_get(qmp_get(message, "return", NULL));
	if (!result) {
		snprintf(error_text, sizeof(error_text), "%s",
			 json_object_get_string(qmp_get(message, "error", "desc", NULL)));
		*ret_error = error_text;
	}
	json_object_put(message);
	return result;
}

bool qmp_event(struct qmp *qmp, const char *name)
{
	while (!qmp_get(qmp->events, name, NULL)) {
		struct json_object *message = next_message(qmp, WAIT_MS);
		struct json_object *event = qmp_get(message, "event", NULL);

		if (!message)
			return false;
		if (!event)
			broken("an answer that nobody asked for");
		json_object_object_add(qmp->events, json_object_get_string(event), message);
	}
	return true;
}
