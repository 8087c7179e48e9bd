/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table format: forms ("title: value"), tables and trees, drawn from a document by the
 * columns of a view.  Widths are counted in characters of UTF-8.  Text that came from
 * elsewhere (labels, reasons) cannot move the cursor: control characters are shown as
 * \xNN.  Escape sequences are written to a terminal only, and only for the heads of tables.
 */
#include "cli.h"
#include "output.h"

#include <inttypes.h>
#include <langinfo.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *render_size(uint64_t value, char *buffer, size_t size)
{
	static const struct {
		unsigned shift;
		char letter;
	} units[] = {{40, 'T'}, {30, 'G'}, {20, 'M'}, {10, 'K'}};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (value && !(value & ((UINT64_C(1) << units[i].shift) - 1))) {
			snprintf(buffer, size, "%" PRIu64 "%c", value >> units[i].shift,
				 units[i].letter);
			return buffer;
		}
	snprintf(buffer, size, "%" PRIu64, value);
	return buffer;
}

static char *escape(const char *text)
{
	char *out = cli_alloc(4 * strlen(text) + 1), *p = out;

	for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
		/* C0, DEL, and C1 as UTF-8 (0xc2 0x80..0x9f) */
		bool c1 = s[0] == 0xc2 && s[1] >= 0x80 && s[1] <= 0x9f;

		if (c1)
			s++;
		if (c1 || *s < 0x20 || *s == 0x7f)
			p += sprintf(p, "\\x%02x", *s);
		else
			*p++ = (char)*s;
	}
	*p = 0;
	return out;
}

static char *render_scalar(struct json_object *o, enum cli_render render, bool bytes)
{
	char buffer[32];

	if (!o)
		return cli_strdup(render == RENDER_LIMIT || render == RENDER_BYTES ? "max" : "-");
	switch (json_object_get_type(o)) {
	case json_type_boolean:
		return cli_strdup(json_object_get_boolean(o) ? "yes" : "no");
	case json_type_int:
		if (render == RENDER_SIZE || render == RENDER_SIZES || bytes)
			return cli_strdup(
				render_size(json_object_get_uint64(o), buffer, sizeof(buffer)));
		return cli_strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	case json_type_string:
		return escape(*json_object_get_string(o) ? json_object_get_string(o) : "-");
	default:
		return escape(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
	}
}

static char *render_list(struct json_object *list, enum cli_render render)
{
	char *out = cli_strdup("");
	size_t n = json_object_array_length(list);

	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *one =
			render_scalar(json_object_array_get_idx(list, i), render, false);
		char *longer = cli_printf("%s%s%s", out, i ? "," : "", one);

		free(out);
		out = longer;
	}
	if (!n) {
		free(out);
		out = cli_strdup("-");
	}
	return out;
}

/* "3/8", "64K/1M"; without a limit "3". */
static char *render_use(struct json_object *usage)
{
	const char *resource = doc_get_text(usage, "resource") ?: "";
	bool bytes = strstr(resource, "_bytes");
	struct json_object *limit = doc_get(usage, "limit");
	_cleanup_free_ char *used = NULL, *of = NULL;

	if (!usage)
		return cli_strdup("-");
	used = render_scalar(doc_get(usage, "used"), RENDER_PLAIN, bytes);
	of = render_scalar(limit, RENDER_PLAIN, bytes);
	return limit ? cli_printf("%s/%s", used, of) : cli_strdup(used);
}

static char *render_time(uint64_t us)
{
	time_t seconds = us / 1000000;
	char buffer[40];
	struct tm tm;

	if (!localtime_r(&seconds, &tm) || !strftime(buffer, sizeof(buffer), "%F %T", &tm))
		return cli_strdup("-");
	return cli_printf("%s.%03u", buffer, (unsigned)(us % 1000000 / 1000));
}

char *render_value(struct json_object *object, const struct cli_column *column)
{
	struct json_object *o = doc_get(object, column->key);
	const char *resource;

	switch (column->render) {
	case RENDER_PROT:
		return cli_printf("%c%c%c", doc_get_bool(object, "read") ? 'r' : '-',
				  doc_get_bool(object, "write") ? 'w' : '-',
				  doc_get_bool(object, "execute") ? 'x' : '-');
	case RENDER_USE:
		return render_use(o);
	case RENDER_TIME:
		return render_time(json_object_get_uint64(o));
	case RENDER_COUNT:
		return cli_printf("%zu", json_object_is_type(o, json_type_array)
						 ? json_object_array_length(o)
						 : (size_t)0);
	case RENDER_BYTES:
		resource = doc_get_text(object, "resource") ?: "";
		return render_scalar(o, RENDER_BYTES, strstr(resource, "_bytes") != NULL);
	default:
		if (json_object_is_type(o, json_type_array))
			return render_list(o, column->render);
		return render_scalar(o, column->render, false);
	}
}

static bool is_blank(struct json_object *object, const struct cli_column *column)
{
	struct json_object *o = doc_get(object, column->key);

	if (column->render == RENDER_USE)
		return !doc_get_u64(o, "used") && !doc_get(o, "limit");
	if (column->render == RENDER_PROT)
		return !doc_get(object, "read") && !doc_get(object, "write");
	switch (json_object_get_type(o)) {
	case json_type_null:
		return true;
	case json_type_boolean:
		return !json_object_get_boolean(o);
	case json_type_int:
		return !json_object_get_uint64(o);
	case json_type_string:
		return !*json_object_get_string(o);
	case json_type_array:
		return !json_object_array_length(o);
	default:
		return false;
	}
}

static size_t width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static void pad(FILE *out, const char *text, size_t to, bool right)
{
	size_t w = width(text);
	int space = to > w ? (int)(to - w) : 0;

	if (right)
		fprintf(out, "%*s%s", space, "", text);
	else
		fprintf(out, "%s%*s", text, space, "");
}

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
		if (!(c->optional && is_blank(object, c)) && width(c->title) > widest)
			widest = width(c->title);
	for (const struct cli_column *c = columns; c->key; c++) {
		_cleanup_free_ char *value = NULL;

		if (c->optional && is_blank(object, c))
			continue;
		value = render_value(object, c);
		pad(out, c->title, widest, false);
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

static void table(FILE *out, const struct cli_section *section, struct json_object *list)
{
	size_t rows =
		json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	size_t n = 0, numbers;
	bool color = on_terminal(out);

	if (!rows) {
		if (section->empty)
			fprintf(out, "%s\n", section->empty);
		return;
	}
	while (section->columns[n].key)
		n++;

	_cleanup_free_ char **cells = cli_alloc(rows * n * sizeof(*cells));
	_cleanup_free_ size_t *widths = cli_alloc(n * sizeof(*widths));
	_cleanup_free_ bool *right = cli_alloc(n * sizeof(*right));
	_cleanup_free_ bool *shown = cli_alloc(n * sizeof(*shown));

	for (size_t j = 0; j < n; j++) {
		const struct cli_column *c = &section->columns[j];

		widths[j] = width(c->title);
		numbers = 0;
		right[j] = true;
		shown[j] = !c->optional;
		for (size_t i = 0; i < rows; i++) {
			struct json_object *row = json_object_array_get_idx(list, i);
			char *cell = render_value(row, c);

			cells[i * n + j] = cell;
			numbers += is_number(cell);
			right[j] &= is_number(cell) || is_filler(cell);
			shown[j] |= !is_blank(row, c);
			if (width(cell) > widths[j])
				widths[j] = width(cell);
		}
		right[j] &= numbers > 0;
	}
	size_t last = 0;

	for (size_t j = 0; j < n; j++)
		if (shown[j])
			last = j;
	if (color)
		fputs("\033[1m", out);
	for (size_t j = 0; j < n; j++)
		if (shown[j]) {
			pad(out, section->columns[j].title, j == last && !right[j] ? 0 : widths[j],
			    right[j]);
			fputs(j == last ? "" : "  ", out);
		}
	fputs(color ? "\033[0m\n" : "\n", out);
	for (size_t i = 0; i < rows; i++) {
		for (size_t j = 0; j < n; j++) {
			if (shown[j]) {
				pad(out, cells[i * n + j], j == last && !right[j] ? 0 : widths[j],
				    right[j]);
				fputs(j == last ? "" : "  ", out);
			}
			free(cells[i * n + j]);
		}
		fputc('\n', out);
	}
}

/* ---- trees ---- */

struct branches {
	const char *tee, *corner, *bar, *space;
};

static const struct branches *branches(void)
{
	static const struct branches ascii = {"|- ", "`- ", "|  ", "   "};
	static const struct branches utf8 = {"├─ ", "└─ ", "│  ", "   "};

	return strcmp(nl_langinfo(CODESET), "UTF-8") ? &ascii : &utf8;
}

/* "lease web serial=3 linger=60": the first column bare, others titled. */
static void node_line(FILE *out, const struct cli_section *section, struct json_object *object)
{
	fprintf(out, "%s", section->title);
	for (const struct cli_column *c = section->columns; c->key; c++) {
		_cleanup_free_ char *value = NULL;

		if (c->optional && is_blank(object, c))
			continue;
		value = render_value(object, c);
		if (c->title && *c->title)
			fprintf(out, " %s=%s", c->title, value);
		else
			fprintf(out, " %s", value);
	}
	fputc('\n', out);
}

static size_t n_children(const struct cli_section *sections, struct json_object *object)
{
	size_t n = 0;

	for (const struct cli_section *s = sections; s && s->key; s++) {
		struct json_object *list = doc_get(object, s->key);

		if (json_object_is_type(list, json_type_array))
			n += json_object_array_length(list);
	}
	return n;
}

/*
 * An object that contains objects of its own sort (tenant in tenant, ioasid on ioasid)
 * holds them in the same key; the section then has itself among its children, which a
 * static table says with the address of the array.
 */
static void tree(FILE *out, const struct cli_section *sections, struct json_object *object,
		 const char *prefix, bool root)
{
	const struct branches *b = branches();
	size_t left = n_children(sections, object);

	for (const struct cli_section *s = sections; s && s->key; s++) {
		struct json_object *list = doc_get(object, s->key);
		size_t n = json_object_is_type(list, json_type_array)
				   ? json_object_array_length(list)
				   : 0;

		for (size_t i = 0; i < n; i++) {
			struct json_object *child = json_object_array_get_idx(list, i);
			_cleanup_free_ char *inner = NULL;

			left--;
			if (!root)
				fprintf(out, "%s%s", prefix, left ? b->tee : b->corner);
			node_line(out, s, child);
			inner = root ? cli_strdup("")
				     : cli_printf("%s%s", prefix, left ? b->bar : b->space);
			tree(out, s->children, child, inner, false);
		}
	}
}

/* ---- bytes ---- */

#define DUMP_WIDTH 16

static unsigned digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Lines that repeat the one before are one "*". */
static void dump(FILE *out, const char *hex, uint64_t address)
{
	size_t n = strlen(hex) / 2;
	bool star = false;

	for (size_t i = 0; i < n; i += DUMP_WIDTH) {
		const char *line = hex + 2 * i;
		size_t here = n - i < DUMP_WIDTH ? n - i : DUMP_WIDTH;

		if (i && here == DUMP_WIDTH && i + DUMP_WIDTH < n &&
		    !memcmp(line, line - 2 * DUMP_WIDTH, 2 * DUMP_WIDTH)) {
			if (!star)
				fputs("*\n", out);
			star = true;
			continue;
		}
		star = false;
		fprintf(out, "%012" PRIx64 " ", address + i);
		for (size_t j = 0; j < DUMP_WIDTH; j++)
			fprintf(out, "%s%.*s", j % 8 ? " " : "  ", j < here ? 2 : 0, line + 2 * j);
		for (size_t j = here; j < DUMP_WIDTH; j++)
			fputs("  ", out);
		fputs("  |", out);
		for (size_t j = 0; j < here; j++) {
			unsigned c = digit(line[2 * j]) << 4 | digit(line[2 * j + 1]);

			fputc(c >= 0x20 && c < 0x7f ? (int)c : '.', out);
		}
		fputs("|\n", out);
	}
}

static void data(FILE *out, struct json_object *document)
{
	const char *hex = doc_get_text(document, "data");
	const char *as = doc_get_text(document, "as");
	const char *iova = doc_get_text(document, "iova");

	if (!hex || !as)
		return;
	if (!strcmp(as, "dump"))
		dump(out, hex, iova ? strtoull(iova, NULL, 16) : doc_get_u64(document, "offset"));
	else
		fprintf(out, "%s\n", strcmp(as, "text") ? hex : doc_get_text(document, "text"));
}

/* ---- the format ---- */

static void table_document(FILE *out, const struct cli_view *view, struct json_object *document,
			   bool compact)
{
	bool before = false;

	if (!view)
		return;
	if (view->tree) {
		if (!n_children(view->sections, document) && view->sections->empty)
			fprintf(out, "%s\n", view->sections->empty);
		tree(out, view->sections, document, "", true);
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
		data(out, document);
}

static void table_event(FILE *out, const struct cli_view *view, struct json_object *document)
{
	bool first = true;

	for (const struct cli_column *c = view ? view->form : NULL; c && c->key; c++) {
		_cleanup_free_ char *value = NULL;

		if (c->optional && is_blank(document, c))
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
		_cleanup_free_ char *k = escape(json_object_iter_peek_name(&i));
		_cleanup_free_ char *v = escape(json_object_get_string(value) ?: "");

		fprintf(err, "  %s = %s\n", k, v);
	}
}

static void table_error(FILE *err, struct json_object *document)
{
	struct json_object *list = doc_get(document, "violations");
	const char *reason = doc_get_text(document, "reason");
	_cleanup_free_ char *message = escape(doc_get_text(document, "message") ?: "");
	bool local = reason && (!strcmp(reason, "USAGE") || !strcmp(reason, "LOCAL") ||
				!strcmp(reason, "NO_SERVER"));

	if (local || !reason)
		fprintf(err, "ioasidctl: %s\n", message);
	else
		fprintf(err, "ioasidctl: %s: %s\n", reason, message);
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		_cleanup_free_ char *field = escape(doc_get_text(o, "subject") ?: "");
		_cleanup_free_ char *text = escape(doc_get_text(o, "description") ?: "");

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
