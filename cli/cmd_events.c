/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events: what happens, live, one line or one JSON object each, until interrupted.  An
 * administrator or observer sees every tenant, others their own.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

#include <errno.h>
#include <string.h>
#include <time.h>

SESSION_CLEANUP(ioasid_server_status, ioasid_server_status_free)
SESSION_CLEANUP(ioasid_watch, ioasid_watch_close)
SESSION_CLEANUP(ioasid_event, ioasid_event_free)

static const struct cli_column line[] = {
	{"time_us", "", RENDER_TIME},
	{"sequence", "#"},
	{"event", ""},
	{"tenant", "tenant"},
	{"lease", "lease", .optional = true},
	{"ioasid", "ioasid", .optional = true},
	{"device", "device", .optional = true},
	{"lost", "lost-before", .optional = true},
	{"text", "", .optional = true},
	{},
};
static const struct cli_view view = {.form = line, .id = "sequence"};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Events of every tenant, for those who may; an agent names its tenant. */
static int start(struct cli *cli, struct session_call *c, const struct ioasid_event_filter *filter,
		 struct ioasid_watch **ret_watch)
{
	_cleanup_with_(ioasid_server_status_free) struct ioasid_server_status *s = NULL;
	bool all;
	int r;

	if (ioasid_server_status(c->client, &c->scope, &s, &c->error) < 0)
		return session_fail(cli, c->error);
	all = !cli->tenant && (!strcmp(s->role, "admin") || !strcmp(s->role, "observer"));
	c->scope.timeout_ms = IOASID_NO_TIMEOUT;
	r = all ? ioasid_watch_all_events(c->client, &c->scope, filter, ret_watch, &c->error)
		: ioasid_watch_events(c->client, &c->scope, filter, ret_watch, &c->error);
	return r < 0 ? session_fail(cli, c->error) : CLI_OK;
}

static int events(struct cli *cli, const struct cli_args *args)
{
	uint64_t left = args_number(args, "count", UINT64_MAX);
	uint64_t seconds = args_number(args, "seconds", 0), until = now_ms() + seconds * 1000;
	_cleanup_with_(ioasid_watch_close) struct ioasid_watch *watch = NULL;
	size_t n_types = args_count(args, "only");
	_cleanup_free_ enum ioasid_event_type *types = cli_alloc(n_types * sizeof(*types));
	struct ioasid_event_filter filter = {
		.after_sequence = args_number(args, "after", 0),
		.n_types = n_types,
		.types = types,
	};
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	for (size_t i = 0; i < n_types; i++)
		types[i] = (enum ioasid_event_type)args_at(args, "only", i)->number;
	if (!r)
		r = start(cli, &c, &filter, &watch);
	while (!r && left) {
		_cleanup_with_(ioasid_event_free) struct ioasid_event *event = NULL;
		uint64_t now = now_ms();
		uint32_t wait = IOASID_NO_TIMEOUT;
		struct json_object *document;
		int e;

		if (seconds) {
			if (now >= until)
				break;
			wait = (uint32_t)(until - now);
		}
		e = ioasid_watch_next_event(watch, wait, &event, &c.error);
		if (e == -EAGAIN)
			continue;
		if (e < 0)
			return session_fail(cli, c.error);
		document = doc_new("event");
		object_event(document, event);
		r = cli_show_event(cli, document);
		left--;
	}
	return r;
}

static const struct cli_param options[] = {
	{"only", CLI_EVENT, CLI_REPEATED, .help = "only these types of events"},
	{"after", CLI_UINT, .value = "SEQUENCE", .help = "begin after this event, if it is kept"},
	{"count", CLI_UINT, .help = "end after so many", .min = 1},
	{"seconds", CLI_UINT, .help = "end after so long", .min = 1, .max = 4000000},
	{},
};

const struct cli_command cmd_events = {
	.noun = "events",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary = "show what happens, live",
	.example = "ioasidctl -o json events --only ioasid-allocated,quota-refused",
	.options = options,
	.view = &view,
	.run = events,
};
