/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dirty on, dirty off, dirty read: which pages devices have written.  The pages are shown as
 * ranges: a bitmap of a guest's memory is nothing to look at.
 */
#include "args.h"
#include "families.h"
#include "output.h"
#include "session.h"

SESSION_CLEANUP(ioasid_dirty_bitmap, ioasid_dirty_bitmap_free)

static const struct cli_column switch_form[] = {
	{"ioasid", "ioasid"},
	{"tracking", "tracking", RENDER_BOOL},
	{},
};
static const struct cli_view switch_view = {.form = switch_form, .id = "ioasid"};

static const struct cli_column read_form[] = {
	{"ioasid", "ioasid"}, {"page_size", "page size", RENDER_SIZE}, {"pages", "pages looked at"},
	{"dirty", "dirty"},   {"cleared", "cleared", RENDER_BOOL},     {},
};
static const struct cli_column range_columns[] = {
	{"iova", "IOVA"},
	{"length", "LENGTH", RENDER_SIZE},
	{},
};
static const struct cli_section read_sections[] = {
	{"ranges", NULL, range_columns, .empty = "no page was written"},
	{},
};
static const struct cli_view read_view = {
	.form = read_form,
	.sections = read_sections,
	.id = "ranges.iova",
};

static int dirty_switch(struct cli *cli, const struct cli_args *args, bool enable)
{
	uint64_t ioasid = args_number(args, "IOASID", 0);
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r = session_begin(cli, &c);

	if (r)
		return r;
	if (ioasid_dirty_set(c.client, &c.scope, ioasid, enable, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new(enable ? "dirty-on" : "dirty-off");
	doc_put_u64(document, "ioasid", ioasid);
	doc_put_bool(document, "tracking", enable);
	return cli_show(cli, document);
}

static int dirty_on(struct cli *cli, const struct cli_args *args)
{
	return dirty_switch(cli, args, true);
}

static int dirty_off(struct cli *cli, const struct cli_args *args)
{
	return dirty_switch(cli, args, false);
}

static bool is_dirty(const struct ioasid_dirty_bitmap *b, uint64_t page)
{
	return b->bits[page / 8] & 1u << page % 8;
}

static void put_ranges(struct json_object *document, const struct ioasid_dirty_bitmap *b)
{
	struct json_object *ranges = doc_array();
	uint64_t dirty = 0;

	for (uint64_t page = 0; page < b->n_pages;) {
		uint64_t first = page;
		struct json_object *range;

		if (!is_dirty(b, page)) {
			page++;
			continue;
		}
		while (page < b->n_pages && is_dirty(b, page))
			page++;
		range = doc_object();
		doc_put_hex(range, "iova", b->iova + first * b->page_size);
		doc_put_u64(range, "length", (page - first) * b->page_size);
		doc_put(ranges, NULL, range);
		dirty += page - first;
	}
	doc_put_u64(document, "dirty", dirty);
	doc_put(document, "ranges", ranges);
}

static int dirty_read(struct cli *cli, const struct cli_args *args)
{
	_cleanup_with_(ioasid_dirty_bitmap_free) struct ioasid_dirty_bitmap *bitmap = NULL;
	uint64_t ioasid = args_number(args, "IOASID", 0);
	bool clear = !args_has(args, "no-clear");
	_cleanup_call_ struct session_call c = {};
	struct json_object *document;
	int r;

	cli->key = NULL; /* cannot be repeated: a key is refused */
	r = session_begin(cli, &c);
	if (r)
		return r;
	if (ioasid_dirty_read(c.client, &c.scope, ioasid, args_number(args, "IOVA", 0),
			      args_number(args, "LENGTH", 0), args_number(args, "page-size", 4096),
			      clear, &bitmap, &c.error) < 0)
		return session_fail(cli, c.error);
	document = doc_new("dirty-read");
	doc_put_u64(document, "ioasid", ioasid);
	doc_put_u64(document, "page_size", bitmap->page_size);
	doc_put_u64(document, "pages", bitmap->n_pages);
	doc_put_bool(document, "cleared", clear);
	put_ranges(document, bitmap);
	return cli_show(cli, document);
}

static const struct cli_param one_ioasid[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID allocated --with-dirty-tracking"},
	{},
};
static const struct cli_param read_args[] = {
	{"IOASID", CLI_ID, CLI_REQUIRED, .help = "id of an IOASID"},
	{"IOVA", CLI_ADDRESS, CLI_REQUIRED, .help = "start of a range"},
	{"LENGTH", CLI_SIZE, CLI_REQUIRED, .help = "bytes", .min = 1},
	{},
};
static const struct cli_param read_options[] = {
	{"page-size", CLI_SIZE, .help = "bytes that are looked at as one (4K)", .min = 1},
	{"no-clear", CLI_FLAG, .help = "leave the pages dirty"},
	{},
};

const struct cli_command cmd_dirty_on = {
	.noun = "dirty",
	.verb = "on",
	.roles = "tenant, agent",
	.summary = "begin to track which pages devices write; all are clean",
	.args = one_ioasid,
	.view = &switch_view,
	.run = dirty_on,
};
const struct cli_command cmd_dirty_off = {
	.noun = "dirty",
	.verb = "off",
	.roles = "tenant, agent",
	.summary = "end it",
	.args = one_ioasid,
	.view = &switch_view,
	.run = dirty_off,
};
const struct cli_command cmd_dirty_read = {
	.noun = "dirty",
	.verb = "read",
	.roles = "tenant, agent",
	.summary = "show which pages were written since the last read",
	.example = "ioasidctl --lease vm dirty read 3 0 1G",
	.args = read_args,
	.options = read_options,
	.view = &read_view,
	.run = dirty_read,
};
