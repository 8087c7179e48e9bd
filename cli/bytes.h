/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_BYTES_H
#define IOASID_CLI_BYTES_H

/*
 * Bytes that commands take and give: where they come from (--hex, --text, --from, --fill),
 * what they are compared with (--compare-...), how they are shown (--as, --to).  dma and
 * memory share these options.
 */

#include "args.h"

#include <json-c/json.h>

struct bytes {
	uint8_t *bytes;
	size_t n;
};
void bytes_deinit(struct bytes *bytes);
#define _cleanup_(function) __attribute__((cleanup(function)))

/* Most bytes that one command moves. */
#define BYTES_MAX (256ULL << 20)

/* Members of an array of struct cli_param. */
#define BYTES_SOURCE_OPTIONS                                                                       \
	{"hex", CLI_HEX, .help = "the bytes, in hexadecimal"},                                     \
		{"text", CLI_TEXT, .help = "the bytes, as text"},                                  \
		{"from", CLI_FILE, .help = "the bytes, from a file"},                              \
		{"fill", CLI_HEX, .help = "these bytes over and over, --length in all"},           \
	{                                                                                          \
		"length", CLI_SIZE, .help = "bytes to write with --fill", .min = 1,                \
				    .max = BYTES_MAX                                               \
	}
extern const char *const bytes_as_words[];
#define BYTES_ANSWER_OPTIONS                                                                       \
	{"as", CLI_WORD, .help = "show as dump, hex or text (dump)", .words = bytes_as_words,      \
	 .value = "dump|hex|text"},                                                                \
		{"to", CLI_FILE, .help = "write the bytes to a file instead of showing them"},     \
		{"compare-hex", CLI_HEX, .help = "fail unless the bytes are these"},               \
		{"compare-text", CLI_TEXT, .help = "fail unless the bytes are this text"},         \
		{"compare-file", CLI_FILE, .help = "fail unless the file begins with them"},       \
		{"compare-fill", CLI_HEX, .help = "fail unless they are these, over and over"},    \
	{                                                                                          \
		"compare-memory", CLI_TEXT, .value = "MEMORY[+OFFSET]",                            \
					    .help = "fail unless the CPU sees them there "         \
						    "(shell only)"                                 \
	}

/* The bytes that a command is to write.  Exit code. */
int bytes_source(struct cli *cli, const struct cli_args *args, struct bytes *ret_bytes);
/*
 * Adds the bytes to the document as --as and --to say, shows it, and compares.  Takes over
 * the document.  Exit code; a difference is exit 1, reason DIFFERENT.
 */
int bytes_answer(struct cli *cli, const struct cli_args *args, const uint8_t *bytes, size_t n,
		 struct json_object *document);
/* Is there anything to compare with? */
bool bytes_compares(const struct cli_args *args);

/* Fills to with the pattern, over and over; n_pattern > 0. */
void bytes_repeat(uint8_t *to, size_t n, const uint8_t *pattern, size_t n_pattern);

#endif
