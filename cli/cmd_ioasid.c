/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioasid negotiate, alloc, free, list, show, tree: I/O address spaces.  negotiate and alloc
 * take the same options, so that what was negotiated is allocated by changing one word.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

SESSION_CLEANUP(ioasid_choice, ioasid_choice_free)
SESSION_CLEANUP(ioasid_offer, ioasid_offer_free)
SESSION_CLEANUP(ioasid_info, ioasid_info_free)
SESSION_CLEANUP(ioasid_infos, ioasid_infos_free)

/* ---- views ---- */

#define CHOICE_FORM                                                                                \
	{"choice.format", "format"},                                                               \
		{"choice.kernel_chosen", "kernel-chosen", RENDER_BOOL, .optional = true},          \
		{"choice.input_bits", "input bits"}, {"choice.output_bits", "output bits"},        \
		{"choice.page_sizes", "page sizes", RENDER_SIZES},                                 \
	{                                                                                          \
		"choice.enforce_snoop", "enforces snooping", RENDER_BOOL                           \
	}

static const struct cli_column valid_columns[] = {{"start", "VALID FROM"}, {"last", "TO"}, {}};
static const struct cli_column passed_columns[] = {
	{"format", "PASSED OVER"}, {"by", "BY"}, {"who", "WHO"}, {"reason", "REASON"}, {},
};
static const struct cli_section choice_sections[] = {
	{"choice.valid", NULL, valid_columns},
	{"choice.passed_over", NULL, passed_columns},
	{},
};
static const struct cli_column alloc_form[] = {{"ioasid", "ioasid"}, CHOICE_FORM, {}};
static const struct cli_view alloc_view = {
	.form = alloc_form,
	.sections = choice_sections,
	.id = "ioasid",
};
static const struct cli_column negotiate_form[] = {
	CHOICE_FORM,
	{"within_quota", "within quota", RENDER_BOOL},
	{"quota_refusal", "refused by", .optional = true},
	{},
};
static const struct cli_view negotiate_view = {
	.form = negotiate_form,
	.sections = choice_sections,
	.id = "choice.format",
};
static const struct cli_column show_form[] = {
	{"ioasid", "ioasid"},
	{"label", "label", .optional = true},
	{"kind", "kind"},
	{"parent", "parent", .optional = true},
	{"vm", "vm", .optional = true},
	{"depth", "depth"},
	{"devices", "devices"},
	{"mappings", "mappings"},
	{"mapped_bytes", "mapped", RENDER_SIZE},
	{"attachments", "attachments"},
	{"children", "children"},
	{"dirty_tracking", "dirty tracking", RENDER_BOOL},
	{"tracking", "tracked now", RENDER_BOOL, .optional = true},
	{"table.root", "table root", .optional = true},
	{"pasid_table.root", "PASID table root", .optional = true},
	CHOICE_FORM,
	{},
};
static const struct cli_view show_view = {
	.form = show_form,
	.sections = choice_sections,
	.id = "ioasid",
};
static const struct cli_column list_columns[] = {
	{"ioasid", "IOASID"},
	{"kind", "KIND"},
	{"choice.format", "FORMAT"},
	{"choice.input_bits", "BITS"},
	{"parent", "PARENT"},
	{"vm", "VM", .optional = true},
	{"mappings", "MAPPINGS"},
	{"mapped_bytes", "MAPPED", RENDER_SIZE},
	{"attachments", "ATTACHED"},
	{"children", "CHILDREN"},
	{"label", "LABEL", .optional = true},
	{},
};
static const struct cli_section list_sections[] = {
	{"ioasids", NULL, list_columns, .empty = "no IOASID in this lease"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "ioasid"};

static const struct cli_column free_form[] = {
	{"ioasid", "ioasid"},
	{"pending", "pending until unused", RENDER_BOOL, .optional = true},
	{},
};
static const struct cli_view free_view = {.form = free_form, .id = "ioasid"};

static const struct cli_column tree_columns[] = {
	{"ioasid", ""},
	{"kind", ""},
	{"choice.format", ""},
	{"vm", "vm", .optional = true},
	{"mappings", "mappings", .optional = true},
	{"mapped_bytes", "mapped", RENDER_SIZE, .optional = true},
	{"attachments", "attached", .optional = true},
	{"label", "label", .optional = true},
	{},
};
/* Nests in itself: children hold children. */
static const struct cli_section tree_sections[] = {
	{"nested", "ioasid", tree_columns, tree_sections, .empty = "no IOASID in this lease"},
	{},
};
static const struct cli_view tree_view = {.sections = tree_sections, .tree = true, .id = "ioasid"};

/* ---- alloc and negotiate ---- */

struct wanted {
	struct ioasid_alloc_request request;
	struct ioasid_page_table table;
	char **devices;
	enum ioasid_format *formats;
};
static void wanted_deinit(struct wanted *w)
{
	free(w->devices);
	free(w->formats);
}

static void wanted_init(struct wanted *w, const struct cli_args *args)
{
	size_t n = args_count(args, "formats");

	w->devices = args_texts(args, "devices", &w->request.n_devices);
	w->request.devices = (const char *const *)w->devices;
	w->formats = n ? cli_alloc(n * sizeof(*w->formats)) : NULL;
	for (size_t i = 0; i < n; i++)
		w->formats[i] = (enum ioasid_format)args_at(args, "formats", i)->number;
	w->request.candidates = w->formats;
	w->request.n_candidates = n;
	w->request.kind = (enum ioasid_kind)args_number(args, "kind", IOASID_KIND_KERNEL);
	w->request.parent = args_number(args, "parent", 0);
	w->request.input_bits = (uint32_t)args_number(args, "input-bits", 0);
	w->request.table_bits = (uint32_t)args_number(args, "table-bits", 0);
	w->request.snoop = (enum ioasid_snoop)args_number(args, "snoop", IOASID_SNOOP_AUTO);
	w->request.vm = args_number(args, "vm", 0);
	if (args_has(args, "table")) {
		w->table.root = args_number(args, "table", 0);
		w->request.table = &w->table;
	}
	w->request.label = args_text(args, "label", NULL);
	if (args_has(args, "with-faults"))
		w->request.flags |= IOASID_ALLOC_FAULTS;
	if (args_has(args, "with-pasid"))
		w->request.flags |= IOASID_ALLOC_PASID;
	if (args_has(args, "with-dirty-tracking"))
		w->request.flags |= IOASID_ALLOC_DIRTY_TRACKING;
}

static int ioasid_alloc_run(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_choice_free) struct ioasid_choice *choice = NULL;
	__attribute__((cleanup(wanted_deinit))) struct wanted w = {};
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	uint64_t id;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	wanted_init(&w, args);
	if (ioasid_alloc(c.client, &c.scope, &w.request, &id, &choice, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("ioasid-alloc");
	doc_put_u64(document, "ioasid", id);
	doc_put(document, "choice", object_choice(choice));
	return cli_show(cli, document);
}

static int ioasid_negotiate_run(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_offer_free) struct ioasid_offer *offer = NULL;
	__attribute__((cleanup(wanted_deinit))) struct wanted w = {};
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r;

	cli->key = NULL; /* changes nothing: a key is refused */
	r = session_begin(cli, &c);
	if (r)
		return r;
	wanted_init(&w, args);
	if (ioasid_negotiate(c.client, &c.scope, &w.request, &offer, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("ioasid-negotiate");
	doc_put(document, "choice", object_choice(offer->choice));
	doc_put_bool(document, "within_quota", offer->within_quota);
	doc_put_text_if(document, "quota_refusal", offer->quota_refusal);
	return cli_show(cli, document);
}

/* ---- the rest ---- */

static int ioasid_free_run(struct cli *cli, const struct cli_args *args)
{
	uint64_t id = args_number(args, "IOASID", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	bool pending;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_free(c.client, &c.scope, id, &pending, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("ioasid-free");
	doc_put_u64(document, "ioasid", id);
	doc_put_bool(document, "pending", pending);
	return cli_show(cli, document);
}

static int ioasid_show_run(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_info_free) struct ioasid_info *info = NULL;
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_get(c.client, &c.scope, args_number(args, "IOASID", 0), &info, &c.error) < 0)
		return session_fail(cli, c.error);
	return cli_show(cli, doc_of("ioasid", object_ioasid(info)));
}

static int ioasid_list_run(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_infos_free) struct ioasid_infos *infos = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document, *list;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_list(c.client, &c.scope, &infos, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("ioasid-list");
	list = doc_array();
	for (size_t i = 0; i < infos->n; i++)
		doc_put(list, NULL, object_ioasid(infos->items[i]));
	doc_put(document, "ioasids", list);
	return cli_show(cli, document);
}

/* Those with this parent, each with its own children; depth bounds a malformed answer. */
static struct json_object *children_of(const struct ioasid_info *const *items, size_t n,
				       uint64_t parent, unsigned depth)
{
	struct json_object *list = doc_array();

	for (size_t i = 0; i < n && depth < 64; i++) {
		struct json_object *o;

		if (items[i]->parent != parent)
			continue;
		o = object_ioasid(items[i]);
		doc_put(o, "nested", children_of(items, n, items[i]->id, depth + 1));
		doc_put(list, NULL, o);
	}
	return list;
}

static bool is_listed(const struct ioasid_info *const *items, size_t n, uint64_t id)
{
	for (size_t i = 0; i < n; i++)
		if (items[i]->id == id)
			return true;
	return false;
}

/* A parent that was freed is not listed any more: its children stand at the top. */
struct json_object *ioasid_forest(const struct ioasid_info *const *items, size_t n)
{
	struct json_object *list = doc_array();

	for (size_t i = 0; i < n; i++) {
		struct json_object *o;

		if (items[i]->parent && is_listed(items, n, items[i]->parent))
			continue;
		o = object_ioasid(items[i]);
		doc_put(o, "nested", children_of(items, n, items[i]->id, 1));
		doc_put(list, NULL, o);
	}
	return list;
}

static int ioasid_tree_run(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_infos_free) struct ioasid_infos *infos = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_list(c.client, &c.scope, &infos, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("ioasid-tree");
	doc_put(document, "nested", ioasid_forest(infos->items, infos->n));
	return cli_show(cli, document);
}

/* ---- grammar ---- */

static const struct cli_param alloc_options[] = {
	{"devices", CLI_DEVICE, CLI_REPEATED, .help = "devices that are going to be attached"},
	{"kind", CLI_KIND, .help = "how the table comes about (kernel)"},
	{"formats", CLI_FORMAT, CLI_REPEATED, .help = "candidates, best first"},
	{"parent", CLI_ID, .help = "IOASID that this one is nested on"},
	{"input-bits", CLI_UINT, .help = "least width of its addresses", .min = 1, .max = 64},
	{"table-bits", CLI_UINT,
	 .help = "kind user: exact width of the tables that will be bound (64 - TxSZ)", .min = 1,
	 .max = 64},
	{"snoop", CLI_SNOOP, .help = "whether DMA must snoop CPU caches (auto)"},
	{"with-faults", CLI_FLAG, .help = "every device must have page requests"},
	{"with-pasid", CLI_FLAG, .help = "every device must have PASIDs"},
	{"with-dirty-tracking", CLI_FLAG, .help = "every device must have dirty tracking"},
	{"table", CLI_ADDRESS, .help = "kind user: root of the table, an address of the parent"},
	{"vm", CLI_ID, .help = "kind kvm: the VM"},
	{"label", CLI_TEXT, .help = "for people, at most 64 bytes", .max = 64},
	{},
};
static const struct cli_param one_ioasid[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID"},
	{},
};

const struct cli_command cmd_ioasid_negotiate = {
	.noun = "ioasid",
	.verb = "negotiate",
	.roles = "tenant, agent",
	.summary = "say what alloc would choose, and why; changes nothing",
	.example = "ioasidctl ioasid negotiate --devices 0000:3b:00.0 --formats x86_64-5l,vtdss-4l",
	.options = alloc_options,
	.view = &negotiate_view,
	.run = ioasid_negotiate_run,
};
const struct cli_command cmd_ioasid_alloc = {
	.noun = "ioasid",
	.verb = "alloc",
	.roles = "tenant, agent",
	.summary = "allocate an IOASID",
	.help = "The answer names the format that was chosen and, for each candidate passed over, "
		"who refused it and why.",
	.example = "ioasidctl ioasid alloc --devices 0000:3b:00.0 --label rx",
	.options = alloc_options,
	.view = &alloc_view,
	.run = ioasid_alloc_run,
};
const struct cli_command cmd_ioasid_free = {
	.noun = "ioasid",
	.verb = "free",
	.roles = "tenant, agent",
	.summary = "free an IOASID; it stays charged while it is attached or nested on",
	.args = one_ioasid,
	.view = &free_view,
	.run = ioasid_free_run,
};
const struct cli_command cmd_ioasid_list = {
	.noun = "ioasid",
	.verb = "list",
	.roles = "tenant, agent",
	.summary = "list the IOASIDs of the lease",
	.view = &list_view,
	.run = ioasid_list_run,
};
const struct cli_command cmd_ioasid_show = {
	.noun = "ioasid",
	.verb = "show",
	.roles = "tenant, agent",
	.summary = "show one IOASID: format, valid ranges, use",
	.args = one_ioasid,
	.view = &show_view,
	.run = ioasid_show_run,
};
const struct cli_command cmd_ioasid_tree = {
	.noun = "ioasid",
	.verb = "tree",
	.roles = "tenant, agent",
	.summary = "show how the IOASIDs of the lease are nested",
	.view = &tree_view,
	.run = ioasid_tree_run,
};
