/* SPDX-License-Identifier: Apache-2.0 */
/* See utf8.h. */
#include "integrations/json/utf8.h"

#include <stdbool.h>
#include <string.h>

size_t utf8_length(const char *text, size_t n, uint32_t *ret_char)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *bytes = (const unsigned char *)text;
	size_t length;
	uint32_t c;

	if (!n)
		return 0;
	length = bytes[0] < 0x80   ? 1
		 : bytes[0] < 0xc2 ? 0
		 : bytes[0] < 0xe0 ? 2
		 : bytes[0] < 0xf0 ? 3
		 : bytes[0] < 0xf5 ? 4
				   : 0;
	if (!length || length > n)
		return 0;
	c = length == 1 ? bytes[0] : bytes[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (bytes[i] & 0x3fu);
	}
	if (length > 1 && (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)))
		return 0;
	if (ret_char)
		*ret_char = c;
	return length;
}

static bool is_plain(uint32_t c)
{
	return c >= ' ' && (c < 0x7f || c > 0x9f) &&
	       /* Line and paragraph separators; marks, embeddings and isolates of direction. */
	       c != 0x2028 && c != 0x2029 && c != 0x061c && c != 0x200e && c != 0x200f &&
	       !(c >= 0x202a && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069);
}

void utf8_make_plain(char *text)
{
	size_t left = strlen(text), from = 0, to = 0;

	while (left) {
		uint32_t c = 0;
		size_t n = utf8_length(text + from, left, &c);

		if (n && is_plain(c)) {
			memmove(text + to, text + from, n);
			to += n;
		} else {
			text[to++] = '?';
		}
		from += n ?: 1;
		left -= n ?: 1;
	}
	text[to] = '\0';
}
