/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach add, attach list, detach, replace, invalidate: which device, by which PASID, goes
 * through which IOASID, and what its caches may still hold.
 */
#include "args.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

SESSION_CLEANUP(ioasid_attachments, ioasid_attachments_free)

static const struct cli_column attach_form[] = {
	{"device", "device"},
	{"pasid", "PASID", .optional = true},
	{"ioasid", "ioasid", .optional = true},
	{},
};
static const struct cli_view attach_view = {.form = attach_form, .id = "device"};

static const struct cli_column list_columns[] = {
	{"device", "DEVICE"},
	{"pasid", "PASID"},
	{"ioasid", "IOASID"},
	{},
};
static const struct cli_section list_sections[] = {
	{"attachments", NULL, list_columns, .empty = "nothing is attached in this lease"},
	{},
};
static const struct cli_view list_view = {.sections = list_sections, .id = "device"};

static const struct cli_column invalidate_form[] = {
	{"ioasid", "ioasid"},
	{"done", "done"},
	{"retry_after_ms", "retry after ms", .optional = true},
	{},
};
static const struct cli_view invalidate_view = {.form = invalidate_form, .id = "done"};

static int show_attachment(struct cli *cli, const char *type, const struct cli_args *args)
{
	const struct ioasid_attachment attachment = {
		.device = args_text(args, "DEVICE", ""),
		.pasid = (uint32_t)args_number(args, "pasid", IOASID_NO_PASID),
		.ioasid = args_number(args, "IOASID", 0),
	};
	struct json_object *o = object_attachment(&attachment);

	if (!attachment.ioasid)
		json_object_object_del(o, "ioasid");
	return cli_show(cli, doc_of(type, o));
}

/* attach and replace differ in the library call only. */
static int attach_with(struct cli *cli, const struct cli_args *args, const char *type,
		       __typeof__(ioasid_attach) *function)
{
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (function(c.client, &c.scope, args_text(args, "DEVICE", NULL),
		     (uint32_t)args_number(args, "pasid", IOASID_NO_PASID),
		     args_number(args, "IOASID", 0), &c.error) < 0)
		return session_fail(cli, c.error);
	return show_attachment(cli, type, args);
}

static int attach_add(struct cli *cli, const struct cli_args *args)
{
	return attach_with(cli, args, "attach-add", ioasid_attach);
}

static int replace(struct cli *cli, const struct cli_args *args)
{
	return attach_with(cli, args, "replace", ioasid_replace);
}

static int detach(struct cli *cli, const struct cli_args *args)
{
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_detach(c.client, &c.scope, args_text(args, "DEVICE", NULL),
			  (uint32_t)args_number(args, "pasid", IOASID_NO_PASID), &c.error) < 0)
		return session_fail(cli, c.error);
	return show_attachment(cli, "detach", args);
}

static int attach_list(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_attachments_free) struct ioasid_attachments *attachments = NULL;
	_cleanup_call_ struct session_call c = {};
	struct json_object *document, *list;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_attachment_list(c.client, &c.scope, &attachments, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("attach-list");
	list = doc_array();
	for (size_t i = 0; i < attachments->n; i++)
		doc_put(list, NULL, object_attachment(attachments->items[i]));
	doc_put(document, "attachments", list);
	return cli_show(cli, document);
}

static int invalidate(struct cli *cli, const struct cli_args *args)
{
	bool range = args_has(args, "IOVA");
	struct ioasid_invalidate_entry entry = {
		.granularity = (enum ioasid_granularity)args_number(
			args, "what", range ? IOASID_GRANULARITY_RANGE : IOASID_GRANULARITY_ALL),
		.flags = args_has(args, "leaf") ? IOASID_INVALIDATE_LEAF : 0,
		.iova = args_number(args, "IOVA", 0),
		.length = args_number(args, "LENGTH", 0),
		.device = args_text(args, "device", NULL),
		.pasid = (uint32_t)args_number(args, "pasid", IOASID_NO_PASID),
	};
	uint64_t ioasid = args_number(args, "IOASID", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	uint32_t retry_after_ms = 0;
	size_t done = 0;
	int r;

	if (range != args_has(args, "LENGTH"))
		return cli_usage(cli, "invalidate: expected both IOVA and LENGTH, or neither");
	r = session_begin(cli, &c);
	if (r)
		return r;
	if (ioasid_invalidate(c.client, &c.scope, ioasid, &entry, 1, &done, &retry_after_ms,
			      &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("invalidate");
	doc_put_u64(document, "ioasid", ioasid);
	doc_put_u64(document, "done", done);
	doc_put_u64(document, "retry_after_ms", retry_after_ms);
	r = cli_show(cli, document);
	if (!r && !done)
		r = cli_fail(cli, CLI_QUOTA, "RESOURCE_EXHAUSTED", "RATE",
			     "the tenant is over its rate of invalidations; the next one fits in "
			     "%u ms",
			     retry_after_ms);
	return r;
}

#define PASID_MAX ((1u << 20) - 1)

static const struct cli_param attach_args[] = {
	{"DEVICE", CLI_DEVICE, CLI_REQUIRED, .help = "address of a claimed device"},
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID"},
	{},
};
static const struct cli_param detach_args[] = {
	{"DEVICE", CLI_DEVICE, CLI_REQUIRED, .help = "address of a claimed device"},
	{},
};
static const struct cli_param pasid_options[] = {
	{"pasid", CLI_UINT, .help = "guest PASID; without: the device itself", .min = 1,
	 .max = PASID_MAX},
	{},
};
static const struct cli_param invalidate_args[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID"},
	{"IOVA", CLI_ADDRESS, .help = "start of a range; without: everything"},
	{"LENGTH", CLI_SIZE, .help = "bytes", .min = 1},
	{},
};
static const struct cli_param invalidate_options[] = {
	{"what", CLI_GRANULARITY, .help = "what is invalidated (all, or range with IOVA)"},
	{"leaf", CLI_FLAG, .help = "only leaf entries changed"},
	{"pasid", CLI_UINT, .help = "guest PASID", .min = 1, .max = PASID_MAX},
	{"device", CLI_DEVICE, .help = "device-tlb: only this device's"},
	{},
};

const struct cli_command cmd_attach_add = {
	.noun = "attach",
	.verb = "add",
	.flags = CLI_DIRECT,
	.roles = "tenant, agent",
	.summary = "attach a device, or one of its PASIDs, to an IOASID",
	.help = "Attaching to a child implies its parents: an attachment to an ancestor is "
		"replaced.",
	.example = "ioasidctl attach 0000:3b:00.0 3",
	.args = attach_args,
	.options = pasid_options,
	.view = &attach_view,
	.run = attach_add,
};
const struct cli_command cmd_attach_list = {
	.noun = "attach",
	.verb = "list",
	.roles = "tenant, agent",
	.summary = "list the attachments of the lease",
	.view = &list_view,
	.run = attach_list,
};
const struct cli_command cmd_detach = {
	.noun = "detach",
	.roles = "tenant, agent",
	.summary = "detach a device or a PASID; returns after its DMA is over",
	.args = detach_args,
	.options = pasid_options,
	.view = &attach_view,
	.run = detach,
};
const struct cli_command cmd_replace = {
	.noun = "replace",
	.roles = "tenant, agent",
	.summary = "move an attachment to another IOASID at one stroke",
	.args = attach_args,
	.options = pasid_options,
	.view = &attach_view,
	.run = replace,
};
const struct cli_command cmd_invalidate = {
	.noun = "invalidate",
	.roles = "tenant, agent",
	.summary = "invalidate what IOTLBs and device TLBs hold of an IOASID",
	.example = "ioasidctl invalidate 5 0x1000 4K --leaf",
	.args = invalidate_args,
	.options = invalidate_options,
	.view = &invalidate_view,
	.run = invalidate,
};
