/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.json and lease.json.  The state is this plugin's own file in a folder of root's; it is
 * read strictly all the same, because a half-understood record would be a lease that is
 * forgotten.
 */
#include "auto.h"
#include "file.h"
#include "integrations/json/json_text.h"
#include "record.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define STATE	   "state.json"
#define STATE_MAX  (64 << 20)
#define DEPTH_MAX  8
#define VALUES_MAX (4 << 20)
#define HEX	   "0123456789abcdef"

/* ---- writing ---- */

static int add(struct json_object *object, const char *key, struct json_object *value)
{
	if (!value || json_object_object_add(object, key, value) < 0) {
		json_object_put(value);
		return -ENOMEM;
	}
	return 0;
}

static struct json_object *list_of(char *const *items, size_t n)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < n && list; i++) {
		struct json_object *item = json_object_new_string(items[i]);

		if (!item || json_object_array_add(list, item) < 0) {
			json_object_put(item);
			json_object_put(list);
			return NULL;
		}
	}
	return list;
}

static struct json_object *secret_of(const struct record *record)
{
	char text[2 * IOASID_LEASE_SECRET_SIZE + 1] = "";

	for (int i = 0; i < IOASID_LEASE_SECRET_SIZE; i++)
		sprintf(text + 2 * i, "%02x", record->secret[i]);
	return json_object_new_string(text);
}

static int record_write(const struct record *record, struct json_object *o)
{
	return add(o, "resource", json_object_new_string(record->resource)) ?:
	       add(o, "ids", list_of(record->ids, record->n_ids)) ?:
	       add(o, "devices", list_of(record->devices, record->n_devices)) ?:
	       add(o, "tenant", json_object_new_string(record->tenant)) ?:
	       add(o, "socket", json_object_new_string(record->socket)) ?:
	       add(o, "namespace", json_object_new_string(record->namespace)) ?:
	       add(o, "pod", json_object_new_string(record->pod)) ?:
	       add(o, "container", json_object_new_string(record->container)) ?:
	       add(o, "lease", json_object_new_string(record->lease)) ?:
	       add(o, "key", json_object_new_string(record->key)) ?:
	       add(o, "max_ioasids", json_object_new_uint64(record->max_ioasids)) ?:
	       add(o, "max_registered_bytes",
		   json_object_new_uint64(record->max_registered_bytes)) ?:
	       add(o, "linger_seconds", json_object_new_uint64(record->linger_seconds)) ?:
	       add(o, "closing", json_object_new_boolean(record->closing)) ?:
	       (record->has_secret ? add(o, "secret", secret_of(record)) : 0);
}

int records_save(const struct record_table *table)
{
	AUTO_JSON struct json_object *root = json_object_new_object();
	struct json_object *list = json_object_new_array();
	const char *text;

	if (!root || add(root, "version", json_object_new_int(1)) || add(root, "bindings", list))
		return -ENOMEM;
	for (const struct record *record = table->first; record; record = record->next) {
		struct json_object *object = json_object_new_object();

		if (!object || json_object_array_add(list, object) < 0) {
			json_object_put(object);
			return -ENOMEM;
		}
		if (record_write(record, object))
			return -ENOMEM;
	}
	text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN);
	if (!text)
		return -ENOMEM;
	return file_replace(table->state_fd, STATE, 0600, text, strlen(text));
}

int record_lease_text(const struct record *record, char **ret_text)
{
	AUTO_JSON struct json_object *root = json_object_new_object();
	const char *text;

	if (!root || add(root, "version", json_object_new_int(1)) ||
	    add(root, "tenant", json_object_new_string(record->tenant)) ||
	    add(root, "lease", json_object_new_string(record->lease)) ||
	    add(root, "secret", secret_of(record)) ||
	    add(root, "devices", list_of(record->devices, record->n_devices)))
		return -ENOMEM;
	text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN |
							    JSON_C_TO_STRING_NOSLASHESCAPE);
	if (!text)
		return -ENOMEM;
	return asprintf(ret_text, "%s\n", text) < 0 ? -ENOMEM : 0;
}

/* ---- reading ---- */

/* NULL: not there, or no string. */
static const char *text_of(struct json_object *object, const char *key)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

static int read_text(struct json_object *object, const char *key, char **ret_text)
{
	const char *text = text_of(object, key);

	if (!text)
		return RECORD_E_INVALID;
	*ret_text = strdup(text);
	return *ret_text ? 0 : -ENOMEM;
}

static int read_sized(struct json_object *object, const char *key, char *ret_text, size_t size)
{
	const char *text = text_of(object, key);

	if (!text || strlen(text) >= size)
		return RECORD_E_INVALID;
	strcpy(ret_text, text);
	return 0;
}

static int read_number(struct json_object *object, const char *key, uint64_t *ret_number)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_int))
		return RECORD_E_INVALID;
	*ret_number = json_object_get_uint64(value);
	return 0;
}

static int read_list(struct json_object *object, const char *key, char ***ret_items, size_t *ret_n)
{
	struct json_object *list;
	size_t n;

	if (!json_object_object_get_ex(object, key, &list) ||
	    !json_object_is_type(list, json_type_array))
		return RECORD_E_INVALID;
	n = json_object_array_length(list);
	*ret_items = calloc(n + 1, sizeof(**ret_items));
	if (!*ret_items)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(list, i);

		if (!json_object_is_type(item, json_type_string))
			return RECORD_E_INVALID;
		(*ret_items)[i] = strdup(json_object_get_string(item));
		if (!(*ret_items)[i])
			return -ENOMEM;
		*ret_n = i + 1;
	}
	return 0;
}

static int read_secret(struct json_object *object, struct record *record)
{
	const char *text;

	if (!json_object_object_get_ex(object, "secret", NULL))
		return 0;
	text = text_of(object, "secret");
	if (!text || strlen(text) != 2 * IOASID_LEASE_SECRET_SIZE ||
	    strspn(text, HEX) != strlen(text))
		return RECORD_E_INVALID;
	for (int i = 0; i < IOASID_LEASE_SECRET_SIZE; i++)
		record->secret[i] = (strchr(HEX, text[2 * i]) - HEX) << 4 |
				    (strchr(HEX, text[2 * i + 1]) - HEX);
	record->has_secret = true;
	return 0;
}

/* A state that was written before there was a choice has none. */
static int read_linger(struct json_object *object, struct record *record)
{
	if (!json_object_object_get_ex(object, "linger_seconds", NULL))
		return 0;
	return read_number(object, "linger_seconds", &record->linger_seconds);
}

static int record_read(struct json_object *o, struct record *record)
{
	struct json_object *closing;
	int r = read_text(o, "resource", &record->resource) ?:
		read_list(o, "ids", &record->ids, &record->n_ids) ?:
		read_list(o, "devices", &record->devices, &record->n_devices) ?:
		read_text(o, "tenant", &record->tenant) ?:
		read_text(o, "socket", &record->socket) ?:
		read_text(o, "namespace", &record->namespace) ?:
		read_text(o, "pod", &record->pod) ?:
		read_text(o, "container", &record->container) ?:
		read_sized(o, "lease", record->lease, sizeof(record->lease)) ?:
		read_sized(o, "key", record->key, sizeof(record->key)) ?:
		read_number(o, "max_ioasids", &record->max_ioasids) ?:
		read_number(o, "max_registered_bytes", &record->max_registered_bytes) ?:
		read_linger(o, record) ?:
		read_secret(o, record);

	if (!r && (!record->n_ids || !json_object_object_get_ex(o, "closing", &closing) ||
		   !json_object_is_type(closing, json_type_boolean)))
		r = RECORD_E_INVALID;
	if (!r)
		record->closing = json_object_get_boolean(closing);
	return r;
}

static int records_read(struct json_object *root, struct record_table *table,
			char problem[CONFIG_PROBLEM_SIZE])
{
	struct json_object *list;
	uint64_t version;

	if (!json_object_is_type(root, json_type_object) ||
	    read_number(root, "version", &version) || version != 1 ||
	    !json_object_object_get_ex(root, "bindings", &list) ||
	    !json_object_is_type(list, json_type_array)) {
		snprintf(problem, CONFIG_PROBLEM_SIZE, "not a state of this version");
		return RECORD_E_INVALID;
	}
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct record *record = record_new();
		int r;

		if (!record)
			return -ENOMEM;
		records_add(table, record);
		r = record_read(json_object_array_get_idx(list, i), record);
		if (r) {
			snprintf(problem, CONFIG_PROBLEM_SIZE, "bindings[%zu] is damaged", i);
			return r;
		}
	}
	return 0;
}

int records_load(int state_fd, struct record_table *ret_table, char problem[CONFIG_PROBLEM_SIZE])
{
	const struct json_text_limits limits = {
		.bytes_max = STATE_MAX,
		.depth_max = DEPTH_MAX,
		.values_max = VALUES_MAX,
	};
	struct record_table table = {.state_fd = state_fd};
	char why[JSON_TEXT_PROBLEM_SIZE];
	AUTO_JSON struct json_object *root = NULL;
	AUTO_FREE char *text = NULL;
	size_t length;
	int r = file_read(state_fd, STATE, STATE_MAX, &text, &length);

	if (r == -ENOENT) {
		*ret_table = table;
		return 0;
	}
	problem[0] = '\0';
	if (!r) {
		r = json_text_parse(text, length, &limits, &root, why);
		if (r > 0) {
			snprintf(problem, CONFIG_PROBLEM_SIZE, "not a state: %s", why);
			r = RECORD_E_INVALID;
		}
	}
	if (!r)
		r = records_read(root, &table, problem);
	if (r) {
		records_clear(&table);
		return r;
	}
	*ret_table = table;
	return 0;
}
