/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant list, show, drain, revoke, set-limit: the administrator's commands about tenants.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

#include <string.h>

SESSION_CLEANUP(ioasid_tenants, ioasid_tenants_free)
SESSION_CLEANUP(ioasid_tenant, ioasid_tenant_free)

static const struct cli_column list_columns[] = {
	{"name", "TENANT"},
	{"resources:leases", "LEASES", RENDER_USE},
	{"resources:devices", "DEVICES", RENDER_USE},
	{"resources:ioasids", "IOASIDS", RENDER_USE},
	{"resources:map_entries", "MAPPINGS", RENDER_USE},
	{"resources:registered_bytes", "REGISTERED", RENDER_USE},
	{"resources:mapped_bytes", "MAPPED", RENDER_USE},
	{"resources:pinned_bytes", "PINNED", RENDER_USE},
	{"draining", "DRAINING", RENDER_BOOL, .optional = true},
	{"orphaned", "ORPHANED", RENDER_BOOL, .optional = true},
	{},
};
static const struct cli_section list_sections[] = {
	{"tenants", NULL, list_columns, .empty = "no such tenant"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "tenant"};

const struct cli_column usage_columns[] = {
	{"resource", "RESOURCE"},
	{"limit", "LIMIT", RENDER_BYTES},
	{"used", "USED", RENDER_BYTES},
	{"own", "OWN", RENDER_BYTES},
	{"reserved", "RESERVED", RENDER_BYTES},
	{"peak", "PEAK", RENDER_BYTES},
	{"refused_local", "REFUSED HERE"},
	{"refused", "REFUSED"},
	{},
};
static const struct cli_section show_sections[] = {
	{"resources", NULL, usage_columns},
	{},
};
static const struct cli_column show_form[] = {
	{"name", "tenant"},
	{"parent", "parent"},
	{"draining", "draining", RENDER_BOOL},
	{"orphaned", "orphaned", RENDER_BOOL},
	{},
};
static const struct cli_view show_view = {
	.form = show_form,
	.sections = show_sections,
	.id = "tenant",
};

static const struct cli_column drain_form[] = {
	{"tenant", "tenant"},
	{"draining", "draining", RENDER_BOOL},
	{"leases_closed", "leases closed"},
	{},
};
static const struct cli_view drain_view = {.form = drain_form, .id = "tenant"};
static const struct cli_column revoke_form[] = {
	{"serial", "lease serial", .optional = true},
	{"device", "device", .optional = true},
	{},
};
static const struct cli_view revoke_view = {.form = revoke_form};

static int tenant_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_tenants_free) struct ioasid_tenants *tenants = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document, *list;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_tenant_list(c.client, &c.scope, args_text(args, "SUBTREE", ""),
			       args_has(args, "unused"), &tenants, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("tenant-list");
	list = doc_array();
	for (size_t i = 0; i < tenants->n; i++)
		doc_put(list, NULL, object_tenant(tenants->items[i]));
	doc_put(document, "tenants", list);
	return cli_show(cli, document);
}

static int tenant_show(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_tenants_free) struct ioasid_tenants *tenants = NULL;
	const char *path = args_text(args, "TENANT", "");
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_tenant_list(c.client, &c.scope, path, args_has(args, "unused"), &tenants,
			       &c.error) < 0)
		return session_fail(cli, c.error);
	for (size_t i = 0; i < tenants->n; i++)
		if (!strcmp(tenants->items[i]->path, path))
			return cli_show(cli, doc_of("tenant", object_tenant(tenants->items[i])));
	return cli_fail(cli, CLI_NOT_FOUND, "NOT_FOUND", "NOT_FOUND", "no tenant \"%s\"", path);
}

static int tenant_drain(struct cli *cli, const struct cli_args *args)
{
	const char *path = args_text(args, "TENANT", "");
	bool drain = !args_has(args, "end");
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	uint64_t closed = 0;
	int r;

	if (!drain && args_has(args, "close-leases"))
		return cli_usage(cli, "--close-leases: it does not go with --end");
	r = session_begin(cli, &c);
	if (r)
		return r;
	if (ioasid_tenant_drain(c.client, &c.scope, path, drain, args_has(args, "close-leases"),
				&closed, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("tenant-drain");
	doc_put_text(document, "tenant", path);
	doc_put_bool(document, "draining", drain);
	doc_put_u64(document, "leases_closed", closed);
	return cli_show(cli, document);
}

static int tenant_revoke(struct cli *cli, const struct cli_args *args)
{
	const char *device = args_text(args, "device", NULL);
	uint64_t serial = args_number(args, "serial", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r;

	if (!serial == !device)
		return cli_usage(cli, "tenant revoke: expected either --serial or --device");
	r = session_begin(cli, &c);
	if (r)
		return r;
	r = serial ? ioasid_revoke_lease(c.client, &c.scope, serial, &c.error)
		   : ioasid_revoke_device(c.client, &c.scope, device, &c.error);
	if (r < 0)
		return session_fail(cli, c.error);
	document = doc_new("tenant-revoke");
	if (serial)
		doc_put_u64(document, "serial", serial);
	else
		doc_put_text(document, "device", device);
	return cli_show(cli, document);
}

static int tenant_set_limit(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_tenant_free) struct ioasid_tenant *tenant = NULL;
	_cleanup_call_ struct session_call c = {};
	_cleanup_free_ struct ioasid_resource_amount *limits = NULL;
	size_t n;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	limits = quota_amounts(args, "LIMIT", &n);
	if (ioasid_limits_set(c.client, &c.scope, args_text(args, "TENANT", ""), limits, n, &tenant,
			      &c.error) < 0)
		return session_fail(cli, c.error);
	return cli_show(cli, doc_of("tenant", object_tenant(tenant)));
}

static const struct cli_param list_args[] = {
	{"SUBTREE", CLI_TEXT, .help = "only this tenant and those below it"},
	{},
};
static const struct cli_param unused_options[] = {
	{"unused", CLI_FLAG, .help = "with the resources that are neither limited nor used"},
	{},
};
static const struct cli_param one_tenant[] = {
	{"TENANT", CLI_TEXT, CLI_REQUIRED, .help = "path of the tenant, org/team"},
	{},
};
static const struct cli_param drain_options[] = {
	{"close-leases", CLI_FLAG, .help = "close its leases now, too"},
	{"end", CLI_FLAG, .help = "end draining: new objects are allowed again"},
	{},
};
static const struct cli_param revoke_options[] = {
	{"serial", CLI_ID, .help = "close the lease with this serial number (`lease list`)"},
	{"device", CLI_DEVICE, .help = "take this device from its lease"},
	{},
};
static const struct cli_param limit_args[] = {
	{"TENANT", CLI_TEXT, CLI_REQUIRED, .help = "path of the tenant, org/team"},
	{"LIMIT", CLI_AMOUNT, CLI_REQUIRED | CLI_REPEATED | CLI_OR_MAX,
	 .help = "ioasids=8, mapped_bytes=1G, pasids=max"},
	{},
};

const struct cli_command cmd_tenant_list = {
	.noun = "tenant",
	.verb = "list",
	.flags = CLI_NO_LEASE,
	.roles = "admin, observer, agent",
	.summary = "list tenants and what they use",
	.args = list_args,
	.options = unused_options,
	.view = &list_view,
	.run = tenant_list,
};
const struct cli_command cmd_tenant_show = {
	.noun = "tenant",
	.verb = "show",
	.flags = CLI_NO_LEASE,
	.roles = "admin, observer, agent",
	.summary = "show every limit and counter of one tenant",
	.args = one_tenant,
	.options = unused_options,
	.view = &show_view,
	.run = tenant_show,
};
const struct cli_command cmd_tenant_drain = {
	.noun = "tenant",
	.verb = "drain",
	.flags = CLI_NO_LEASE,
	.roles = "admin",
	.summary = "refuse a tenant new objects, or end that",
	.args = one_tenant,
	.options = drain_options,
	.view = &drain_view,
	.run = tenant_drain,
};
const struct cli_command cmd_tenant_revoke = {
	.noun = "tenant",
	.verb = "revoke",
	.flags = CLI_NO_LEASE,
	.roles = "admin",
	.summary = "take a lease or a device away from a tenant",
	.example = "ioasidctl --socket admin.sock tenant revoke --device 0000:3b:00.0",
	.options = revoke_options,
	.view = &revoke_view,
	.run = tenant_revoke,
};
const struct cli_command cmd_tenant_set_limit = {
	.noun = "tenant",
	.verb = "set-limit",
	.flags = CLI_NO_LEASE,
	.roles = "admin",
	.summary = "set limits of a tenant until the policy is next reloaded",
	.help = "A limit below what is used blocks growth and takes nothing away.",
	.args = limit_args,
	.view = &show_view,
	.run = tenant_set_limit,
};
/* The same under the noun where one looks for it. */
const struct cli_command cmd_quota_set = {
	.noun = "quota",
	.verb = "set",
	.flags = CLI_NO_LEASE,
	.roles = "admin",
	.summary = "set limits of a tenant (as `tenant set-limit`)",
	.example = "ioasidctl --socket admin.sock quota set acme/web ioasids=8 mapped_bytes=1G",
	.args = limit_args,
	.view = &show_view,
	.run = tenant_set_limit,
};
