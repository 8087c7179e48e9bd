/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan against json-c: whatever the scan accepts, strict json-c accepts too, and both
 * see the same shape, the same keys and the same lengths of strings.
 */
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_check.h"
#include "policy/json_scan.h"

#define DEPTH 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_place(const char *text, size_t size, const struct json_node *node)
{
	size_t offset = node->key_offset == JSON_SCAN_NO_KEY ? node->offset : node->key_offset;
	unsigned line, column;

	CHECK(node->offset < node->end && node->end <= size);
	json_scan_position(text, offset, &line, &column);
	CHECK(line == node->line && column == node->column);
}

static void check_number(struct json_object *value, const char *text, const struct json_node *node)
{
	size_t n = node->end - node->offset;
	bool whole = true;

	for (size_t i = 0; i < n; i++)
		whole = whole && !strchr(".eE", text[node->offset + i]);
	CHECK(json_object_is_type(value, whole ? json_type_int : json_type_double));
}

static void check_value(const struct json_scan *scan, const char *text, size_t size, uint32_t index,
			struct json_object *value)
{
	const struct json_node *node = &scan->nodes[index];
	uint32_t child = index + 1;
	size_t raw, decoded;

	check_place(text, size, node);
	CHECK(node->next > index && node->next <= scan->n_nodes);
	switch (text[node->offset]) {
	case '{':
		CHECK(json_object_is_type(value, json_type_object));
		CHECK((uint32_t)json_object_object_length(value) <= node->n_children);
		for (uint32_t i = 0; i < node->n_children; i++) {
			__attribute__((unused)) struct json_object *last;
			struct json_object *key;
			uint32_t offset = scan->nodes[child].key_offset;
			struct json_tokener *tokener = json_tokener_new();

			CHECK(tokener);
			json_scan_string(text, offset, &raw, &decoded);
			key = json_tokener_parse_ex(tokener, text + offset, (int)raw);
			CHECK(json_object_is_type(key, json_type_string));
			CHECK((size_t)json_object_get_string_len(key) == decoded);
			CHECK(strlen(json_object_get_string(key)) == decoded);
			CHECK(json_object_object_get_ex(value, json_object_get_string(key), &last));
			/* Of equal keys json-c has the last. */
			if ((uint32_t)json_object_object_length(value) == node->n_children)
				check_value(scan, text, size, child, last);
			json_object_put(key);
			json_tokener_free(tokener);
			child = scan->nodes[child].next;
		}
		break;
	case '[':
		CHECK(json_object_is_type(value, json_type_array));
		CHECK(json_object_array_length(value) == node->n_children);
		for (uint32_t i = 0; i < node->n_children; i++) {
			CHECK(scan->nodes[child].key_offset == JSON_SCAN_NO_KEY);
			check_value(scan, text, size, child, json_object_array_get_idx(value, i));
			child = scan->nodes[child].next;
		}
		break;
	case '"':
		CHECK(json_object_is_type(value, json_type_string));
		json_scan_string(text, node->offset, &raw, &decoded);
		CHECK(raw == node->end - node->offset);
		CHECK((size_t)json_object_get_string_len(value) == decoded);
		CHECK(strlen(json_object_get_string(value)) == decoded);
		break;
	case 't':
	case 'f':
		CHECK(json_object_is_type(value, json_type_boolean));
		CHECK(json_object_get_boolean(value) == (text[node->offset] == 't'));
		break;
	case 'n':
		CHECK(!value);
		break;
	default:
		check_number(value, text, node);
	}
	CHECK(child == node->next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A NUL after it, by which json-c knows that a number at the end has ended. */
	char *text = malloc(size + 1);
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH + 1);
	struct json_scan_fault fault;
	struct json_object *value;
	struct json_scan scan;
	char *exact;

	CHECK(text && tokener);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	/* Scanned in a buffer of its exact size, so that a sanitizer sees a read beyond it. */
	exact = malloc(size ? size : 1);
	CHECK(exact);
	memcpy(exact, text, size);
	if (json_scan_init(&scan, exact, size, DEPTH, 100000, &fault)) {
		CHECK(fault.offset <= size);
		CHECK(*fault.message);
	} else {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
		value = json_tokener_parse_ex(tokener, text, (int)size + 1);
		CHECK(json_tokener_get_error(tokener) == json_tokener_success);
		check_value(&scan, exact, size, 0, value);
		CHECK(scan.nodes[0].next == scan.n_nodes);
		json_object_put(value);
		json_scan_deinit(&scan);
	}
	json_tokener_free(tokener);
	free(exact);
	free(text);
	return 0;
}
