/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_VALUE_H
#define IOASID_CLI_VALUE_H

/*
 * Reading the text of one argument by its type.  Pure: no output, no connection.
 */

#include "command.h"

/* "1536K", "0x1000", "2M"; -EINVAL: not a number; -ERANGE: does not fit 64 bits. */
int value_number(const char *text, bool units, uint64_t *ret);
/* "deadbeef" or "de ad be ef"; free(); -EINVAL. */
int value_hex(const char *text, uint8_t **ret_bytes, size_t *ret_n);

/*
 * Reads text as param says.  -EINVAL: *ret_expected (free()) says what was expected.
 * ret_value owns copies; value_deinit().
 */
int value_parse(const struct cli_param *param, const char *text, struct cli_value *ret_value,
		char **ret_expected);
void value_deinit(struct cli_value *value);

/* Words of an enumerated type (formats, kinds, ...): NULL past the end. */
const char *value_word(const struct cli_param *param, size_t index);
/* "BYTES", "FORMAT"; what stands for the value in help. */
const char *value_metavar(const struct cli_param *param, char *buffer, size_t size);

#endif
