/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dma read, dma write, translate: what a (simulated) device sees through its IOASID.  A
 * transfer that the IOMMU blocks, or an address that does not translate, is shown and is
 * exit code 1, reason FAULT; with --expect-fault it is the other way round.
 */
#include "args.h"
#include "bytes.h"
#include "families.h"
#include "objects.h"
#include "output.h"
#include "session.h"

#include <string.h>

SESSION_CLEANUP(ioasid_dma_result, ioasid_dma_result_free)
SESSION_CLEANUP(ioasid_translation, ioasid_translation_free)

#define DMA_FORM                                                                                   \
	{"device", "device"}, {"pasid", "PASID", .optional = true}, {"iova", "iova"},              \
		{"length", "length", RENDER_SIZE}, {"done", "moved", RENDER_SIZE},                 \
	{                                                                                          \
		"fault.text", "blocked", .optional = true                                          \
	}

static const struct cli_column write_form[] = {DMA_FORM, {}};
static const struct cli_view write_view = {.form = write_form, .id = "done"};
static const struct cli_column read_form[] = {
	DMA_FORM,
	{"file", "written to", .optional = true},
	{"equal", "as expected", RENDER_BOOL, .optional = true},
	{},
};
static const struct cli_view read_view = {.form = read_form, .data = true, .id = "data"};

static const struct cli_column level_columns[] = {
	{"stage", "STAGE"}, {"level", "LEVEL"}, {"input", "INPUT"},	{"table", "TABLE"},
	{"index", "INDEX"}, {"entry", "ENTRY"}, {"decoded", "DECODED"}, {},
};
static const struct cli_section translate_sections[] = {
	{"levels", NULL, level_columns, .empty = "no entry was read"},
	{},
};
static const struct cli_column translate_form[] = {
	{"ioasid", "ioasid"},
	{"iova", "iova"},
	{"access", "access"},
	{"output", "output", .optional = true},
	{"page_size", "page", RENDER_SIZE, .optional = true},
	{"", "allowed", RENDER_PROT, .optional = true},
	{"memory", "memory", .optional = true},
	{"offset", "offset", .optional = true},
	{"fault.text", "fault", .optional = true},
	{},
};
static const struct cli_view translate_view = {
	.form = translate_form,
	.sections = translate_sections,
	.id = "output",
};

/* Was the outcome what the user asked for? */
static int verdict(struct cli *cli, const struct cli_args *args, const char *what,
		   const struct ioasid_fault *fault)
{
	_cleanup_free_ char *text = fault ? fault_text(fault) : NULL;
	bool expected = args_has(args, "expect-fault");

	if (fault && !expected)
		return cli_fail(cli, CLI_FAILED, "FAILED_PRECONDITION", "FAULT", "%s: %s", what,
				text);
	if (!fault && expected)
		return cli_fail(cli, CLI_FAILED, "FAILED_PRECONDITION", "NO_FAULT",
				"%s: a fault was expected, there was none", what);
	return CLI_OK;
}

static struct json_object *dma_document(const char *type, const struct cli_args *args,
					uint64_t length, const struct ioasid_dma_result *result)
{
	struct json_object *document = doc_new(type);
	uint64_t pasid = args_number(args, "pasid", IOASID_NO_PASID);

	doc_put_text(document, "device", args_text(args, "DEVICE", ""));
	if (pasid)
		doc_put_u64(document, "pasid", pasid);
	else
		doc_put(document, "pasid", NULL);
	doc_put_hex(document, "iova", args_number(args, "IOVA", 0));
	doc_put_u64(document, "length", length);
	doc_put_u64(document, "done", result->done);
	doc_put(document, "fault", result->fault ? object_fault(result->fault) : NULL);
	return document;
}

static int dma_read(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_dma_result_free) struct ioasid_dma_result *result = NULL;
	uint64_t length = args_number(args, "LENGTH", 0);
	_cleanup_free_ uint8_t *data = cli_alloc(length);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_dma_read(c.client, &c.scope, args_text(args, "DEVICE", NULL),
			    (uint32_t)args_number(args, "pasid", IOASID_NO_PASID),
			    args_number(args, "IOVA", 0), data, length, &result, &c.error) < 0)
		return session_fail(cli, c.error);
	document = dma_document("dma-read", args, length, result);
	if (result->fault && !result->done)
		r = cli_show(cli, document);
	else
		r = bytes_answer(cli, args, data, result->done, document);
	return r ?: verdict(cli, args, "blocked", result->fault);
}

static int dma_write(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_dma_result_free) struct ioasid_dma_result *result = NULL;
	_cleanup_(bytes_deinit) struct bytes data = {};
	_cleanup_call_ struct session_call c = {};
	int r = bytes_source(cli, args, &data);

	if (!r)
		r = session_begin(cli, &c);
	if (r)
		return r;
	if (ioasid_dma_write(c.client, &c.scope, args_text(args, "DEVICE", NULL),
			     (uint32_t)args_number(args, "pasid", IOASID_NO_PASID),
			     args_number(args, "IOVA", 0), data.bytes, data.n, &result,
			     &c.error) < 0)
		return session_fail(cli, c.error);
	r = cli_show(cli, dma_document("dma-write", args, data.n, result));
	return r ?: verdict(cli, args, "blocked", result->fault);
}

static int translate(struct cli *cli, const struct cli_args *args)
{
	enum ioasid_access access =
		(enum ioasid_access)args_number(args, "access", IOASID_ACCESS_READ);
	_cleanup_with_(ioasid_translation_free) struct ioasid_translation *t = NULL;
	uint64_t ioasid = args_number(args, "IOASID", 0), iova = args_number(args, "IOVA", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document, *list;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_translate(c.client, &c.scope, ioasid, iova, access, &t, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("translation");
	doc_put_u64(document, "ioasid", ioasid);
	doc_put_hex(document, "iova", iova);
	doc_put_text(document, "access", ioasid_access_name(access));
	doc_put(document, "fault", t->fault ? object_fault(t->fault) : NULL);
	if (!t->fault) {
		doc_put_hex(document, "output", t->output);
		doc_put_u64(document, "page_size", t->page_size);
		doc_put_bool(document, "read", t->flags & IOASID_READ);
		doc_put_bool(document, "write", t->flags & IOASID_WRITE);
		doc_put_bool(document, "execute", t->flags & IOASID_EXECUTE);
		if (t->memory) {
			doc_put_u64(document, "memory", t->memory);
			doc_put_u64(document, "offset", t->offset);
		}
	}
	list = doc_array();
	for (size_t i = 0; i < t->n_levels; i++)
		doc_put(list, NULL, object_walk_level(t->levels[i]));
	doc_put(document, "levels", list);
	r = cli_show(cli, document);
	return r ?: verdict(cli, args, "no translation", t->fault);
}

#define PASID_OPTION                                                                               \
	{                                                                                          \
		"pasid", CLI_UINT, .help = "guest PASID; without: the device itself", .min = 1,    \
				   .max = (1u << 20) - 1                                           \
	}
#define EXPECT_OPTION                                                                              \
	{                                                                                          \
		"expect-fault", CLI_FLAG, .help = "succeed if it is blocked, fail if it is not"    \
	}

static const struct cli_param read_args[] = {
	{"DEVICE", CLI_DEVICE, CLI_REQUIRED, .help = "address of a claimed, simulated device"},
	{"IOVA", CLI_ADDRESS, CLI_REQUIRED, .help = "address that the device uses"},
	{"LENGTH", CLI_SIZE, CLI_REQUIRED, .help = "bytes", .min = 1, .max = BYTES_MAX},
	{},
};
static const struct cli_param write_args[] = {
	{"DEVICE", CLI_DEVICE, CLI_REQUIRED, .help = "address of a claimed, simulated device"},
	{"IOVA", CLI_ADDRESS, CLI_REQUIRED, .help = "address that the device uses"},
	{},
};
static const struct cli_param read_options[] = {
	PASID_OPTION,
	EXPECT_OPTION,
	BYTES_ANSWER_OPTIONS,
	{},
};
static const struct cli_param write_options[] = {
	PASID_OPTION,
	EXPECT_OPTION,
	BYTES_SOURCE_OPTIONS,
	{},
};
static const struct cli_param translate_args[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID"},
	{"IOVA", CLI_ADDRESS, CLI_REQUIRED, .help = "address to translate"},
	{},
};
static const struct cli_param translate_options[] = {
	{"access", CLI_ACCESS, .help = "what is asked for (read)"},
	EXPECT_OPTION,
	{},
};

const struct cli_command cmd_dma_read = {
	.noun = "dma",
	.verb = "read",
	.roles = "tenant, agent",
	.summary = "let a simulated device read memory; show or compare the bytes",
	.example = "ioasidctl dma read 0000:3b:00.0 0x100000 64 --compare-text hello",
	.args = read_args,
	.options = read_options,
	.view = &read_view,
	.run = dma_read,
};
const struct cli_command cmd_dma_write = {
	.noun = "dma",
	.verb = "write",
	.roles = "tenant, agent",
	.summary = "let a simulated device write to memory",
	.example = "ioasidctl dma write 0000:3b:00.0 0x100000 --text hello",
	.args = write_args,
	.options = write_options,
	.view = &write_view,
	.run = dma_write,
};
const struct cli_command cmd_translate = {
	.noun = "translate",
	.roles = "tenant, agent",
	.summary = "walk an IOASID's table for one address, level by level",
	.example = "ioasidctl translate 3 0x100000",
	.args = translate_args,
	.options = translate_options,
	.view = &translate_view,
	.run = translate,
};
