/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_RENDER_H
#define IOASID_CLI_RENDER_H

/*
 * What the parts of the table format share; render_value() and render_size() are in
 * output.h.
 */

#include "output.h"

/* Control characters as \xNN; free(). */
char *render_escape(const char *text);
/* Is the column's value absent, zero, false or empty? */
bool render_is_blank(struct json_object *object, const struct cli_column *column);
/* Characters of UTF-8. */
size_t render_width(const char *text);
/* Text and blanks, to characters in all. */
void render_pad(FILE *out, const char *text, size_t to, bool right);

/* Elements of the sections' lists in an object. */
size_t tree_n_children(const struct cli_section *sections, struct json_object *object);
/* Draws them and what they contain; the first level has no branches. */
void tree_draw(FILE *out, const struct cli_section *sections, struct json_object *object);

/* Member "data" as member "as" says. */
void dump_draw(FILE *out, struct json_object *document);

#endif
