/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree: everything.  An administrator, an observer or an agent sees tenants, their leases
 * and what those hold; a tenant sees its leases, and all that the current lease holds down
 * to the mappings.  Attachments are shown under the IOASID that they go through.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

#include <string.h>

SESSION_CLEANUP(ioasid_server_status, ioasid_server_status_free)
SESSION_CLEANUP(ioasid_tenants, ioasid_tenants_free)
SESSION_CLEANUP(ioasid_objects, ioasid_objects_free)
SESSION_CLEANUP(ioasid_leases, ioasid_leases_free)
SESSION_CLEANUP(ioasid_devices, ioasid_devices_free)
SESSION_CLEANUP(ioasid_memories, ioasid_memories_free)
SESSION_CLEANUP(ioasid_vms, ioasid_vms_free)
SESSION_CLEANUP(ioasid_infos, ioasid_infos_free)
SESSION_CLEANUP(ioasid_attachments, ioasid_attachments_free)
SESSION_CLEANUP(ioasid_mappings, ioasid_mappings_free)

/* ---- the view ---- */

static const struct cli_column attached_columns[] = {
	{"device", ""},
	{"pasid", "pasid", .optional = true},
	{},
};
static const struct cli_column mapping_columns[] = {
	{"iova", ""},
	{"length", "length", RENDER_SIZE},
	{"", "access", RENDER_PROT},
	{"memory", "memory", .optional = true},
	{"offset", "offset", RENDER_SIZE, .optional = true},
	{"parent_address", "parent-address", .optional = true},
	{},
};
static const struct cli_column ioasid_columns[] = {
	{"ioasid", ""},
	{"kind", ""},
	{"choice.format", ""},
	{"vm", "vm", .optional = true},
	{"mappings", "mappings", .optional = true},
	{"mapped_bytes", "mapped", RENDER_SIZE, .optional = true},
	{"label", "label", .optional = true},
	{},
};
static const struct cli_section ioasid_sections[] = {
	{"attached", "attached", attached_columns},
	{"mapped", "map", mapping_columns},
	{"nested", "ioasid", ioasid_columns, ioasid_sections},
	{},
};
static const struct cli_column device_columns[] = {{"device", ""}, {}};
static const struct cli_column memory_columns[] = {
	{"memory", ""},
	{"length", "", RENDER_SIZE},
	{"", "", RENDER_PROT},
	{"mappings", "mappings", .optional = true},
	{"label", "label", .optional = true},
	{},
};
static const struct cli_column vm_columns[] = {
	{"vm", ""},
	{"slots", "slots", .optional = true},
	{"slot_bytes", "", RENDER_SIZE},
	{"ioasids", "ioasids", .optional = true},
	{"label", "label", .optional = true},
	{},
};
static const struct cli_section lease_sections[] = {
	{"device_list", "device", device_columns},
	{"memory_list", "memory", memory_columns},
	{"vm_list", "vm", vm_columns},
	{"ioasid_list", "ioasid", ioasid_columns, ioasid_sections},
	{},
};
static const struct cli_column lease_columns[] = {
	{"name", ""},
	{"serial", "serial", .optional = true},
	{"uid", "uid", .optional = true},
	{"pid", "pid", .optional = true},
	{"state", "", .optional = true},
	{"summary", "", .optional = true},
	{"omitted", "omitted", .optional = true},
	{"pending", "pending", .optional = true},
	{},
};
static const struct cli_column tenant_columns[] = {
	{"name", ""},
	{"resources:ioasids", "ioasids", RENDER_USE, .optional = true},
	{"resources:mapped_bytes", "mapped", RENDER_USE, .optional = true},
	{"resources:pinned_bytes", "pinned", RENDER_USE, .optional = true},
	{"draining", "draining", RENDER_BOOL, .optional = true},
	{"orphaned", "orphaned", RENDER_BOOL, .optional = true},
	{},
};
static const struct cli_section tenant_sections[] = {
	{"leases", "lease", lease_columns, lease_sections},
	{"tenants", "tenant", tenant_columns, tenant_sections},
	{},
};
static const struct cli_section root_sections[] = {
	{"tenants", "tenant", tenant_columns, tenant_sections, .empty = "no tenant"},
	{},
};
static const struct cli_column totals_form[] = {
	{"totals.tenants", "tenants"},
	{"totals.leases", "leases"},
	{"totals.devices", "devices"},
	{"totals.memories", "memories"},
	{"totals.ioasids", "ioasids"},
	{"totals.attachments", "attachments"},
	{"totals.mappings", "mappings"},
	{"totals.mapped_bytes", "mapped", RENDER_SIZE},
	{},
};
static const struct cli_view view = {
	.form = totals_form,
	.sections = root_sections,
	.tree = true,
	.id = "tenant",
};

/* ---- a lease ---- */

struct totals {
	uint64_t tenants, leases, devices, memories, ioasids, attachments, mappings, mapped_bytes;
};

static struct json_object *totals_object(const struct totals *t)
{
	struct json_object *o = doc_object();

	doc_put_u64(o, "tenants", t->tenants);
	doc_put_u64(o, "leases", t->leases);
	doc_put_u64(o, "devices", t->devices);
	doc_put_u64(o, "memories", t->memories);
	doc_put_u64(o, "ioasids", t->ioasids);
	doc_put_u64(o, "attachments", t->attachments);
	doc_put_u64(o, "mappings", t->mappings);
	doc_put_u64(o, "mapped_bytes", t->mapped_bytes);
	return o;
}

/* Adds the attachments that go through each IOASID of a forest. */
static void put_attached(struct json_object *forest,
			 const struct ioasid_attachment *const *attachments, size_t n)
{
	for (size_t i = 0; i < json_object_array_length(forest); i++) {
		struct json_object *o = json_object_array_get_idx(forest, i);
		struct json_object *list = doc_array();

		for (size_t j = 0; j < n; j++)
			if (attachments[j]->ioasid == doc_get_u64(o, "ioasid"))
				doc_put(list, NULL, object_attachment(attachments[j]));
		doc_put(o, "attached", list);
		put_attached(doc_get(o, "nested"), attachments, n);
	}
}

static struct json_object *lease_object(const struct ioasid_lease *l, struct totals *totals)
{
	struct json_object *o = object_lease(l);

	doc_put_text(o, "name", *l->name ? l->name : "(connection)");
	doc_put_text_if(o, "state", l->closing ? "closing" : l->held ? "" : "unheld");
	totals->leases++;
	totals->devices += l->devices;
	totals->memories += l->memories;
	totals->ioasids += l->ioasids;
	totals->attachments += l->attachments;
	return o;
}

static void count_mappings(struct totals *totals, const struct ioasid_info *const *infos, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		totals->mappings += infos[i]->mappings;
		totals->mapped_bytes += infos[i]->mapped_bytes;
	}
}

static void put_devices(struct json_object *lease, const char *const *devices, size_t n)
{
	struct json_object *list = doc_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o = doc_object();

		doc_put_text(o, "device", devices[i]);
		doc_put(list, NULL, o);
	}
	doc_put(lease, "device_list", list);
}

static void put_memories(struct json_object *lease, const struct ioasid_memory *const *items,
			 size_t n)
{
	struct json_object *list = doc_array();

	for (size_t i = 0; i < n; i++)
		doc_put(list, NULL, object_memory(items[i]));
	doc_put(lease, "memory_list", list);
}

static void put_vms(struct json_object *lease, const struct ioasid_vm *const *items, size_t n)
{
	struct json_object *list = doc_array();

	for (size_t i = 0; i < n; i++)
		doc_put(list, NULL, object_vm(items[i]));
	doc_put(lease, "vm_list", list);
}

/* ---- all tenants ---- */

static struct json_object *leases_of(const struct ioasid_objects *objects, const char *tenant,
				     struct totals *totals)
{
	struct json_object *list = doc_array();

	for (size_t i = 0; i < objects->n; i++) {
		const struct ioasid_lease_objects *l = objects->items[i];
		struct json_object *o, *forest;

		if (strcmp(l->lease->tenant, tenant))
			continue;
		o = lease_object(l->lease, totals);
		put_devices(o, l->devices, l->n_devices);
		put_memories(o, l->memories, l->n_memories);
		put_vms(o, l->vms, l->n_vms);
		forest = ioasid_forest(l->ioasids, l->n_ioasids);
		put_attached(forest, l->attachments, l->n_attachments);
		doc_put(o, "ioasid_list", forest);
		doc_put_u64(o, "omitted", l->omitted);
		doc_put_u64(o, "pending", l->pending);
		count_mappings(totals, l->ioasids, l->n_ioasids);
		doc_put(list, NULL, o);
	}
	return list;
}

/* The tenant at an index with those below it; the server lists parents before children. */
static struct json_object *tenant_object(const struct ioasid_tenants *tenants, size_t index,
					 const struct ioasid_objects *objects,
					 struct totals *totals, unsigned depth)
{
	const struct ioasid_tenant *t = tenants->items[index];
	struct json_object *o = object_tenant(t), *list = doc_array();
	const char *slash = strrchr(t->path, '/');

	totals->tenants++;
	doc_put_text(o, "name", !*t->path ? "(host)" : slash ? slash + 1 : t->path);
	doc_put(o, "leases", leases_of(objects, t->path, totals));
	for (size_t i = index + 1; i < tenants->n && depth < 64; i++)
		if (!strcmp(tenants->items[i]->parent, t->path))
			doc_put(list, NULL, tenant_object(tenants, i, objects, totals, depth + 1));
	doc_put(o, "tenants", list);
	return o;
}

static bool parent_is_listed(const struct ioasid_tenants *tenants, const struct ioasid_tenant *t)
{
	for (size_t i = 0; i < tenants->n; i++)
		if (tenants->items[i] != t && *t->path &&
		    !strcmp(tenants->items[i]->path, t->parent))
			return true;
	return false;
}

static int tree_all(struct cli *cli, struct session_call *c, const char *subtree)
{
	_cleanup_with_(ioasid_tenants_free) struct ioasid_tenants *tenants = NULL;
	_cleanup_with_(ioasid_objects_free) struct ioasid_objects *objects = NULL;
	struct json_object *document, *list;
	struct totals totals = {};

	if (ioasid_tenant_list(c->client, &c->scope, subtree, false, &tenants, &c->error) < 0 ||
	    ioasid_object_list(c->client, &c->scope, subtree, &objects, &c->error) < 0)
		return session_fail(cli, c->error);
	document = doc_new("tree");
	list = doc_array();
	for (size_t i = 0; i < tenants->n; i++)
		if (!parent_is_listed(tenants, tenants->items[i]))
			doc_put(list, NULL, tenant_object(tenants, i, objects, &totals, 0));
	doc_put(document, "tenants", list);
	doc_put(document, "totals", totals_object(&totals));
	return cli_show(cli, document);
}

/* ---- one's own tenant ---- */

/* Adds the mappings of each IOASID of a forest.  An exit code. */
static int put_mapped(struct cli *cli, struct session_call *c, struct json_object *forest)
{
	for (size_t i = 0; i < json_object_array_length(forest); i++) {
		_cleanup_with_(ioasid_mappings_free) struct ioasid_mappings *mappings = NULL;
		struct json_object *o = json_object_array_get_idx(forest, i);
		struct json_object *list;
		int r;

		if (doc_get_u64(o, "mappings")) {
			if (ioasid_mapping_list(c->client, &c->scope, doc_get_u64(o, "ioasid"),
						&mappings, &c->error) < 0)
				return session_fail(cli, c->error);
			list = doc_array();
			for (size_t j = 0; j < mappings->n; j++)
				doc_put(list, NULL, object_mapping(mappings->items[j]));
			doc_put(o, "mapped", list);
		}
		r = put_mapped(cli, c, doc_get(o, "nested"));
		if (r)
			return r;
	}
	return CLI_OK;
}

/* What the current lease holds. */
static int put_current(struct cli *cli, struct session_call *c, struct json_object *lease,
		       struct totals *totals)
{
	_cleanup_with_(ioasid_attachments_free) struct ioasid_attachments *attachments = NULL;
	_cleanup_with_(ioasid_memories_free) struct ioasid_memories *memories = NULL;
	_cleanup_with_(ioasid_devices_free) struct ioasid_devices *devices = NULL;
	_cleanup_with_(ioasid_infos_free) struct ioasid_infos *infos = NULL;
	_cleanup_with_(ioasid_vms_free) struct ioasid_vms *vms = NULL;
	const struct ioasid_scope no_lease = session_scope_without_lease(cli);
	_cleanup_free_ const char **claimed = NULL;
	struct json_object *forest;
	size_t n = 0;

	if (ioasid_device_list(c->client, &no_lease, false, &devices, &c->error) < 0 ||
	    ioasid_memory_list(c->client, &c->scope, &memories, &c->error) < 0 ||
	    ioasid_vm_list(c->client, &c->scope, &vms, &c->error) < 0 ||
	    ioasid_list(c->client, &c->scope, &infos, &c->error) < 0 ||
	    ioasid_attachment_list(c->client, &c->scope, &attachments, &c->error) < 0)
		return session_fail(cli, c->error);
	claimed = cli_alloc(devices->n * sizeof(*claimed));
	for (size_t i = 0; i < devices->n; i++)
		if (devices->items[i]->state == IOASID_DEVICE_CLAIMED &&
		    !strcmp(devices->items[i]->lease, cli->lease ?: ""))
			claimed[n++] = devices->items[i]->address;
	put_devices(lease, claimed, n);
	put_memories(lease, memories->items, memories->n);
	put_vms(lease, vms->items, vms->n);
	forest = ioasid_forest(infos->items, infos->n);
	put_attached(forest, attachments->items, attachments->n);
	doc_put(lease, "ioasid_list", forest);
	count_mappings(totals, infos->items, infos->n);
	return put_mapped(cli, c, forest);
}

static void put_summary(struct json_object *o, const struct ioasid_lease *l)
{
	_cleanup_free_ char *text =
		cli_printf("devices=%llu memories=%llu ioasids=%llu attachments=%llu",
			   (unsigned long long)l->devices, (unsigned long long)l->memories,
			   (unsigned long long)l->ioasids, (unsigned long long)l->attachments);

	doc_put_text(o, "summary", text);
}

static int tree_own(struct cli *cli, struct session_call *c, const char *tenant)
{
	_cleanup_with_(ioasid_leases_free) struct ioasid_leases *leases = NULL;
	_cleanup_json_ struct json_object *document = doc_new("tree");
	struct json_object *tenants = doc_array(), *o = doc_object(), *list = doc_array();
	const struct ioasid_scope no_lease = session_scope_without_lease(cli);
	struct totals totals = {.tenants = 1};

	doc_put_text(o, "tenant", tenant);
	doc_put_text(o, "name", tenant);
	doc_put(o, "leases", list);
	doc_put(tenants, NULL, o);
	doc_put(document, "tenants", tenants);
	if (ioasid_lease_list(c->client, &no_lease, &leases, &c->error) < 0)
		return session_fail(cli, c->error);
	for (size_t i = 0; i < leases->n; i++) {
		const struct ioasid_lease *l = leases->items[i];
		struct json_object *lease = lease_object(l, &totals);
		int r;

		doc_put(list, NULL, lease);
		if (!l->mine || strcmp(l->name, cli->lease ?: "")) {
			put_summary(lease, l);
			continue;
		}
		r = put_current(cli, c, lease, &totals);
		if (r)
			return r;
	}
	doc_put(document, "totals", totals_object(&totals));
	return cli_show(cli, json_object_get(document));
}

static int tree_run(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_server_status_free) struct ioasid_server_status *s = NULL;
	const char *subtree = args_text(args, "SUBTREE", NULL);
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_server_status(c.client, &c.scope, &s, &c.error) < 0)
		return session_fail(cli, c.error);
	if (!strcmp(s->role, "tenant")) {
		if (subtree && strcmp(subtree, s->tenant))
			return cli_usage(cli, "SUBTREE: a tenant sees its own tree only, \"%s\"",
					 s->tenant);
		return tree_own(cli, &c, s->tenant);
	}
	return tree_all(cli, &c, subtree ?: s->tenant);
}

static const struct cli_param tree_args[] = {
	{"SUBTREE", CLI_TEXT, .help = "only this tenant and those below it"},
	{},
};

const struct cli_command cmd_tree = {
	.noun = "tree",
	.roles = "tenant, agent, observer, admin",
	.summary = "show everything: tenants, leases, devices, memory, VMs, IOASIDs, attachments",
	.help = "A tenant sees the lease that it acts in down to the mappings, and sums of its "
		"others.",
	.args = tree_args,
	.view = &view,
	.run = tree_run,
};
