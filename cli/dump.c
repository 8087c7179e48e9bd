/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of memory for people: sixteen a line with their address and as characters.
 */
#include "render.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DUMP_WIDTH 16

static unsigned digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* Lines that repeat the one before are one "*". */
static void dump(FILE *out, const char *hex, uint64_t address)
{
	size_t n = strlen(hex) / 2;
	bool star = false;

	for (size_t i = 0; i < n; i += DUMP_WIDTH) {
		const char *line = hex + 2 * i;
		size_t here = n - i < DUMP_WIDTH ? n - i : DUMP_WIDTH;

		if (i && here == DUMP_WIDTH && i + DUMP_WIDTH < n &&
		    !memcmp(line, line - 2 * DUMP_WIDTH, 2 * DUMP_WIDTH)) {
			if (!star)
				fputs("*\n", out);
			star = true;
			continue;
		}
		star = false;
		fprintf(out, "%012" PRIx64 " ", address + i);
		for (size_t j = 0; j < DUMP_WIDTH; j++)
			fprintf(out, "%s%.*s", j % 8 ? " " : "  ", j < here ? 2 : 0, line + 2 * j);
		for (size_t j = here; j < DUMP_WIDTH; j++)
			fputs("  ", out);
		fputs("  |", out);
		for (size_t j = 0; j < here; j++) {
			unsigned c = digit(line[2 * j]) << 4 | digit(line[2 * j + 1]);

			fputc(c >= 0x20 && c < 0x7f ? (int)c : '.', out);
		}
		fputs("|\n", out);
	}
}

void dump_draw(FILE *out, struct json_object *document)
{
	const char *hex = doc_get_text(document, "data");
	const char *as = doc_get_text(document, "as");
	const char *iova = doc_get_text(document, "iova");

	if (!hex || !as)
		return;
	if (!strcmp(as, "dump"))
		dump(out, hex, iova ? strtoull(iova, NULL, 16) : doc_get_u64(document, "offset"));
	else
		fprintf(out, "%s\n", strcmp(as, "text") ? hex : doc_get_text(document, "text"));
}
