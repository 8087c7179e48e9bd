/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of output formats, the JSON and id formats, and the printing of answers.  A
 * handler hands its document to cli_show() and is done: nothing else in cli/ writes to
 * standard output, save help, generated texts, and walk, which may have millions of lines.
 * Every write error ends in exit code 1.
 */
#include "output.h"
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void json_print(FILE *out, struct json_object *document, bool compact)
{
	const char *text = json_object_to_json_string_ext(
		document, JSON_C_TO_STRING_NOSLASHESCAPE |
				  (compact ? JSON_C_TO_STRING_PLAIN
					   : JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_PRETTY));

	if (!text)
		cli_oom();
	fprintf(out, "%s\n", text);
}

static void json_document(FILE *out, const struct cli_view *view, struct json_object *document,
			  bool compact)
{
	json_print(out, document, compact);
}

static void json_event(FILE *out, const struct cli_view *view, struct json_object *document)
{
	json_print(out, document, true);
}

static void json_error(FILE *err, struct json_object *document)
{
	json_print(err, document, true);
}

const struct cli_format format_json = {
	.name = "json",
	.help = "JSON documents with a schema_version; errors are JSON on standard error",
	.document = json_document,
	.event = json_event,
	.error = json_error,
};

static void id_print(FILE *out, struct json_object *object, const char *path)
{
	const struct cli_column column = {.key = path};
	_cleanup_free_ char *text = render_value(object, &column);

	fprintf(out, "%s\n", text);
}

/* The ids are in the first section if the view's form has no such member. */
static struct json_object *id_list(const struct cli_view *view, struct json_object *document)
{
	struct json_object *list;

	if (!view->sections || doc_get(document, view->id))
		return NULL;
	list = doc_get(document, view->sections[0].key);
	return json_object_is_type(list, json_type_array) ? list : NULL;
}

char *render_id(const struct cli_view *view, struct json_object *document)
{
	const struct cli_column column = {.key = view && view->id ? view->id : ""};
	struct json_object *list;

	if (!view || !view->id)
		return NULL;
	list = id_list(view, document);
	if (list && json_object_array_length(list) != 1)
		return NULL;
	if (list)
		document = json_object_array_get_idx(list, 0);
	return doc_get(document, view->id) ? render_value(document, &column) : NULL;
}

static void id_document(FILE *out, const struct cli_view *view, struct json_object *document,
			bool compact)
{
	struct json_object *list;

	if (!view || !view->id)
		return;
	list = id_list(view, document);
	if (!list) {
		if (doc_get(document, view->id))
			id_print(out, document, view->id);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(list); i++)
		id_print(out, json_object_array_get_idx(list, i), view->id);
}

static void id_event(FILE *out, const struct cli_view *view, struct json_object *document)
{
	id_document(out, view, document, true);
}

static void id_error(FILE *err, struct json_object *document)
{
	format_table.error(err, document);
}

const struct cli_format format_id = {
	.name = "id",
	.help = "only the id that the command made or lists, one a line, for scripts",
	.document = id_document,
	.event = id_event,
	.error = id_error,
};

const struct cli_format *const cli_formats[] = {&format_table, &format_json, &format_id, NULL};

const struct cli_format *cli_format_find(const char *name)
{
	for (size_t i = 0; cli_formats[i]; i++)
		if (!strcmp(cli_formats[i]->name, name))
			return cli_formats[i];
	return NULL;
}

int cli_flush(struct cli *cli)
{
	int r;

	errno = 0;
	r = fflush(cli->out);
	if (!r && !ferror(cli->out))
		return 0;
	return cli_errno(cli, errno ?: EIO, "cannot write the answer");
}

int cli_show(struct cli *cli, struct json_object *document)
{
	const struct cli_view *view = cli->command ? cli->command->view : NULL;

	cli->format->document(cli->out, view, document, cli->compact);
	free(cli->answer_id);
	cli->answer_id = render_id(view, document);
	json_object_put(document);
	return cli_flush(cli);
}

int cli_show_event(struct cli *cli, struct json_object *document)
{
	cli->format->event(cli->out, cli->command ? cli->command->view : NULL, document);
	json_object_put(document);
	return cli_flush(cli);
}
