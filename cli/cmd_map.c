/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map add, map list, unmap: what an IOASID's addresses lead to.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

SESSION_CLEANUP(ioasid_mappings, ioasid_mappings_free)

static const struct cli_column map_form[] = {
	{"ioasid", "ioasid"},
	{"iova", "iova"},
	{"length", "length", RENDER_SIZE},
	{"", "access", RENDER_PROT},
	{"memory", "memory", .optional = true},
	{"offset", "offset", .optional = true},
	{"parent_address", "parent address", .optional = true},
	{},
};
static const struct cli_view map_view = {.form = map_form, .id = "iova"};

static const struct cli_column list_columns[] = {
	{"iova", "IOVA"},
	{"length", "LENGTH", RENDER_SIZE},
	{"", "ACCESS", RENDER_PROT},
	{"memory", "MEMORY", .optional = true},
	{"offset", "OFFSET", RENDER_SIZE, .optional = true},
	{"parent_address", "PARENT ADDRESS", .optional = true},
	{},
};
static const struct cli_section list_sections[] = {
	{"mappings", NULL, list_columns, .empty = "nothing is mapped in this IOASID"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "iova"};

static const struct cli_column unmap_form[] = {
	{"ioasid", "ioasid"},
	{"mappings", "mappings"},
	{"bytes", "bytes", RENDER_SIZE},
	{},
};
static const struct cli_view unmap_view = {.form = unmap_form};

static int map_add(struct cli *cli, const struct cli_args *args)
{
	const struct cli_value *iova = args_at(args, "IOVA", 0);
	uint64_t ioasid = args_number(args, "IOASID", 0);
	struct ioasid_map_entry entry = {
		.iova = iova->number,
		.length = args_number(args, "LENGTH", 0),
		.memory = args_number(args, "memory", 0),
		.offset = args_number(args, "offset", 0),
		.parent_address = args_number(args, "parent-address", 0),
		.flags = (uint32_t)args_number(args, "prot", IOASID_READ | IOASID_WRITE),
	};
	_cleanup_call_ struct session_call c = {};
	struct ioasid_mapping mapping;
	struct json_object *document;
	uint64_t chosen;
	int r;

	if (args_has(args, "memory") == args_has(args, "parent-address"))
		return cli_usage(cli, "map add: expected either --memory or --parent-address");
	if (args_has(args, "offset") && !args_has(args, "memory"))
		return cli_usage(cli, "--offset: it goes with --memory");
	if (args_has(args, "parent-address"))
		entry.flags |= IOASID_MAP_FROM_PARENT;
	if (iova->any)
		entry.flags |= IOASID_MAP_CHOOSE;
	r = session_begin(cli, &c);
	if (r)
		return r;
	if (ioasid_map(c.client, &c.scope, ioasid, &entry, 1, &chosen, &c.error) < 0)
		return session_fail(cli, c.error);
	mapping = (struct ioasid_mapping){
		.iova = chosen,
		.length = entry.length,
		.memory = entry.memory,
		.offset = entry.offset,
		.parent_address = entry.parent_address,
		.flags = entry.flags,
	};
	document = doc_of("map-add", object_mapping(&mapping));
	doc_put_u64(document, "ioasid", ioasid);
	return cli_show(cli, document);
}

static int map_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_mappings_free) struct ioasid_mappings *mappings = NULL;
	uint64_t ioasid = args_number(args, "IOASID", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document, *list;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_mapping_list(c.client, &c.scope, ioasid, &mappings, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("map-list");
	list = doc_array();
	for (size_t i = 0; i < mappings->n; i++)
		doc_put(list, NULL, object_mapping(mappings->items[i]));
	doc_put_u64(document, "ioasid", ioasid);
	doc_put(document, "mappings", list);
	return cli_show(cli, document);
}

static int unmap(struct cli *cli, const struct cli_args *args)
{
	struct ioasid_range range = {
		.iova = args_number(args, "IOVA", 0),
		.length = args_number(args, "LENGTH", 0),
	};
	uint64_t ioasid = args_number(args, "IOASID", 0), mappings, bytes;
	_cleanup_call_ struct session_call c = {};
	bool all = args_has(args, "all");
	struct json_object *document;
	int r;

	if (all == args_has(args, "IOVA"))
		return cli_usage(cli, "unmap: expected either IOVA and LENGTH or --all");
	if (!all && !args_has(args, "LENGTH"))
		return cli_usage(cli, "unmap: missing LENGTH (bytes)");
	r = session_begin(cli, &c);
	if (r)
		return r;
	r = all ? ioasid_unmap_all(c.client, &c.scope, ioasid, &mappings, &bytes, &c.error)
		: ioasid_unmap(c.client, &c.scope, ioasid, &range, 1, &mappings, &bytes, &c.error);
	if (r < 0)
		return session_fail(cli, c.error);
	document = doc_new("unmap");
	doc_put_u64(document, "ioasid", ioasid);
	doc_put_u64(document, "mappings", mappings);
	doc_put_u64(document, "bytes", bytes);
	return cli_show(cli, document);
}

static const struct cli_param map_args[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID"},
	{"IOVA", CLI_ADDRESS, CLI_REQUIRED | CLI_OR_ANY,
	 .help = "address, or the word any: the broker chooses"},
	{"LENGTH", CLI_SIZE, CLI_REQUIRED, .help = "bytes", .min = 1},
	{},
};
static const struct cli_param map_options[] = {
	{"memory", CLI_ID, .help = "source: registered memory"},
	{"offset", CLI_SIZE, .help = "where in that memory (0)"},
	{"parent-address", CLI_ADDRESS, .help = "source: an address of the parent IOASID"},
	{"prot", CLI_PROT, .help = "access of devices (rw)"},
	{},
};
static const struct cli_param list_args[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID"},
	{},
};
static const struct cli_param unmap_args[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID"},
	{"IOVA", CLI_ADDRESS, .help = "start of a range that splits no mapping"},
	{"LENGTH", CLI_SIZE, .help = "bytes", .min = 1},
	{},
};
static const struct cli_param unmap_options[] = {
	{"all", CLI_FLAG, .help = "every mapping of the IOASID"},
	{},
};

const struct cli_command cmd_map_add = {
	.noun = "map",
	.verb = "add",
	.flags = CLI_DIRECT,
	.roles = "tenant, agent",
	.summary = "map memory, or an address of the parent, at an IOVA",
	.example = "ioasidctl map 3 0x100000 64K --memory 2",
	.args = map_args,
	.options = map_options,
	.view = &map_view,
	.run = map_add,
};
const struct cli_command cmd_map_list = {
	.noun = "map",
	.verb = "list",
	.roles = "tenant, agent",
	.summary = "list the mappings of an IOASID",
	.args = list_args,
	.view = &list_view,
	.run = map_list,
};
const struct cli_command cmd_unmap = {
	.noun = "unmap",
	.roles = "tenant, agent",
	.summary = "unmap whole mappings; returns after the IOTLBs are flushed",
	.example = "ioasidctl unmap 3 0x100000 64K",
	.args = unmap_args,
	.options = unmap_options,
	.view = &unmap_view,
	.run = unmap,
};
