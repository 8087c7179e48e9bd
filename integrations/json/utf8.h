/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_INTEGRATIONS_UTF8_H
#define IOASID_INTEGRATIONS_UTF8_H

/* UTF-8 as RFC 3629 has it: the shortest form, no surrogates, nothing above U+10FFFF. */

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at text, 1 to 4; 0: none, or not in n bytes.  ret_char may be NULL. */
size_t utf8_length(const char *text, size_t n, uint32_t *ret_char);
/*
 * For terminals and logs, in its place: one line in which nothing moves a cursor or turns the
 * order of characters.  Every control character and every byte of no character becomes "?".
 */
void utf8_make_plain(char *text);

#endif
