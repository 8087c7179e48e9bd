/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_POLICY_UTF8_H
#define IOASID_POLICY_UTF8_H

/*
 * One character of UTF-8 by RFC 3629, section 4: no overlong form, no surrogate, nothing
 * beyond U+10FFFF.  Pure.
 */

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at p (1 to 4), 0 if the n >= 1 bytes do not begin with one. */
static inline size_t utf8_length(const char *p, size_t n)
{
	const uint8_t *b = (const uint8_t *)p;
	uint8_t low = 0x80, high = 0xbf;
	size_t length;

	if (b[0] < 0x80)
		return 1;
	if (b[0] >= 0xc2 && b[0] <= 0xdf)
		length = 2;
	else if (b[0] >= 0xe0 && b[0] <= 0xef)
		length = 3;
	else if (b[0] >= 0xf0 && b[0] <= 0xf4)
		length = 4;
	else
		return 0;
	if (n < length)
		return 0;
	/* The second byte alone tells overlong forms, surrogates and what is too large. */
	if (b[0] == 0xe0)
		low = 0xa0;
	else if (b[0] == 0xed)
		high = 0x9f;
	else if (b[0] == 0xf0)
		low = 0x90;
	else if (b[0] == 0xf4)
		high = 0x8f;
	if (b[1] < low || b[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if (b[i] < 0x80 || b[i] > 0xbf)
			return 0;
	return length;
}

#endif
