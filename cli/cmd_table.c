/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bind-table, unbind-table, bind-pasid-table, unbind-pasid-table: which table that a tenant
 * wrote an IOASID of kind user stands for.
 */
#include "args.h"
#include "families.h"
#include "output.h"
#include "session.h"

#define PASID_BITS_MAX 20

static const struct cli_column bind_form[] = {
	{"ioasid", "ioasid"},
	{"root", "root", .optional = true},
	{"bound", "bound", RENDER_BOOL},
	{},
};
static const struct cli_view bind_view = {.form = bind_form, .id = "ioasid"};

static int show(struct cli *cli, const char *type, const struct cli_args *args)
{
	struct json_object *document = doc_new(type);

	doc_put_u64(document, "ioasid", args_number(args, "IOASID", 0));
	doc_put_bool(document, "bound", args_has(args, "ROOT"));
	if (args_has(args, "ROOT"))
		doc_put_hex(document, "root", args_number(args, "ROOT", 0));
	return cli_show(cli, document);
}

static int bind_table(struct cli *cli, const struct cli_args *args)
{
	const struct ioasid_page_table table = {
		.root = args_number(args, "ROOT", 0),
		.format = (enum ioasid_format)args_number(args, "format", 0),
		.flags = (args_has(args, "supervisor") ? IOASID_TABLE_SUPERVISOR_REQUEST : 0) |
			 (args_has(args, "write-protect") ? IOASID_TABLE_WRITE_PROTECT : 0) |
			 (args_has(args, "extended-access") ? IOASID_TABLE_EXTENDED_ACCESS : 0),
	};
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_bind_page_table(c.client, &c.scope, args_number(args, "IOASID", 0), &table,
				   &c.error) < 0)
		return session_fail(cli, c.error);
	return show(cli, "bind-table", args);
}

static int bind_pasid_table(struct cli *cli, const struct cli_args *args)
{
	const struct ioasid_pasid_table table = {
		.format = (enum ioasid_pasid_table_format)(args_number(args, "format", 0) +
							   IOASID_PASID_TABLE_VTD),
		.pasid_bits = (uint32_t)args_number(args, "pasid-bits", PASID_BITS_MAX),
		.root = args_number(args, "ROOT", 0),
		.shape = (uint32_t)args_number(args, "shape", 0),
	};
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_bind_pasid_table(c.client, &c.scope, args_number(args, "IOASID", 0), &table,
				    &c.error) < 0)
		return session_fail(cli, c.error);
	return show(cli, "bind-pasid-table", args);
}

/* The two differ in the library call only. */
static int unbind_with(struct cli *cli, const struct cli_args *args, const char *type,
		       __typeof__(ioasid_unbind_page_table) *function)
{
	_cleanup_call_ struct session_call c = {};
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (function(c.client, &c.scope, args_number(args, "IOASID", 0), &c.error) < 0)
		return session_fail(cli, c.error);
	return show(cli, type, args);
}

static int unbind_table(struct cli *cli, const struct cli_args *args)
{
	return unbind_with(cli, args, "unbind-table", ioasid_unbind_page_table);
}

static int unbind_pasid_table(struct cli *cli, const struct cli_args *args)
{
	return unbind_with(cli, args, "unbind-pasid-table", ioasid_unbind_pasid_table);
}

/* In the order of enum ioasid_pasid_table_format. */
static const char *const pasid_formats[] = {"vtd", "amd-gcr3", "smmuv3-cd", "riscv-pdt", NULL};

static const struct cli_param bind_args[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID of kind user"},
	{"ROOT", CLI_ADDRESS, CLI_REQUIRED,
	 .help = "where the root lies, an address of the parent"},
	{},
};
static const struct cli_param bind_options[] = {
	{"format", CLI_FORMAT, .help = "its format (the IOASID's)"},
	{"supervisor", CLI_FLAG, .help = "VT-d: privileged requests are told apart"},
	{"write-protect", CLI_FLAG, .help = "VT-d: read-only pages are so for privileged requests"},
	{"extended-access", CLI_FLAG, .help = "VT-d: the extended-accessed bit is kept"},
	{},
};
static const struct cli_param pasid_options[] = {
	{"format", CLI_WORD, CLI_REQUIRED, .words = pasid_formats, .help = "its layout"},
	{"pasid-bits", CLI_UINT, .max = PASID_BITS_MAX,
	 .help = "width of its PASIDs (20); smmuv3-cd: 0, one descriptor"},
	{"shape", CLI_UINT, .help = "SMMUv3 S1Fmt, AMD GLX, RISC-V PD mode (0)", .max = 15},
	{},
};
static const struct cli_param unbind_args[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID of kind user"},
	{},
};

const struct cli_command cmd_bind_table = {
	.noun = "bind-table",
	.roles = "tenant, agent",
	.summary = "let an IOASID stand for a table in the parent's memory",
	.help = "Where a table is bound already, the new one takes its place; the call returns "
		"when DMA through the old one is over.  Changes of a bound table reach devices "
		"after an invalidate.  Its addresses are as wide as alloc's --table-bits says.",
	.example = "ioasidctl bind-table 4 0x10000",
	.args = bind_args,
	.options = bind_options,
	.view = &bind_view,
	.run = bind_table,
};
const struct cli_command cmd_unbind_table = {
	.noun = "unbind-table",
	.roles = "tenant, agent",
	.summary = "let an IOASID stand for no table: nothing is present",
	.args = unbind_args,
	.view = &bind_view,
	.run = unbind_table,
};
const struct cli_command cmd_bind_pasid_table = {
	.noun = "bind-pasid-table",
	.roles = "tenant, agent",
	.summary = "let an IOASID stand for a PASID table in the parent's memory",
	.example = "ioasidctl bind-pasid-table 4 0x20000 --format vtd",
	.args = bind_args,
	.options = pasid_options,
	.view = &bind_view,
	.run = bind_pasid_table,
};
const struct cli_command cmd_unbind_pasid_table = {
	.noun = "unbind-pasid-table",
	.roles = "tenant, agent",
	.summary = "let an IOASID stand for no PASID table",
	.args = unbind_args,
	.view = &bind_view,
	.run = unbind_pasid_table,
};
