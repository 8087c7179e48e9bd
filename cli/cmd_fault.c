/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault watch, fault respond: what devices of the lease met, live, and the answers that those
 * which asked for a page wait for.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

#include <errno.h>
#include <time.h>

SESSION_CLEANUP(ioasid_watch, ioasid_watch_close)
SESSION_CLEANUP(ioasid_fault_event, ioasid_fault_event_free)

static const struct cli_column line[] = {
	{"sequence", "#"},
	{"device", ""},
	{"pasid", "PASID", .optional = true},
	{"ioasid", "ioasid", .optional = true},
	{"fault.text", ""},
	{"cookie", "cookie", .optional = true},
	{"group", "group", .optional = true},
	{"deadline_ms", "answered in ms", .optional = true},
	{"lost", "lost-before", .optional = true},
	{},
};
static const struct cli_view watch_view = {.form = line, .id = "cookie"};

static const struct cli_column respond_form[] = {
	{"cookie", "cookie"},
	{"response", "answer"},
	{},
};
static const struct cli_view respond_view = {.form = respond_form, .id = "cookie"};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct json_object *describe(const struct ioasid_fault_event *e)
{
	struct json_object *o = doc_new("fault");

	doc_put_u64(o, "sequence", e->sequence);
	if (e->lost)
		doc_put_u64(o, "lost", e->lost);
	if (e->ioasid)
		doc_put_u64(o, "ioasid", e->ioasid);
	doc_put_text_if(o, "device", e->device);
	if (e->pasid != IOASID_NO_PASID)
		doc_put_u64(o, "pasid", e->pasid);
	if (e->fault)
		doc_put(o, "fault", object_fault(e->fault));
	if (!e->cookie)
		return o;
	doc_put_u64(o, "cookie", e->cookie);
	doc_put_u64(o, "group", e->group);
	doc_put_bool(o, "last", e->last);
	doc_put_u64(o, "deadline_ms", e->deadline_ms);
	return o;
}

static int watch_run(struct cli *cli, const struct cli_args *args)
{
	uint64_t left = args_number(args, "count", UINT64_MAX);
	uint64_t seconds = args_number(args, "seconds", 0), until = now_ms() + seconds * 1000;
	_cleanup_with_(ioasid_watch_close) struct ioasid_watch *watch = NULL;
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	c.scope.timeout_ms = IOASID_NO_TIMEOUT;
	if (ioasid_watch_faults(c.client, &c.scope, args_number(args, "IOASID", 0),
				args_number(args, "after", 0), &watch, &c.error) < 0)
		return session_fail(cli, c.error);
	while (!r && left) {
		_cleanup_with_(ioasid_fault_event_free) struct ioasid_fault_event *event = NULL;
		uint32_t wait = IOASID_NO_TIMEOUT;
		uint64_t now = now_ms();
		int e;

		if (seconds) {
			if (now >= until)
				break;
			wait = (uint32_t)(until - now);
		}
		e = ioasid_watch_next_fault(watch, wait, &event, &c.error);
		if (e == -EAGAIN)
			continue;
		if (e < 0)
			return session_fail(cli, c.error);
		r = cli_show_event(cli, describe(event));
		left--;
	}
	return r;
}

/* In the order of enum ioasid_fault_response, from 1. */
static const char *const responses[] = {"success", "invalid", NULL};

static int respond_run(struct cli *cli, const struct cli_args *args)
{
	uint64_t cookie = args_number(args, "COOKIE", 0), index = args_number(args, "ANSWER", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_fault_respond(
		    c.client, &c.scope, cookie,
		    (enum ioasid_fault_response)(index + IOASID_FAULT_RESPONSE_SUCCESS),
		    &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("fault-respond");
	doc_put_u64(document, "cookie", cookie);
	doc_put_text(document, "response", responses[index]);
	return cli_show(cli, document);
}

static const struct cli_param watch_args[] = {
	{"IOASID", CLI_ID, .help = "only of this IOASID; without: of the lease"},
	{},
};
static const struct cli_param watch_options[] = {
	{"after", CLI_UINT, .value = "SEQUENCE", .help = "begin after this fault, if it is kept"},
	{"count", CLI_UINT, .help = "end after so many", .min = 1},
	{"seconds", CLI_UINT, .help = "end after so long", .min = 1, .max = 4000000},
	{},
};
static const struct cli_param respond_args[] = {
	{"COOKIE", CLI_ID, CLI_REQUIRED, .help = "of the page request"},
	{"ANSWER", CLI_WORD, CLI_REQUIRED, .words = responses,
	 .help = "success: the page is there; invalid: the access fails"},
	{},
};

const struct cli_command cmd_fault_watch = {
	.noun = "fault",
	.verb = "watch",
	.roles = "tenant, agent",
	.summary = "show what devices of the lease met, live",
	.help = "A fault with a cookie is a page request: the device waits until `fault respond`, "
		"or until the deadline, when the broker answers invalid.",
	.example = "ioasidctl --lease web fault watch",
	.args = watch_args,
	.options = watch_options,
	.view = &watch_view,
	.run = watch_run,
};
const struct cli_command cmd_fault_respond = {
	.noun = "fault",
	.verb = "respond",
	.roles = "tenant, agent",
	.summary = "answer a page request",
	.example = "ioasidctl --lease web fault respond 17 success",
	.args = respond_args,
	.view = &respond_view,
	.run = respond_run,
};
