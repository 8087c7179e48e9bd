/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status: who the caller is to the broker, what the broker is, and what it found when it was
 * started.
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
	{"registry_generation", "registry generation", .optional = true},
	{"restart.leases_restored", "restored: leases", .optional = true},
	{"restart.devices", "restored: devices", .optional = true},
	{"restart.memories", "restored: memory", .optional = true},
	{"restart.ioasids", "restored: ioasids", .optional = true},
	{"restart.mappings", "restored: mappings", .optional = true},
	{"restart.attachments", "restored: attachments", .optional = true},
	{"restart.leases_ended", "ended: leases", .optional = true},
	{"restart.other_boot_leases", "ended: leases of another boot", .optional = true},
	{"restart.undone", "requests undone", .optional = true},
	{"restart.redone", "requests redone", .optional = true},
	{"restart.strays", "strays destroyed", .optional = true},
	{"restart.damaged_records", "damaged records", .optional = true},
	{"restart.duration_us", "restart took (us)", .optional = true},
	{},
};
static const struct cli_view view = {.form = form, .id = "role"};

static struct json_object *object_restart(const struct ioasid_restart *restart)
{
	struct json_object *o = doc_object();

	doc_put_u64(o, "leases_restored", restart->leases_restored);
	doc_put_u64(o, "leases_ended", restart->leases_ended);
	doc_put_u64(o, "other_boot_leases", restart->other_boot_leases);
	doc_put_u64(o, "devices", restart->devices);
	doc_put_u64(o, "memories", restart->memories);
	doc_put_u64(o, "ioasids", restart->ioasids);
	doc_put_u64(o, "mappings", restart->mappings);
	doc_put_u64(o, "attachments", restart->attachments);
	doc_put_u64(o, "undone", restart->undone);
	doc_put_u64(o, "redone", restart->redone);
	doc_put_u64(o, "strays", restart->strays);
	doc_put_u64(o, "damaged_records", restart->damaged_records);
	doc_put_u64(o, "duration_us", restart->duration_us);
	return o;
}

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
	doc_put_u64(document, "registry_generation", s->registry_generation);
	if (s->restart)
		doc_put(document, "restart", object_restart(s->restart));
	return cli_show(cli, document);
}

const struct cli_command cmd_status = {
	.noun = "status",
	.flags = CLI_NO_LEASE,
	.roles = "tenant, agent, observer, admin",
	.summary =
		"show the broker's version, its shim, its last start, and who the caller is to it",
	.view = &view,
	.run = status,
};
