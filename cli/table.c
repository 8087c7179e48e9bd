/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table format: forms ("title: value") and tables here, trees in tree.c, bytes in
 * dump.c, drawn from a document by the columns of a view.  Widths are counted in characters
 * of UTF-8.  Escape sequences are written to a terminal only, and only for the heads of
 * tables.
 */
#include "cli.h"
#include "render.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool on_terminal(FILE *out)
{
	const char *term = getenv("TERM");

	return fileno(out) >= 0 && isatty(fileno(out)) && term && strcmp(term, "dumb") &&
	       !getenv("NO_COLOR");
}

/* ---- forms ---- */

static void form(FILE *out, const struct cli_column *columns, struct json_object *object)
{
	size_t widest = 0;

	for (const struct cli_column *c = columns; c->key; c++)
		if (!(c->optional && render_is_blank(object, c)) && render_width(c->title) > widest)
			widest = render_width(c->title);
	for (const struct cli_column *c = columns; c->key; c++) {
		_cleanup_free_ char *value = NULL;

		if (c->optional && render_is_blank(object, c))
			continue;
		value = render_value(object, c);
		render_pad(out, c->title, widest, false);
		fprintf(out, "  %s\n", value);
	}
}

/* ---- tables ---- */

static bool is_number(const char *text)
{
	return text[0] >= '0' && text[0] <= '9' && !text[strspn(text, "0123456789abcdefxKMGT./")] &&
	       !strchr(text, ':');
}

/* Numbers stand to the right, with what takes the place of one. */
static bool is_filler(const char *text)
{
	return !strcmp(text, "-") || !strcmp(text, "max");
}

/* One column: its cells and how they stand. */
struct cells {
	const char *title;
	char **texts; /* one a row */
	size_t width;
	bool right;
};

/* False: an optional column that no row has. */
static bool cells_init(struct cells *cells, const struct cli_column *column,
		       struct json_object *list, size_t rows)
{
	bool shown = !column->optional;
	size_t numbers = 0;

	*cells = (struct cells){
		.title = column->title,
		.texts = cli_alloc(rows * sizeof(char *)),
		.width = render_width(column->title),
		.right = true,
	};
	for (size_t i = 0; i < rows; i++) {
		struct json_object *row = json_object_array_get_idx(list, i);
		char *text = render_value(row, column);

		cells->texts[i] = text;
		numbers += is_number(text);
		cells->right &= is_number(text) || is_filler(text);
		shown |= !render_is_blank(row, column);
		if (render_width(text) > cells->width)
			cells->width = render_width(text);
	}
	cells->right &= numbers > 0;
	return shown;
}

static void cells_deinit(struct cells *cells, size_t rows)
{
	for (size_t i = 0; i < rows; i++)
		free(cells->texts[i]);
	free(cells->texts);
}

/* The last column is not padded: no line ends in blanks. */
static void cell(FILE *out, const struct cells *cells, const char *text, bool last)
{
	render_pad(out, text, last && !cells->right ? 0 : cells->width, cells->right);
	fputs(last ? "" : "  ", out);
}

static void table(FILE *out, const struct cli_section *section, struct json_object *list)
{
	size_t rows =
		json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	_cleanup_free_ struct cells *columns = NULL;
	bool color = on_terminal(out);
	size_t n = 0;

	if (!rows) {
		if (section->empty)
			fprintf(out, "%s\n", section->empty);
		return;
	}
	while (section->columns[n].key)
		n++;
	columns = cli_alloc(n * sizeof(*columns));
	n = 0;
	for (const struct cli_column *c = section->columns; c->key; c++) {
		if (cells_init(&columns[n], c, list, rows))
			n++;
		else
			cells_deinit(&columns[n], rows);
	}
	fputs(color ? "\033[1m" : "", out);
	for (size_t j = 0; j < n; j++)
		cell(out, &columns[j], columns[j].title, j + 1 == n);
	fputs(color ? "\033[0m\n" : "\n", out);
	for (size_t i = 0; i < rows; i++) {
		for (size_t j = 0; j < n; j++)
			cell(out, &columns[j], columns[j].texts[i], j + 1 == n);
		fputc('\n', out);
	}
	for (size_t j = 0; j < n; j++)
		cells_deinit(&columns[j], rows);
}

/* ---- the format ---- */

static void table_document(FILE *out, const struct cli_view *view, struct json_object *document,
			   bool compact)
{
	bool before = false;

	if (!view)
		return;
	if (view->tree) {
		if (!tree_n_children(view->sections, document) && view->sections->empty)
			fprintf(out, "%s\n", view->sections->empty);
		tree_draw(out, view->sections, document);
		if (view->form)
			fputc('\n', out);
	}
	if (view->form) {
		form(out, view->form, document);
		before = true;
	}
	if (!view->tree) {
		for (const struct cli_section *s = view->sections; s && s->key; s++) {
			struct json_object *list = doc_get(document, s->key);
			bool some = json_object_is_type(list, json_type_array) &&
				    json_object_array_length(list);

			if (!some && !s->empty)
				continue;
			if (before)
				fputc('\n', out);
			if (s->title)
				fprintf(out, "%s\n", s->title);
			table(out, s, list);
			before = true;
		}
	}
	if (view->data)
		dump_draw(out, document);
}

static void table_event(FILE *out, const struct cli_view *view, struct json_object *document)
{
	bool first = true;

	for (const struct cli_column *c = view ? view->form : NULL; c && c->key; c++) {
		_cleanup_free_ char *value = NULL;

		if (c->optional && render_is_blank(document, c))
			continue;
		value = render_value(document, c);
		if (c->title && *c->title)
			fprintf(out, "%s%s=%s", first ? "" : " ", c->title, value);
		else
			fprintf(out, "%s%s", first ? "" : " ", value);
		first = false;
	}
	fputc('\n', out);
}

static void metadata_lines(FILE *err, struct json_object *metadata)
{
	struct json_object_iterator i, end;

	if (!json_object_is_type(metadata, json_type_object))
		return;
	i = json_object_iter_begin(metadata);
	end = json_object_iter_end(metadata);
	for (; !json_object_iter_equal(&i, &end); json_object_iter_next(&i)) {
		struct json_object *value = json_object_iter_peek_value(&i);
		_cleanup_free_ char *k = render_escape(json_object_iter_peek_name(&i));
		_cleanup_free_ char *v = render_escape(json_object_get_string(value) ?: "");

		fprintf(err, "  %s = %s\n", k, v);
	}
}

static void table_error(FILE *err, struct json_object *document)
{
	struct json_object *list = doc_get(document, "violations");
	const char *reason = doc_get_text(document, "reason");
	_cleanup_free_ char *message = render_escape(doc_get_text(document, "message") ?: "");
	bool local = reason && (!strcmp(reason, "USAGE") || !strcmp(reason, "LOCAL") ||
				!strcmp(reason, "NO_SERVER"));

	if (local || !reason)
		fprintf(err, "ioasidctl: %s\n", message);
	else
		fprintf(err, "ioasidctl: %s: %s\n", reason, message);
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		_cleanup_free_ char *field = render_escape(doc_get_text(o, "subject") ?: "");
		_cleanup_free_ char *text = render_escape(doc_get_text(o, "description") ?: "");

		fprintf(err, "  %s%s%s\n", field, *field ? ": " : "", text);
	}
	/* The details say it in better words. */
	if (!list || !json_object_array_length(list))
		metadata_lines(err, doc_get(document, "metadata"));
}

const struct cli_format format_table = {
	.name = "table",
	.help = "forms, tables and trees for people (the default)",
	.document = table_document,
	.event = table_event,
	.error = table_error,
};
