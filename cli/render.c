/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One value of a document as text for a table.  Text that came from elsewhere (labels,
 * reasons) cannot move the cursor: control characters are shown as \xNN.
 */
#include "render.h"
#include "cli.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

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

char *render_escape(const char *text)
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
		return render_escape(*json_object_get_string(o) ? json_object_get_string(o) : "-");
	default:
		return render_escape(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
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

bool render_is_blank(struct json_object *object, const struct cli_column *column)
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

size_t render_width(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void render_pad(FILE *out, const char *text, size_t to, bool right)
{
	size_t w = render_width(text);
	int space = to > w ? (int)(to - w) : 0;

	if (right)
		fprintf(out, "%*s%s", space, "", text);
	else
		fprintf(out, "%s%*s", text, space, "");
}
