/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_POLICY_JSON_SCAN_H
#define IOASID_POLICY_JSON_SCAN_H

/*
 * The shape of a JSON text: where every key and value is.  json-c decides what the values
 * are; it does not tell where it found them, keeps the last of two equal keys without a
 * word and is lenient in places.  The scan accepts RFC 8259 and no more, and less in two
 * points: no U+0000 in a string, since json-c's keys are C strings; and no \u escapes of
 * surrogates, not even in pairs, since json-c 0.16 takes every pair whose character has
 * 0xd800 to 0xdfff in its low 16 bits for half a pair.  Such characters may be written as
 * they are.
 *
 * Pure, no state, any thread.
 */

#include <stddef.h>
#include <stdint.h>

#define JSON_SCAN_DEPTH_MAX 32
#define JSON_SCAN_NO_KEY    UINT32_MAX

enum json_scan_error {
	/* Not acceptable JSON; the fault says where and why. */
	JSON_SCAN_E_INVALID = 1,
};

/*
 * One value.  Nodes are in the order of the text: the children of node i begin at i + 1,
 * and after child c comes child nodes[c].next, n_children times.
 */
struct json_node {
	uint32_t offset;     /* of the value's first byte, which also tells its type */
	uint32_t end;	     /* of the byte after the value */
	uint32_t key_offset; /* of the key's opening quote; NO_KEY: an element or the root */
	uint32_t next;	     /* index of the first node after this value */
	uint32_t n_children; /* elements or members, equal keys counted each */
	uint32_t line;	     /* 1-based, of the key if there is one, else of the value */
	uint32_t column;     /* 1-based, in bytes */
};

struct json_scan {
	struct json_node *nodes;
	size_t n_nodes;
};

struct json_scan_fault {
	size_t offset;
	/* Keys and indices that lead to the place: "tenants.acme.devices[2]". */
	char path[256];
	char message[160];
};

/*
 * depth_max <= JSON_SCAN_DEPTH_MAX: levels of objects and arrays.  Negative: -ENOMEM.
 * json_scan_deinit() after success.
 */
int json_scan_init(struct json_scan *scan, const char *text, size_t length, unsigned depth_max,
		   size_t nodes_max, struct json_scan_fault *ret_fault);
void json_scan_deinit(struct json_scan *scan);

/* 1-based line and column (in bytes) of an offset. */
void json_scan_position(const char *text, size_t offset, unsigned *ret_line, unsigned *ret_column);
/*
 * Of a string that was scanned, offset at its opening quote: the bytes up to and with the
 * closing quote, and how many bytes it has when its escapes are resolved.
 */
void json_scan_string(const char *text, size_t offset, size_t *ret_raw, size_t *ret_decoded);

#endif
