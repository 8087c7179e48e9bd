/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy explain: would this be allowed, and which rule of which file says so?  Works on
 * the files alone, by the functions that the broker asks; nothing is counted as used.
 */
#include "families.h"
#include "objects.h"
#include "policy_words.h"

#include <string.h>

static const struct cli_column form[] = {
	{"allowed", "allowed", RENDER_BOOL},
	{"role", "role", .optional = true},
	{"tenant", "tenant", .optional = true},
	{"rule", "by rule", .optional = true},
	{},
};
static const struct cli_column check_columns[] = {
	{"what", "WHAT"},	  {"value", "VALUE"}, {"allowed", "ALLOWED", RENDER_BOOL},
	{"tenant", "DECIDED BY"}, {"rule", "RULE"},   {},
};
static const struct cli_section sections[] = {{"checks", NULL, check_columns}, {}};
static const struct cli_view view = {.form = form, .sections = sections, .id = "allowed"};

static void add_check(struct json_object *checks, const char *what, const char *value, bool allowed,
		      const char *tenant, const char *rule)
{
	struct json_object *o = doc_object();

	doc_put_text(o, "what", what);
	doc_put_text(o, "value", value);
	doc_put_bool(o, "allowed", allowed);
	doc_put_text(o, "tenant", tenant && !*tenant ? "(host)" : tenant);
	doc_put_text(o, "rule", rule);
	doc_put(checks, NULL, o);
}

static void add_verdict(struct json_object *checks, const char *what, const char *value,
			const struct policy_verdict *v)
{
	add_check(checks, what, value, v->allowed, v->tenant,
		  v->rule
			  ?: v->allowed ? "no rule restricts it"
					: NULL);
}

/* Who the caller is; *ret_tenant is NULL if there is none. */
static int identify(struct cli *cli, const struct cli_args *args, const struct policy *policy,
		    struct json_object *document, const char **ret_tenant)
{
	const struct policy_caller caller = {
		.socket = cli->socket,
		.uid = (uid_t)args_number(args, "uid", UINT32_MAX),
		.gid = (gid_t)args_number(args, "gid", UINT32_MAX),
	};
	struct policy_identity identity;
	const char *tenant;

	if (!args_has(args, "uid")) {
		if (!cli->tenant)
			return cli_usage(cli, "policy explain: expected --socket and --uid, or "
					      "--tenant");
		*ret_tenant = cli->tenant;
		return CLI_OK;
	}
	if (!cli->socket)
		return cli_usage(cli, "--uid: expected --socket NAME, a listening socket, with it");
	if (policy_identify(policy, &caller, &identity)) {
		doc_put_text(document, "reason", "NO_TENANT");
		*ret_tenant = NULL;
		return CLI_OK;
	}
	doc_put_text(document, "role", policy_role_name(identity.role));
	doc_put_text(document, "rule", identity.rule);
	tenant = identity.tenant;
	if (cli->tenant) {
		if (identity.role == POLICY_ROLE_AGENT
			    ? !policy_path_in_subtree(cli->tenant, identity.tenant)
			    : strcmp(cli->tenant, identity.tenant) != 0) {
			doc_put_text(document, "reason", "ROLE_FORBIDDEN");
			*ret_tenant = NULL;
			return CLI_OK;
		}
		tenant = cli->tenant;
	}
	*ret_tenant = tenant;
	return CLI_OK;
}

static void check_device(const struct cli_args *args, const struct policy_tenant *tenant,
			 struct json_object *checks)
{
	const char *pci = args_text(args, "vendor-device", "0000:0000");
	const struct policy_device device = {
		.address = args_text(args, "device", NULL),
		.vendor = (uint16_t)strtoul(pci, NULL, 16),
		.device = (uint16_t)strtoul(strchr(pci, ':') + 1, NULL, 16),
		.class_code = (uint32_t)strtoul(args_text(args, "class", "0"), NULL, 16),
		.group = (uint32_t)args_number(args, "group", UINT32_MAX),
	};
	struct policy_verdict verdict;

	if (!device.address)
		return;
	policy_device_verdict(tenant, &device, &verdict);
	add_verdict(checks, "device", device.address, &verdict);
}

/* The numbers of the vocabulary are those of the enumerations. */
static void check_words(const struct cli_args *args, const struct policy_tenant *tenant,
			struct json_object *checks)
{
	struct policy_verdict verdict;

	for (size_t i = 0; i < args_count(args, "format"); i++) {
		const struct cli_value *v = args_at(args, "format", i);

		policy_format_verdict(tenant, (unsigned)v->number, &verdict);
		add_verdict(checks, "format", v->text, &verdict);
	}
	for (size_t i = 0; i < args_count(args, "kind"); i++) {
		const struct cli_value *v = args_at(args, "kind", i);

		policy_kind_verdict(tenant, (unsigned)v->number, &verdict);
		add_verdict(checks, "kind", v->text, &verdict);
	}
}

/* The first limit on the way up that is below the amount. */
static void check_amounts(const struct cli_args *args, const struct policy_tenant *tenant,
			  struct json_object *checks)
{
	for (size_t i = 0; i < args_count(args, "amount"); i++) {
		const struct cli_value *v = args_at(args, "amount", i);
		const struct policy_tenant *t = tenant;
		_cleanup_free_ char *limit = NULL;
		enum quota_resource resource;

		if (quota_resource_from_name(v->resource, &resource) < 0)
			continue;
		while (t && v->number <= policy_tenant_limit(t, resource))
			t = policy_tenant_parent(t);
		if (t) {
			uint64_t n = policy_tenant_limit(t, resource);
			char text[24];

			limit = strstr(v->resource, "_bytes")
					? cli_printf("limit %s", render_size(n, text, sizeof(text)))
					: cli_printf("limit %llu", (unsigned long long)n);
		}
		add_check(checks, "amount", v->text, !t, policy_tenant_path(t ?: tenant),
			  limit ?: "within every limit, if nothing else is used");
	}
}

static bool all_allowed(struct json_object *checks, bool *ret_quota)
{
	bool allowed = true;

	*ret_quota = true;
	for (size_t i = 0; i < json_object_array_length(checks); i++) {
		struct json_object *o = json_object_array_get_idx(checks, i);

		if (doc_get_bool(o, "allowed"))
			continue;
		allowed = false;
		*ret_quota &= !strcmp(doc_get_text(o, "what"), "amount");
	}
	return allowed;
}

static int policy_explain(struct cli *cli, const struct cli_args *args)
{
	_cleanup_policy_ struct policy *policy = NULL;
	_cleanup_json_ struct json_object *document = doc_new("policy-explain");
	const struct policy_tenant *tenant;
	struct json_object *checks;
	const char *path = NULL;
	bool allowed, quota;
	int r = policy_open(cli, args_text(args, "policy", NULL), &policy);

	if (!r)
		r = identify(cli, args, policy, document, &path);
	if (r)
		return r;
	tenant = path ? policy_tenant_find(policy, path) : NULL;
	if (path && !tenant)
		return cli_fail(cli, CLI_NOT_FOUND, "NOT_FOUND", "NOT_FOUND",
				"the policy has no tenant \"%s\"", path);
	checks = doc_array();
	doc_put_text(document, "tenant", path);
	doc_put(document, "checks", checks);
	if (tenant) {
		check_device(args, tenant, checks);
		check_words(args, tenant, checks);
		check_amounts(args, tenant, checks);
	}
	allowed = all_allowed(checks, &quota) && tenant;
	doc_put_bool(document, "allowed", allowed);
	r = cli_show(cli, json_object_get(document));
	if (r || allowed)
		return r;
	if (!tenant)
		return cli_fail(cli, CLI_DENIED, "UNAUTHENTICATED",
				doc_get_text(document, "reason"),
				"no rule of the policy lets this caller act");
	return quota ? cli_fail(cli, CLI_QUOTA, "RESOURCE_EXHAUSTED", "QUOTA",
				"the policy's limits do not allow that much")
		     : cli_fail(cli, CLI_DENIED, "PERMISSION_DENIED", "POLICY_FORBIDDEN",
				"the policy forbids it");
}

static const struct cli_param options[] = {
	{"policy", CLI_FILE, CLI_REQUIRED, .help = "a policy file, or a folder of *.json"},
	{"uid", CLI_UINT, .help = "the caller's uid, at the listening socket named by --socket",
	 .max = UINT32_MAX - 1},
	{"gid", CLI_UINT, .help = "the caller's gid", .max = UINT32_MAX - 1},
	{"device", CLI_DEVICE, .help = "a device that it would claim"},
	{"vendor-device", CLI_PCI_ID, .help = "what that device is, 8086:10fb"},
	{"class", CLI_PCI_CLASS, .help = "its PCI class, 020000"},
	{"group", CLI_UINT, .help = "its isolation group", .max = UINT32_MAX - 1},
	{"format", CLI_FORMAT, CLI_REPEATED, .help = "formats that it would use"},
	{"kind", CLI_KIND, CLI_REPEATED, .help = "kinds of IOASID that it would use"},
	{"amount", CLI_AMOUNT, CLI_REPEATED, .help = "amounts that it would be charged"},
	{},
};

const struct cli_command cmd_policy_explain = {
	.noun = "policy",
	.verb = "explain",
	.flags = CLI_OFFLINE,
	.roles = "everyone",
	.summary = "would the policy allow this, and which rule of which file says so?",
	.help = "Reads the files only.  Exit code 0: allowed, 3: forbidden, 4: a limit.",
	.example = "ioasidctl policy explain --policy p.d --socket tenants --uid 1001 "
		   "--device 0000:3b:00.0 --vendor-device 8086:10fb --kind kernel",
	.options = options,
	.view = &view,
	.run = policy_explain,
};
