/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees: lists inside the elements of lists, drawn with branches, which are ASCII where the
 * locale is not UTF-8.
 */
#include "cli.h"
#include "render.h"

#include <langinfo.h>
#include <string.h>

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

		if (c->optional && render_is_blank(object, c))
			continue;
		value = render_value(object, c);
		if (c->title && *c->title)
			fprintf(out, " %s=%s", c->title, value);
		else
			fprintf(out, " %s", value);
	}
	fputc('\n', out);
}

size_t tree_n_children(const struct cli_section *sections, struct json_object *object)
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
static void draw(FILE *out, const struct cli_section *sections, struct json_object *object,
		 const char *prefix, bool root)
{
	const struct branches *b = branches();
	size_t left = tree_n_children(sections, object);

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
			draw(out, s->children, child, inner, false);
		}
	}
}

void tree_draw(FILE *out, const struct cli_section *sections, struct json_object *object)
{
	draw(out, sections, object, "", true);
}
