/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One text of a policy into the policy: shape by json_scan, values by json-c, schema by the
 * tables below (docs/policy.md).
 *
 * Owns: nothing beyond the call but what it adds to the policy's arena and vectors.
 * Never: looks at other files; check.c does what spans them.
 *
 * The scan leads through objects and arrays; json-c decodes each number and each key and
 * string with an escape, one at a time.  It does not get whole objects: it checks no
 * allocation for a key's name (0.16 crashes there), keeps the last of two equal keys without
 * a word, and one tree of a large policy takes some 6 KiB a tenant.  It also cuts a string
 * for which its buffer could not grow; the length is therefore compared with the scan, and
 * what differs is an allocation that failed.
 *
 * Runs on the one thread that loads.
 */

#include "json_scan.h"
#include "policy_internal.h"
#include "problem.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parse {
	struct policy *policy;
	const struct policy_vocabulary *vocabulary;
	struct policy_problem *problem;
	unsigned file;
	const char *text;
	size_t length;
	struct json_scan scan;
	struct json_tokener *tokener;
};

/* A value and the way to it. */
struct cursor {
	const struct cursor *up;
	uint32_t node;
	const char *key; /* NULL: element number index, or the root */
	size_t index;
};

typedef int (*parse_fn)(struct parse *p, const struct cursor *at, void *obj);

struct schema_key {
	const char *name;
	parse_fn parse;
	bool required;
};

/* Keys of one object of the schema. */
#define SCHEMA_KEYS_MAX 8

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

static void tokener_done(struct json_tokener **tokener)
{
	if (*tokener)
		json_tokener_free(*tokener);
}

static void json_put(struct json_object **value)
{
	json_object_put(*value);
}

/* A decoded string without NUL inside. */
struct text {
	char *s;
	size_t length;
};

static void text_done(struct text *text)
{
	free(text->s);
}

/* ---- problems ---- */

static void cursor_path(const struct cursor *at, char *path, size_t size)
{
	if (!at->up)
		return;
	cursor_path(at->up, path, size);
	if (at->key)
		problem_path_add_key(path, size, at->key, strlen(at->key));
	else
		problem_path_add_index(path, size, at->index);
}

static const struct json_node *cursor_node(const struct parse *p, const struct cursor *at)
{
	return &p->scan.nodes[at->node];
}

static struct policy_place cursor_place(const struct parse *p, const struct cursor *at)
{
	const struct json_node *node = cursor_node(p, at);

	return (struct policy_place){
		.file = p->file,
		.line = node->line,
		.column = node->column,
	};
}

/* The member's key is at fault. */
__attribute__((format(printf, 3, 4))) static int fail_key(struct parse *p, const struct cursor *at,
							  const char *fmt, ...)
{
	const struct json_node *node = cursor_node(p, at);
	char path[sizeof(p->problem->path)] = "";
	va_list ap;

	cursor_path(at, path, sizeof(path));
	va_start(ap, fmt);
	problem_set(p->problem, p->policy->files[p->file].name, node->line, node->column, path, fmt,
		    ap);
	va_end(ap);
	return POLICY_E_INVALID;
}

/* The value is. */
__attribute__((format(printf, 3, 4))) static int fail_value(struct parse *p,
							    const struct cursor *at,
							    const char *fmt, ...)
{
	char path[sizeof(p->problem->path)] = "";
	unsigned line, column;
	va_list ap;

	cursor_path(at, path, sizeof(path));
	json_scan_position(p->text, cursor_node(p, at)->offset, &line, &column);
	va_start(ap, fmt);
	problem_set(p->problem, p->policy->files[p->file].name, line, column, path, fmt, ap);
	va_end(ap);
	return POLICY_E_INVALID;
}

static bool number_is_whole(const char *text, size_t left)
{
	while (left && *text >= '0' && *text <= '9')
		text++, left--;
	return !left || !strchr(".eE", *text);
}

/* The text is, at an offset that belongs to no value yet. */
__attribute__((format(printf, 4, 5))) static int fail_offset(struct parse *p, size_t offset,
							     const char *path, const char *fmt, ...)
{
	unsigned line, column;
	va_list ap;

	json_scan_position(p->text, offset, &line, &column);
	va_start(ap, fmt);
	problem_set(p->problem, p->policy->files[p->file].name, line, column, path, fmt, ap);
	va_end(ap);
	return POLICY_E_INVALID;
}

/* What the value is, for "expected ..., found ...". */
static const char *found(const struct parse *p, const struct cursor *at)
{
	const char *text = p->text + cursor_node(p, at)->offset;

	switch (*text) {
	case '{':
		return "an object";
	case '[':
		return "an array";
	case '"':
		return "a string";
	case 't':
	case 'f':
		return "a boolean";
	case 'n':
		return "null";
	case '-':
		return "a negative number";
	default:
		return number_is_whole(text, p->text + p->length - text)
			       ? "a number"
			       : "a number with a fraction or an exponent";
	}
}

/* "20-acme.json:7: tenants.acme.devices"; NULL: no memory. */
static const char *origin_new(struct parse *p, const struct cursor *at)
{
	char path[sizeof(p->problem->path)] = "";

	cursor_path(at, path, sizeof(path));
	return arena_printf(&p->policy->arena, "%s:%u: %s", p->policy->files[p->file].base,
			    cursor_node(p, at)->line, path);
}

/* ---- json-c ---- */

/* Decodes one scalar of the text, not null. */
static int scalar_new(struct parse *p, size_t offset, size_t end, struct json_object **ret)
{
	struct json_object *value;

	/* With the byte that follows, by which json-c knows that a number has ended. */
	json_tokener_reset(p->tokener);
	value = json_tokener_parse_ex(p->tokener, p->text + offset, (int)(end + 1 - offset));
	if (value) {
		*ret = value;
		return 0;
	}
	/*
	 * The scan took the text as good.  Versions of json-c differ in whether a number beyond
	 * 64 bits saturates or is an error; else memory is all that can lack, for which
	 * json-c has no error of its own.
	 */
	if (json_tokener_get_error(p->tokener) == json_tokener_error_parse_number)
		return fail_offset(p, offset, "", "this number is out of range");
	return -ENOMEM;
}

/* The string at an offset, after which the text goes on.  Without escapes it is its bytes. */
static int text_new(struct parse *p, size_t offset, struct text *ret)
{
	__attribute__((cleanup(json_put))) struct json_object *value = NULL;
	const char *s = p->text + offset + 1;
	size_t raw, decoded;
	char *copy;
	int r;

	json_scan_string(p->text, offset, &raw, &decoded);
	if (decoded != raw - strlen("\"\"")) {
		r = scalar_new(p, offset, offset + raw, &value);
		if (r)
			return r;
		s = json_object_get_string(value);
		if ((size_t)json_object_get_string_len(value) != decoded)
			return -ENOMEM;
	}
	copy = malloc(decoded + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, s, decoded);
	copy[decoded] = '\0';
	*ret = (struct text){.s = copy, .length = decoded};
	return 0;
}

/* ---- objects and arrays ---- */

static char first_byte(const struct parse *p, const struct cursor *at)
{
	return p->text[cursor_node(p, at)->offset];
}

/* Calls fn for every member of an object; whoever knows the keys looks for equal ones. */
static int each_member(struct parse *p, const struct cursor *at, parse_fn fn, void *obj)
{
	uint32_t n = cursor_node(p, at)->n_children, node = at->node + 1;

	if (first_byte(p, at) != '{')
		return fail_value(p, at, "expected an object, found %s", found(p, at));
	for (uint32_t i = 0; i < n; i++, node = p->scan.nodes[node].next) {
		__attribute__((cleanup(text_done))) struct text key = {0};
		struct cursor child = {.up = at, .node = node};
		int r = text_new(p, p->scan.nodes[node].key_offset, &key);

		child.key = key.s;
		if (!r)
			r = fn(p, &child, obj);
		if (r)
			return r;
	}
	return 0;
}

/* Calls fn for every element of an array of at most max. */
static int each_element(struct parse *p, const struct cursor *at, size_t max, parse_fn fn,
			void *obj)
{
	uint32_t n = cursor_node(p, at)->n_children, node = at->node + 1;

	if (first_byte(p, at) != '[')
		return fail_value(p, at, "expected an array, found %s", found(p, at));
	if (n > max)
		return fail_value(p, at, "expected at most %zu elements, found %" PRIu32, max, n);
	for (uint32_t i = 0; i < n; i++, node = p->scan.nodes[node].next) {
		struct cursor child = {.up = at, .node = node, .index = i};
		int r = fn(p, &child, obj);

		if (r)
			return r;
	}
	return 0;
}

static int fail_twice(struct parse *p, const struct cursor *at, unsigned line, unsigned column)
{
	return fail_key(p, at, "this key is there twice, first at %u:%u", line, column);
}

struct schema {
	const struct schema_key *keys;
	size_t n_keys;
	void *obj;
	uint32_t seen[SCHEMA_KEYS_MAX]; /* the node of each key; 0, the root's: not seen */
};

static void schema_names(const struct schema *schema, char *ret, size_t size)
{
	size_t used = 0;

	ret[0] = '\0';
	for (size_t i = 0; i < schema->n_keys && used < size; i++)
		used += snprintf(ret + used, size - used, "%s\"%s\"", i ? ", " : "",
				 schema->keys[i].name);
}

static int parse_schema_member(struct parse *p, const struct cursor *at, void *obj)
{
	struct schema *schema = obj;
	char names[256];

	for (size_t i = 0; i < schema->n_keys; i++) {
		if (!strcmp(at->key, schema->keys[i].name)) {
			const struct json_node *first = &p->scan.nodes[schema->seen[i]];

			if (schema->seen[i])
				return fail_twice(p, at, first->line, first->column);
			schema->seen[i] = at->node;
			return schema->keys[i].parse(p, at, schema->obj);
		}
	}
	schema_names(schema, names, sizeof(names));
	return fail_key(p, at, "unknown key, expected one of %s", names);
}

static int parse_schema(struct parse *p, const struct cursor *at, const struct schema_key *keys,
			size_t n_keys, void *obj)
{
	struct schema schema = {.keys = keys, .n_keys = n_keys, .obj = obj};
	int r = each_member(p, at, parse_schema_member, &schema);

	if (r)
		return r;
	for (size_t i = 0; i < n_keys; i++)
		if (keys[i].required && !schema.seen[i])
			return fail_value(p, at, "the key \"%s\" is missing", keys[i].name);
	return 0;
}

/* ---- scalars ---- */

/* ret: initialized, given to text_done() in any case. */
static int parse_string(struct parse *p, const struct cursor *at, const char *expected,
			struct text *ret)
{
	if (first_byte(p, at) != '"')
		return fail_value(p, at, "expected %s, found %s", expected, found(p, at));
	return text_new(p, cursor_node(p, at)->offset, ret);
}

/* 0 to max; max < UINT64_MAX, which is what json-c makes of everything larger. */
static int parse_unsigned(struct parse *p, const struct cursor *at, const char *expected,
			  uint64_t max, uint64_t *ret)
{
	__attribute__((cleanup(json_put))) struct json_object *value = NULL;
	const struct json_node *node = cursor_node(p, at);
	char c = first_byte(p, at);
	uint64_t number;
	int r = 0;

	if (c >= '0' && c <= '9')
		r = scalar_new(p, node->offset, node->end, &value);
	if (r)
		return r;
	if (!json_object_is_type(value, json_type_int))
		return fail_value(p, at, "expected %s, found %s", expected, found(p, at));
	number = json_object_get_uint64(value);
	if (number > max)
		return fail_value(p, at, "expected at most %" PRIu64 ", found a larger number",
				  max);
	*ret = number;
	return 0;
}

static int parse_version(struct parse *p, const struct cursor *at, void *obj)
{
	uint64_t version;
	int r = parse_unsigned(p, at, "the number 1", UINT64_MAX - 1, &version);

	if (!r && version != 1)
		return fail_value(p, at, "expected version 1, found %" PRIu64, version);
	return r;
}

/* ---- limits and reservations ---- */

struct amounts {
	struct policy_amount items[_QUOTA_MAX];
	size_t n;
	bool reservations;
};

static int parse_amount_value(struct parse *p, const struct cursor *at, enum quota_resource r,
			      bool max_allowed, uint64_t *ret)
{
	static const char *const expected[2][2] = {
		{"an unsigned integer", "an unsigned integer or \"max\""},
		{"a number of bytes (an unsigned integer or a string like \"4G\")",
		 "a number of bytes (an unsigned integer, a string like \"4G\", or \"max\")"},
	};
	bool bytes = quota_resource_is_bytes(r);
	__attribute__((cleanup(text_done))) struct text text = {0};
	const char *what = expected[bytes][max_allowed];
	int error;

	if (first_byte(p, at) != '"')
		return parse_unsigned(p, at, what, QUOTA_UNLIMITED - 1, ret);
	error = parse_string(p, at, what, &text);
	if (error)
		return error;
	if (max_allowed && !strcmp(text.s, "max")) {
		*ret = QUOTA_UNLIMITED;
		return 0;
	}
	if (!bytes)
		return fail_value(p, at, "expected %s, found \"%.64s\"", what, text.s);
	switch (policy_bytes_parse(text.s, text.length, ret)) {
	case 0:
		return 0;
	case -ERANGE:
		return fail_value(p, at, "\"%.64s\" is more than 64 bits hold", text.s);
	default:
		return fail_value(p, at, "expected %s with K, M, G or T, found \"%.64s\"", what,
				  text.s);
	}
}

static int parse_amount(struct parse *p, const struct cursor *at, void *obj)
{
	struct amounts *amounts = obj;
	struct policy_amount amount = {.place = cursor_place(p, at)};
	int r;

	const struct policy_amount *first;

	if (quota_resource_from_name(at->key, &amount.resource))
		return fail_key(p, at, "unknown resource");
	first = policy_tenant_amount(amounts->items, amounts->n, amount.resource);
	if (first)
		return fail_twice(p, at, first->place.line, first->place.column);
	if (amounts->reservations && amount.resource >= _QUOTA_COUNTED_MAX)
		return fail_key(p, at,
				"only what is counted can be reserved; this is a ceiling or a "
				"rate");
	r = parse_amount_value(p, at, amount.resource, !amounts->reservations, &amount.value);
	if (r)
		return r;
	amounts->items[amounts->n++] = amount;
	return 0;
}

static int parse_amounts(struct parse *p, const struct cursor *at, bool reservations,
			 struct policy_amount **ret, size_t *ret_n)
{
	struct amounts amounts = {.reservations = reservations};
	struct policy_amount *items;
	int r = each_member(p, at, parse_amount, &amounts);

	if (r)
		return r;
	items = arena_alloc_array(&p->policy->arena, amounts.n, sizeof(*items));
	if (!items)
		return -ENOMEM;
	memcpy(items, amounts.items, amounts.n * sizeof(*items));
	*ret = items;
	*ret_n = amounts.n;
	return 0;
}

static int parse_limits(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_tenant *tenant = obj;

	return parse_amounts(p, at, false, &tenant->limits, &tenant->n_limits);
}

static int parse_reservations(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_tenant *tenant = obj;

	return parse_amounts(p, at, true, &tenant->reservations, &tenant->n_reservations);
}

/* ---- device rules ---- */

#define EXPECTED_ADDRESS "a device address like \"0000:3b:00.0\""

static int parse_rule_address(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_rule *rule = obj;
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, EXPECTED_ADDRESS, &text);

	if (r)
		return r;
	rule->type = POLICY_RULE_ADDRESS;
	if (policy_address_parse(text.s, text.length, rule->address))
		return fail_value(p, at, "expected " EXPECTED_ADDRESS ", found \"%.64s\"", text.s);
	return 0;
}

static int parse_rule_group(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_rule *rule = obj;
	uint64_t group;
	int r = parse_unsigned(p, at, "the number of an IOMMU group", UINT32_MAX, &group);

	rule->type = POLICY_RULE_GROUP;
	if (!r)
		rule->group = group;
	return r;
}

static int parse_rule_vendor_device(struct parse *p, const struct cursor *at, void *obj)
{
	static const char expected[] = "vendor and device in hexadecimal like \"8086:10fb\" or "
				       "\"8086:*\"";
	struct policy_rule *rule = obj;
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, expected, &text);

	if (r)
		return r;
	rule->type = POLICY_RULE_VENDOR_DEVICE;
	if (policy_vendor_device_parse(text.s, text.length, rule))
		return fail_value(p, at, "expected %s, found \"%.64s\"", expected, text.s);
	return 0;
}

static int parse_rule_class(struct parse *p, const struct cursor *at, void *obj)
{
	static const char expected[] = "2, 4 or 6 hexadecimal digits of a PCI class like \"0200\"";
	struct policy_rule *rule = obj;
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, expected, &text);

	if (r)
		return r;
	rule->type = POLICY_RULE_CLASS;
	if (policy_class_parse(text.s, text.length, rule))
		return fail_value(p, at, "expected %s, found \"%.64s\"", expected, text.s);
	return 0;
}

static int parse_rule_any(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_rule *rule = obj;

	if (first_byte(p, at) != 't')
		return fail_value(p, at, "expected true, found %s",
				  first_byte(p, at) == 'f' ? "false" : found(p, at));
	rule->type = POLICY_RULE_ANY;
	return 0;
}

static const struct schema_key rule_keys[] = {
	{"address", parse_rule_address},
	{"group", parse_rule_group},
	{"vendor_device", parse_rule_vendor_device},
	{"class", parse_rule_class},
	{"any", parse_rule_any},
};

static int parse_rule(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_devices *devices = obj;
	struct policy_rule rule = {.place = cursor_place(p, at)};
	int r = parse_schema(p, at, rule_keys, N_ELEMENTS(rule_keys), &rule);

	if (r)
		return r;
	if (cursor_node(p, at)->n_children != 1)
		return fail_value(p, at,
				  "expected exactly one of \"address\", \"group\", "
				  "\"vendor_device\", \"class\", \"any\", found %u keys",
				  cursor_node(p, at)->n_children);
	devices->rules[devices->n_rules++] = rule;
	return 0;
}

static int parse_devices(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_tenant *tenant = obj;
	struct policy_devices *devices = &tenant->devices;
	size_t n = cursor_node(p, at)->n_children;

	devices->origin = origin_new(p, at);
	devices->rules = arena_alloc_array(&p->policy->arena, n <= POLICY_RULES_MAX ? n : 0,
					   sizeof(*devices->rules));
	if (!devices->origin || !devices->rules)
		return -ENOMEM;
	return each_element(p, at, POLICY_RULES_MAX, parse_rule, devices);
}

/* ---- formats and kinds ---- */

struct words {
	const char *expected;
	const char *const *words;
	size_t n_words;
	uint64_t mask;
};

static int parse_word(struct parse *p, const struct cursor *at, void *obj)
{
	struct words *words = obj;
	char known[320] = "";
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, words->expected, &text);
	size_t used = 0;

	if (r)
		return r;
	for (size_t i = 0; i < words->n_words && i < 64; i++) {
		if (!words->words[i] || strcmp(text.s, words->words[i]))
			continue;
		if (words->mask & UINT64_C(1) << i)
			return fail_value(p, at, "\"%s\" is there twice", text.s);
		words->mask |= UINT64_C(1) << i;
		return 0;
	}
	for (size_t i = 0; i < words->n_words && i < 64 && used < sizeof(known); i++)
		if (words->words[i])
			used += snprintf(known + used, sizeof(known) - used, "%s%s",
					 used ? ", " : "", words->words[i]);
	return fail_value(p, at, "expected %s, found \"%.64s\"; known are: %s", words->expected,
			  text.s, known);
}

static int parse_words(struct parse *p, const struct cursor *at, struct words *words,
		       struct policy_words *ret)
{
	int r;

	r = each_element(p, at, 64, parse_word, words);
	if (r)
		return r;
	ret->mask = words->mask;
	ret->origin = origin_new(p, at);
	return ret->origin ? 0 : -ENOMEM;
}

static int parse_formats(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_tenant *tenant = obj;
	struct words words = {
		.expected = "the name of a page-table format",
		.words = p->vocabulary->formats,
		.n_words = p->vocabulary->n_formats,
	};

	return parse_words(p, at, &words, &tenant->formats);
}

static int parse_kinds(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_tenant *tenant = obj;
	struct words words = {
		.expected = "the name of a kind of IOASID",
		.words = p->vocabulary->kinds,
		.n_words = p->vocabulary->n_kinds,
	};

	return parse_words(p, at, &words, &tenant->kinds);
}

/* ---- pasid_policy ---- */

static int parse_pasid_policy(struct parse *p, const struct cursor *at, void *obj)
{
	static const char *const words[] = {
		[POLICY_PASID_IDENTITY] = "identity",
		[POLICY_PASID_TRANSLATED] = "translated",
		[POLICY_PASID_NONE] = "none",
	};
	static const char expected[] = "\"identity\", \"translated\" or \"none\"";
	struct policy_tenant *tenant = obj;
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, expected, &text);

	if (r)
		return r;
	for (size_t i = 0; i < N_ELEMENTS(words); i++) {
		if (strcmp(text.s, words[i]))
			continue;
		tenant->pasid_policy = (enum policy_pasid_policy)i;
		tenant->pasid_origin = origin_new(p, at);
		return tenant->pasid_origin ? 0 : -ENOMEM;
	}
	return fail_value(p, at, "expected %s, found \"%.64s\"", expected, text.s);
}

/* ---- delegate ---- */

static int parse_delegate(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_tenant *tenant = obj;
	char c = first_byte(p, at);

	if (c != 't' && c != 'f')
		return fail_value(p, at, "expected true or false, found %s", found(p, at));
	tenant->delegate = c == 't';
	tenant->delegate_origin = origin_new(p, at);
	return tenant->delegate_origin ? 0 : -ENOMEM;
}

/* ---- tenants ---- */

/* Room for n items, one at least; NULL: no memory, and the vector is as it was. */
static void *vector_reserve(void *items, size_t *n_allocated, size_t n, size_t size)
{
	size_t room = *n_allocated ? 2 * *n_allocated : 1;

	if (items && n <= *n_allocated)
		return items;
	if (room < n)
		room = n;
	items = reallocarray(items, room, size);
	if (items)
		*n_allocated = room;
	return items;
}

static void tenant_init(struct policy_tenant *tenant, const char *path, struct policy_place place)
{
	*tenant = (struct policy_tenant){
		.path = path,
		.place = place,
		.formats.mask = UINT64_MAX,
		.kinds.mask = UINT64_MAX,
	};
}

static const struct schema_key tenant_keys[] = {
	{"limits", parse_limits},     {"reservations", parse_reservations},
	{"devices", parse_devices},   {"formats", parse_formats},
	{"kinds", parse_kinds},	      {"pasid_policy", parse_pasid_policy},
	{"delegate", parse_delegate},
};

/* Equal keys are two tenants of one path, which check.c finds among all files. */
static int parse_tenant(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy *policy = p->policy;
	const char *fault = policy_path_fault(at->key, strlen(at->key)), *path;
	struct policy_tenant tenant;
	int r;

	if (fault)
		return fail_key(p, at, "not a good tenant path: %s", fault);
	path = arena_strndup(&policy->arena, at->key, strlen(at->key));
	if (!path)
		return -ENOMEM;
	tenant_init(&tenant, path, cursor_place(p, at));
	r = parse_schema(p, at, tenant_keys, N_ELEMENTS(tenant_keys), &tenant);
	if (r)
		return r;
	policy->tenants[policy->n_tenants++] = tenant;
	return 0;
}

static int parse_tenants(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy *policy = p->policy;
	size_t n = policy->n_tenants + cursor_node(p, at)->n_children;
	struct policy_tenant *tenants;

	/* The host is not counted. */
	if (n > POLICY_TENANTS_MAX + 1)
		return fail_value(p, at, "more than %u tenants in all", POLICY_TENANTS_MAX);
	tenants =
		vector_reserve(policy->tenants, &policy->n_tenants_allocated, n, sizeof(*tenants));
	if (!tenants)
		return -ENOMEM;
	policy->tenants = tenants;
	return each_member(p, at, parse_tenant, NULL);
}

/* ---- the host ---- */

static int parse_host_device(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy *policy = p->policy;
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, EXPECTED_ADDRESS, &text);

	if (r)
		return r;
	if (policy_address_parse(text.s, text.length, policy->host_devices[policy->n_host_devices]))
		return fail_value(p, at, "expected " EXPECTED_ADDRESS ", found \"%.64s\"", text.s);
	policy->n_host_devices++;
	return 0;
}

static int parse_host_devices(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy *policy = p->policy;
	size_t n = cursor_node(p, at)->n_children;

	policy->host_devices =
		arena_alloc_array(&policy->arena, n <= POLICY_HOST_DEVICES_MAX ? n : 0,
				  sizeof(*policy->host_devices));
	if (!policy->host_devices)
		return -ENOMEM;
	policy->host_devices_place = cursor_place(p, at);
	return each_element(p, at, POLICY_HOST_DEVICES_MAX, parse_host_device, NULL);
}

static const struct schema_key host_keys[] = {
	{"limits", parse_limits},
	{"devices", parse_devices},
	{"formats", parse_formats},
	{"kinds", parse_kinds},
	{"pasid_policy", parse_pasid_policy},
	{"delegate", parse_delegate},
	{"allow_host_devices", parse_host_devices},
};

static int parse_host(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_tenant *host = &p->policy->tenants[0];

	if (host->place.line)
		return fail_key(p, at, "\"host\" is defined twice, first at %s:%u:%u",
				p->policy->files[host->place.file].name, host->place.line,
				host->place.column);
	host->place = cursor_place(p, at);
	return parse_schema(p, at, host_keys, N_ELEMENTS(host_keys), host);
}

/* ---- identities ---- */

struct identity {
	struct policy_identity_rule rule;
	bool has_tenant;
	bool has_subtree;
};

static int parse_identity_socket(struct parse *p, const struct cursor *at, void *obj)
{
	struct identity *identity = obj;
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, "the name of a listening socket", &text);
	const char *fault;

	if (r)
		return r;
	fault = policy_socket_fault(text.s, text.length);
	if (fault)
		return fail_value(p, at, "not a good name of a socket: %s", fault);
	identity->rule.socket = arena_strndup(&p->policy->arena, text.s, text.length);
	return identity->rule.socket ? 0 : -ENOMEM;
}

/* (uid_t)-1 and (gid_t)-1 mean "none" to the kernel and are nobody's. */
static int parse_id(struct parse *p, const struct cursor *at, const char *expected, bool *ret_has,
		    uint32_t *ret)
{
	uint64_t value;
	int r = parse_unsigned(p, at, expected, UINT32_MAX - 1, &value);

	if (r)
		return r;
	*ret_has = true;
	*ret = value;
	return 0;
}

static int parse_identity_uid(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_identity_rule *rule = &((struct identity *)obj)->rule;

	return parse_id(p, at, "a user id (a number)", &rule->has_uid, &rule->uid);
}

static int parse_identity_gid(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy_identity_rule *rule = &((struct identity *)obj)->rule;

	return parse_id(p, at, "a group id (a number)", &rule->has_gid, &rule->gid);
}

static int parse_identity_role(struct parse *p, const struct cursor *at, void *obj)
{
	static const char expected[] = "\"tenant\", \"agent\", \"observer\" or \"admin\"";
	struct identity *identity = obj;
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, expected, &text);

	if (r)
		return r;
	for (unsigned role = POLICY_ROLE_TENANT; role <= POLICY_ROLE_ADMIN; role++) {
		if (!strcmp(text.s, policy_role_name(role))) {
			identity->rule.role = role;
			return 0;
		}
	}
	return fail_value(p, at, "expected %s, found \"%.64s\"", expected, text.s);
}

static int parse_identity_path(struct parse *p, const struct cursor *at, bool empty_allowed,
			       struct policy_identity_rule *rule)
{
	__attribute__((cleanup(text_done))) struct text text = {0};
	int r = parse_string(p, at, "the path of a tenant", &text);
	const char *fault = NULL;

	if (r)
		return r;
	if (text.length || !empty_allowed)
		fault = policy_path_fault(text.s, text.length);
	if (fault)
		return fail_value(p, at, "not a good tenant path: %s", fault);
	rule->tenant_place = cursor_place(p, at);
	rule->tenant = arena_strndup(&p->policy->arena, text.s, text.length);
	return rule->tenant ? 0 : -ENOMEM;
}

static int parse_identity_tenant(struct parse *p, const struct cursor *at, void *obj)
{
	struct identity *identity = obj;

	identity->has_tenant = true;
	if (identity->has_subtree)
		return fail_key(p, at, "\"tenant\" and \"subtree\" exclude each other");
	return parse_identity_path(p, at, false, &identity->rule);
}

static int parse_identity_subtree(struct parse *p, const struct cursor *at, void *obj)
{
	struct identity *identity = obj;

	identity->has_subtree = true;
	if (identity->has_tenant)
		return fail_key(p, at, "\"tenant\" and \"subtree\" exclude each other");
	return parse_identity_path(p, at, true, &identity->rule);
}

static const struct schema_key identity_keys[] = {
	{"socket", parse_identity_socket, true},
	{"uid", parse_identity_uid},
	{"gid", parse_identity_gid},
	{"role", parse_identity_role, true},
	{"tenant", parse_identity_tenant},
	{"subtree", parse_identity_subtree},
};

static int parse_identity(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy *policy = p->policy;
	struct identity identity = {.rule.tenant = "", .rule.index = at->index};
	int r = parse_schema(p, at, identity_keys, N_ELEMENTS(identity_keys), &identity);

	if (r)
		return r;
	switch (identity.rule.role) {
	case POLICY_ROLE_TENANT:
		if (!identity.has_tenant)
			return fail_value(p, at, "role \"tenant\" needs the key \"tenant\"");
		break;
	case POLICY_ROLE_AGENT:
		if (!identity.has_subtree)
			return fail_value(p, at, "role \"agent\" needs the key \"subtree\"");
		break;
	case POLICY_ROLE_ADMIN:
		if (strcmp(identity.rule.socket, POLICY_ADMIN_SOCKET))
			return fail_value(p, at,
					  "role \"admin\" is for the socket \"" POLICY_ADMIN_SOCKET
					  "\" only");
		__attribute__((fallthrough));
	default:
		if (identity.has_tenant)
			return fail_value(p, at, "role \"%s\" takes \"subtree\", not \"tenant\"",
					  policy_role_name(identity.rule.role));
	}
	identity.rule.place = cursor_place(p, at);
	identity.rule.origin = origin_new(p, at);
	if (!identity.rule.origin)
		return -ENOMEM;
	policy->identities[policy->n_identities++] = identity.rule;
	return 0;
}

static int parse_identities(struct parse *p, const struct cursor *at, void *obj)
{
	struct policy *policy = p->policy;
	size_t n = policy->n_identities + cursor_node(p, at)->n_children;
	struct policy_identity_rule *identities;

	if (n > POLICY_IDENTITIES_MAX)
		return fail_value(p, at, "more than %u identities in all", POLICY_IDENTITIES_MAX);
	identities = vector_reserve(policy->identities, &policy->n_identities_allocated, n,
				    sizeof(*identities));
	if (!identities)
		return -ENOMEM;
	policy->identities = identities;
	return each_element(p, at, POLICY_IDENTITIES_MAX, parse_identity, NULL);
}

/* ---- the text ---- */

static const struct schema_key file_keys[] = {
	{"version", parse_version, true},
	{"host", parse_host},
	{"tenants", parse_tenants},
	{"identities", parse_identities},
};

static int text_scan(struct parse *p)
{
	struct json_scan_fault fault;
	int r;

	if (p->length > POLICY_FILE_SIZE_MAX)
		return fail_offset(p, 0, "", "the text is larger than %zu bytes",
				   POLICY_FILE_SIZE_MAX);
	r = json_scan_init(&p->scan, p->text, p->length, POLICY_JSON_DEPTH_MAX, POLICY_VALUES_MAX,
			   &fault);
	if (r != JSON_SCAN_E_INVALID)
		return r;
	return fail_offset(p, fault.offset, fault.path, "%s", fault.message);
}

static int file_add(struct policy *policy, const char *name)
{
	struct policy_file *files =
		reallocarray(policy->files, policy->n_files + 1, sizeof(*files));
	struct policy_file *file;
	const char *slash;

	if (!files)
		return -ENOMEM;
	policy->files = files;
	file = &files[policy->n_files];
	file->name = arena_strndup(&policy->arena, name, strlen(name));
	if (!file->name)
		return -ENOMEM;
	slash = strrchr(file->name, '/');
	file->base = slash ? slash + 1 : file->name;
	policy->n_files++;
	return 0;
}

int policy_parse_file(struct policy *policy, const char *name, const char *text, size_t length,
		      const struct policy_vocabulary *vocabulary, struct policy_problem *problem)
{
	static const struct policy_vocabulary no_words;
	__attribute__((cleanup(tokener_done))) struct json_tokener *tokener =
		json_tokener_new_ex(1);
	struct parse p = {
		.policy = policy,
		.vocabulary = vocabulary ? vocabulary : &no_words,
		.problem = problem,
		.text = text,
		.length = length,
		.tokener = tokener,
	};
	const struct cursor root = {0};
	int r;

	if (!tokener)
		return -ENOMEM;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS |
						JSON_TOKENER_VALIDATE_UTF8);
	r = file_add(policy, name);
	if (r)
		return r;
	p.file = policy->n_files - 1;
	r = text_scan(&p);
	if (!r)
		r = parse_schema(&p, &root, file_keys, N_ELEMENTS(file_keys), NULL);
	json_scan_deinit(&p.scan);
	return r;
}

static uint64_t words_known(const char *const *words, size_t n)
{
	uint64_t mask = 0;

	for (size_t i = 0; i < n && i < 64; i++)
		if (words[i])
			mask |= UINT64_C(1) << i;
	return mask;
}

int policy_new(const struct policy_vocabulary *vocabulary, struct policy **ret_policy)
{
	struct policy *policy = calloc(1, sizeof(*policy));
	struct policy_tenant *host;

	if (!policy)
		return -ENOMEM;
	policy->tenants = calloc(1, sizeof(*policy->tenants));
	if (!policy->tenants) {
		free(policy);
		return -ENOMEM;
	}
	host = &policy->tenants[0];
	tenant_init(host, "", (struct policy_place){0});
	policy->n_tenants = policy->n_tenants_allocated = 1;
	if (vocabulary) {
		host->formats.mask = words_known(vocabulary->formats, vocabulary->n_formats);
		host->kinds.mask = words_known(vocabulary->kinds, vocabulary->n_kinds);
	}
	*ret_policy = policy;
	return 0;
}
