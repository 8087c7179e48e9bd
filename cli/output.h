/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_OUTPUT_H
#define IOASID_CLI_OUTPUT_H

/*
 * Output: one document, several renderings.  A format is a vtable of three functions;
 * errors go through it as well.  A view describes how a document looks to a person, as
 * data: which members are lines of a form, which lists are tables, what a tree's nodes say.
 */

#include "doc.h"

#include <stdio.h>

enum cli_render {
	RENDER_PLAIN, /* text and numbers as they are; arrays joined by commas */
	RENDER_SIZE,  /* bytes, "64K" where that is exact */
	RENDER_SIZES, /* array of sizes */
	RENDER_BOOL,  /* yes, no */
	RENDER_LIMIT, /* null is "max" */
	RENDER_BYTES, /* limit or amount of the resource in member "resource" */
	RENDER_PROT,  /* members read, write, execute of this object: "rw-" */
	RENDER_USE,   /* of a resource's object: "used/limit" */
	RENDER_TIME,  /* microseconds since 1970 */
	RENDER_COUNT, /* length of an array */
};

/* One member; an array of them ends with key NULL. */
struct cli_column {
	const char *key; /* dotted path */
	const char *title;
	enum cli_render render;
	bool optional; /* left out of a form or tree node where absent, zero, false or empty */
};

/* A list inside a document; an array of them ends with key NULL. */
struct cli_section {
	const char *key; /* dotted path of the list */
	const char *title;
	const struct cli_column *columns;
	const struct cli_section *children; /* trees: lists inside each element */
	const char *empty;		    /* said when the list is empty; NULL: nothing */
};

struct cli_view {
	const struct cli_column *form;	    /* "title: value" lines, or NULL */
	const struct cli_section *sections; /* tables after the form, or NULL */
	bool tree;			    /* sections are one tree, before the form */
	/* What -o id prints: a member, or a member of each element of the first section. */
	const char *id;
	/* Member "data" is shown after everything else, as member "as" says. */
	bool data;
};

struct cli_format {
	const char *name;
	const char *help;
	void (*document)(FILE *out, const struct cli_view *view, struct json_object *document,
			 bool compact);
	void (*event)(FILE *out, const struct cli_view *view, struct json_object *document);
	void (*error)(FILE *err, struct json_object *document);
};

extern const struct cli_format format_table, format_json, format_id;
extern const struct cli_format *const cli_formats[]; /* ends with NULL */
/* NULL: no such format. */
const struct cli_format *cli_format_find(const char *name);

/* One value as text; free(). */
char *render_value(struct json_object *object, const struct cli_column *column);
/* "65536" -> "64K"; buffer of 24 bytes or more. */
const char *render_size(uint64_t value, char *buffer, size_t size);
/* Text of the id of a document (-o id, shell variables); free(); NULL: it has none. */
char *render_id(const struct cli_view *view, struct json_object *document);

#endif
