/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One document, several renderings: forms, tables, trees, dumps, ids, JSON.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "doc.h"
#include "output.h"

/* Renders a JSON text; free(). */
static char *render(const struct cli_format *format, const struct cli_view *view, const char *json)
{
	struct json_object *document = json_tokener_parse(json);
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(document);
	format->document(out, view, document, true);
	fclose(out);
	json_object_put(document);
	return text;
}

static void renders(const struct cli_format *format, const struct cli_view *view, const char *json,
		    const char *expected)
{
	char *text = render(format, view, json);

	assert_string_equal(text, expected);
	free(text);
}

static const struct cli_column form[] = {
	{"id", "id"},
	{"length", "how long", RENDER_SIZE},
	{"", "access", RENDER_PROT},
	{"label", "label", .optional = true},
	{"list", "list"},
	{"limit", "limit", RENDER_LIMIT},
	{},
};
static const struct cli_view form_view = {.form = form, .id = "id"};

static void test_form(void **state)
{
	renders(&format_table, &form_view,
		"{\"id\":7,\"length\":65536,\"read\":true,\"write\":false,\"label\":\"\","
		"\"list\":[\"a\",\"b\"],\"limit\":null}",
		"id        7\nhow long  64K\naccess    r--\nlist      a,b\nlimit     max\n");
	renders(&format_id, &form_view, "{\"id\":7}", "7\n");
	renders(&format_json, &form_view, "{\"id\":7}", "{\"id\":7}\n");
	/* The whole of 64 bits survives. */
	renders(&format_id, &form_view, "{\"id\":18446744073709551615}", "18446744073709551615\n");
}

static const struct cli_column columns[] = {
	{"name", "NAME"},
	{"size", "SIZE", RENDER_SIZE},
	{"lease", "LEASE", .optional = true},
	{},
};
static const struct cli_section sections[] = {{"rows", NULL, columns, .empty = "none"}, {}};
static const struct cli_view table_view = {.sections = sections, .id = "name"};

static void test_table(void **state)
{
	renders(&format_table, &table_view, "{\"rows\":[]}", "none\n");
	renders(&format_table, &table_view,
		"{\"rows\":[{\"name\":\"a\",\"size\":1},{\"name\":\"bcdef\",\"size\":1048576}]}",
		"NAME   SIZE\na         1\nbcdef    1M\n");
	/* An optional column appears as soon as one row has it. */
	renders(&format_table, &table_view,
		"{\"rows\":[{\"name\":\"a\",\"size\":1},{\"name\":\"b\",\"size\":2,\"lease\":\"w\"}"
		"]}",
		"NAME  SIZE  LEASE\na        1  -\nb        2  w\n");
	renders(&format_id, &table_view, "{\"rows\":[{\"name\":\"a\"},{\"name\":\"b\"}]}",
		"a\nb\n");
	renders(&format_id, &table_view, "{\"rows\":[]}", "");
}

/* Text from elsewhere cannot move the cursor. */
static void test_escape(void **state)
{
	renders(&format_table, &table_view,
		"{\"rows\":[{\"name\":\"a\\u001b[31m\\u009bx\\n\",\"size\":0}]}",
		"NAME                SIZE\na\\x1b[31m\\x9bx\\x0a     0\n");
	/* Widths count characters, not bytes. */
	renders(&format_table, &table_view,
		"{\"rows\":[{\"name\":\"\u00e9\u00e8\",\"size\":1},{\"name\":\"abcd\",\"size\":2}]"
		"}",
		"NAME  SIZE\n\u00e9\u00e8       1\nabcd     2\n");
}

static const struct cli_column node_columns[] = {
	{"id", ""}, {"bytes", "mapped", RENDER_SIZE, .optional = true}, {}};
static const struct cli_section node_sections[] = {
	{"nested", "node", node_columns, node_sections, .empty = "bare"},
	{},
};
static const struct cli_column total_form[] = {{"total", "total"}, {}};
static const struct cli_view tree_view = {
	.sections = node_sections, .tree = true, .form = total_form};

static void test_tree(void **state)
{
	renders(&format_table, &tree_view,
		"{\"nested\":[{\"id\":1,\"bytes\":4096,\"nested\":[{\"id\":2,\"nested\":[{\"id\":3}"
		"]},"
		"{\"id\":4,\"bytes\":0}]},{\"id\":5}],\"total\":5}",
		"node 1 mapped=4K\n|- node 2\n|  `- node 3\n`- node 4\nnode 5\n\ntotal  5\n");
	renders(&format_table, &tree_view, "{\"nested\":[],\"total\":0}", "bare\n\ntotal  0\n");
}

static const struct cli_view data_view = {.data = true, .id = "data"};

static void test_dump(void **state)
{
	char json[600] = "{\"iova\":\"0x1000\",\"as\":\"dump\",\"data\":\"";

	strcat(json, "48692121");
	strcat(json, "\"}");
	renders(&format_table, &data_view, json,
		"000000001000   48 69 21 21                                       |Hi!!|\n");
	strcpy(json, "{\"offset\":16,\"as\":\"dump\",\"data\":\"");
	for (int i = 0; i < 16 * 5; i++)
		strcat(json, "00");
	strcat(json, "41\"}");
	renders(&format_table, &data_view, json,
		"000000000010   00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  "
		"|................|\n"
		"*\n"
		"000000000060   41                                                |A|\n");
	renders(&format_table, &data_view, "{\"as\":\"hex\",\"data\":\"0a0b\"}", "0a0b\n");
	renders(&format_table, &data_view, "{\"as\":\"text\",\"text\":\"hi\",\"data\":\"6869\"}",
		"hi\n");
}

static void test_paths(void **state)
{
	struct json_object *o =
		json_tokener_parse("{\"a\":{\"b\":1},\"r\":[{\"resource\":\"x\",\"used\":2},"
				   "{\"resource\":\"y\",\"used\":3}]}");

	assert_int_equal(doc_get_u64(o, "a.b"), 1);
	assert_int_equal(doc_get_u64(o, "r:y.used"), 3);
	assert_null(doc_get(o, "r:z.used"));
	assert_null(doc_get(o, "a.b.c"));
	assert_null(doc_get(o, "c"));
	json_object_put(o);
}

static void test_id(void **state)
{
	struct json_object *one = json_tokener_parse("{\"rows\":[{\"name\":\"a\"}]}");
	struct json_object *two =
		json_tokener_parse("{\"rows\":[{\"name\":\"a\"},{\"name\":\"b\"}]}");
	char *id = render_id(&table_view, one);

	assert_string_equal(id, "a");
	free(id);
	assert_null(render_id(&table_view, two));
	assert_null(render_id(NULL, one));
	json_object_put(one);
	json_object_put(two);
}

static void test_hex_and_limits(void **state)
{
	struct json_object *o = doc_new("t");

	doc_put_hex(o, "top", UINT64_MAX);
	doc_put_limit(o, "none", UINT64_MAX);
	doc_put_limit(o, "some", UINT64_MAX - 1);
	doc_put_bytes(o, "bytes", "\x00\xff\x10", 3);
	assert_string_equal(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN),
			    "{\"schema_version\":1,\"type\":\"t\",\"top\":\"0xffffffffffffffff\","
			    "\"none\":null,\"some\":18446744073709551614,\"bytes\":\"00ff10\"}");
	json_object_put(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_form),   cmocka_unit_test(test_table),
		cmocka_unit_test(test_escape), cmocka_unit_test(test_tree),
		cmocka_unit_test(test_dump),   cmocka_unit_test(test_paths),
		cmocka_unit_test(test_id),     cmocka_unit_test(test_hex_and_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
