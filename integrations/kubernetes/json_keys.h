/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_JSON_KEYS_H
#define KUBERNETES_JSON_KEYS_H

/*
 * json-c keeps the last of two equal keys without a word; a namespace that is there twice is
 * a mistake that must not be settled by order.
 */

#include <stdbool.h>
#include <stddef.h>

/*
 * True: an object of the text, which has to be valid JSON, has a key twice, or one with an
 * escape in it, which could hide a second; *ret_key is it, not terminated.
 */
bool json_keys_repeat(const char *text, size_t length, const char **ret_key, size_t *ret_length);

#endif
