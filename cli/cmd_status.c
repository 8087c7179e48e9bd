/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status: who the caller is to the broker, and what the broker is.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

SESSION_CLEANUP(ioasid_server_status, ioasid_server_status_free)

static const struct cli_column form[] = {
	{"server_version", "server"},
	{"client_version", "client"},
	{"socket", "socket"},
	{"shim", "shim"},
	{"role", "role"},
	{"tenant", "tenant"},
	{"uptime_seconds", "up (s)"},
	{"capabilities", "capabilities"},
	{"connections", "connections", .optional = true},
	{"leases", "leases", .optional = true},
	{"ioasids", "ioasids", .optional = true},
	{"policy_generation", "policy generation", .optional = true},
	{},
};
static const struct cli_view view = {.form = form, .id = "role"};

static int status(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_server_status_free) struct ioasid_server_status *s = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_server_status(c.client, &c.scope, &s, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("status");
	doc_put_text(document, "server_version", s->version);
	doc_put_text(document, "client_version", ioasid_version());
	doc_put_text(document, "socket", ioasid_client_socket(c.client));
	doc_put_text(document, "shim", s->shim);
	doc_put(document, "capabilities", object_texts(s->capabilities, s->n_capabilities));
	doc_put_text(document, "role", s->role);
	doc_put_text(document, "tenant", s->tenant);
	doc_put_u64(document, "uptime_seconds", s->uptime_seconds);
	doc_put_u64(document, "connections", s->connections);
	doc_put_u64(document, "leases", s->leases);
	doc_put_u64(document, "ioasids", s->ioasids);
	doc_put_u64(document, "policy_generation", s->policy_generation);
	return cli_show(cli, document);
}

const struct cli_command cmd_status = {
	.noun = "status",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary = "show the broker's version, its shim, and who the caller is to it",
	.view = &view,
	.run = status,
};
