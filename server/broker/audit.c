/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Audit records.  One line of JSON for each mutating call and each refusal, made in a
 * buffer on the stack; the host writes it somewhere, or loses it and says so.  State thread.
 */
#include "server/broker/audit.h"

#include "server/broker/call.h"

#include <stdio.h>
#include <string.h>

struct line {
	char text[2048];
	size_t n;
};

static void line_text(struct line *l, const char *text)
{
	size_t n = strlen(text);

	if (n > sizeof(l->text) - 8 - l->n)
		n = sizeof(l->text) - 8 - l->n;
	memcpy(l->text + l->n, text, n);
	l->n += n;
}

/* RFC 8259, section 7. */
static void line_string(struct line *l, const char *key, const char *value)
{
	line_text(l, ",\"");
	line_text(l, key);
	line_text(l, "\":\"");
	for (; *value && l->n < sizeof(l->text) - 16; value++) {
		unsigned char c = *value;

		if (c == '"' || c == '\\') {
			l->text[l->n++] = '\\';
			l->text[l->n++] = c;
		} else if (c < 0x20) {
			l->n += snprintf(l->text + l->n, 8, "\\u%04x", c);
		} else {
			l->text[l->n++] = c;
		}
	}
	line_text(l, "\"");
}

static void line_number(struct line *l, const char *key, uint64_t value)
{
	char digits[24];
	char *at = digits + sizeof(digits) - 1;

	*at = '\0';
	do
		*--at = '0' + value % 10;
	while (value /= 10);
	line_text(l, ",\"");
	line_text(l, key);
	line_text(l, "\":");
	line_text(l, at);
}

void audit_call(struct broker_call *call)
{
	const struct broker_session *s = call->session;
	struct broker *broker = call->broker;
	const char *method = strrchr(call->method->path, '/') + 1;
	struct line l;

	l.n = 0;
	line_text(&l, "{\"schema_version\":1");
	line_number(&l, "time_us", broker->host_ops->realtime_us(broker->host));
	line_string(&l, "method", method);
	line_string(&l, "outcome", outcome_reason(call->outcome.code));
	if (s) {
		line_string(&l, "socket", s->socket);
		line_number(&l, "uid", s->peer.uid);
		line_number(&l, "pid", (uint64_t)s->peer.pid);
		line_string(&l, "role", policy_role_name(s->role));
	}
	if (call->tenant)
		line_string(&l, "tenant", call->tenant->path);
	if (call->lease) {
		line_number(&l, "lease_serial", call->lease->serial);
		if (call->lease->name)
			line_string(&l, "lease", call->lease->name);
	}
	if (call->key[0])
		line_string(&l, "key", call->key);
	if (call->note)
		line_string(&l, "what", call->note);
	if (call->outcome.code != OUTCOME_OK)
		line_string(&l, "message", call->audit_message ?: call->outcome.message);
	line_number(&l, "us", broker_now(broker) - call->started_us);
	line_text(&l, "}");
	broker->host_ops->audit(broker->host, l.text, l.n);
}
