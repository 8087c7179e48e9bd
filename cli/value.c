/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the text of one argument by its type.  A text that is not wholly understood is
 * refused with what was expected; numbers that overflow are refused, never cut.  Octal is
 * not a thing here: 010 is ten.
 */
#include "value.h"
#include "cli.h"

#include "lib/ioasid.h"
#include "policy/quota.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int value_number(const char *text, bool units, uint64_t *ret)
{
	unsigned base = 10, shift = 0;
	uint64_t n = 0;
	const char *p = text;

	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		base = 16;
		p += 2;
	}
	if (!isxdigit((unsigned char)*p))
		return -EINVAL;
	for (; isxdigit((unsigned char)*p); p++) {
		unsigned digit = *p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10;

		if (digit >= base)
			return -EINVAL;
		if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n))
			return -ERANGE;
	}
	if (units && *p) {
		static const char letters[] = "KMGT";
		const char *letter = strchr(letters, toupper((unsigned char)*p));

		if (!letter)
			return -EINVAL;
		shift = 10 * (letter - letters + 1);
		p++;
	}
	if (*p)
		return -EINVAL;
	if (shift && n >> (64 - shift))
		return -ERANGE;
	*ret = n << shift;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int value_hex(const char *text, uint8_t **ret_bytes, size_t *ret_n)
{
	_cleanup_free_ uint8_t *bytes = cli_alloc(strlen(text) / 2 + 1);
	size_t n = 0;

	for (const char *p = text; *p;) {
		int high, low;

		if (*p == ' ' || *p == ':') {
			p++;
			continue;
		}
		high = hex_digit(p[0]);
		low = high < 0 ? -1 : hex_digit(p[1]);
		if (low < 0)
			return -EINVAL;
		bytes[n++] = high << 4 | low;
		p += 2;
	}
	if (!n)
		return -EINVAL;
	*ret_bytes = bytes;
	bytes = NULL;
	*ret_n = n;
	return 0;
}

/* ---- enumerations ---- */

const char *value_word(const struct cli_param *param, size_t index)
{
	switch (param->type) {
	case CLI_FORMAT:
		return ioasid_format_name((enum ioasid_format)(index + 1));
	case CLI_KIND:
		return ioasid_kind_name((enum ioasid_kind)(index + 1));
	case CLI_SNOOP:
		return ioasid_snoop_name((enum ioasid_snoop)index);
	case CLI_GRANULARITY:
		return ioasid_granularity_name((enum ioasid_granularity)(index + 1));
	case CLI_EVENT:
		return ioasid_event_name((enum ioasid_event_type)(index + 1));
	case CLI_ACCESS:
		return ioasid_access_name((enum ioasid_access)(index + 1));
	case CLI_RESOURCE:
		return quota_resource_name((enum quota_resource)index);
	case CLI_WORD:
		return param->words[index];
	default:
		return NULL;
	}
}

/* Number of the enumeration's member that stands at an index of value_word(). */
static uint64_t word_number(const struct cli_param *param, size_t index)
{
	switch (param->type) {
	case CLI_SNOOP:
	case CLI_RESOURCE:
	case CLI_WORD:
		return index;
	default:
		return index + 1;
	}
}

static char *expected_words(const struct cli_param *param)
{
	char *out = cli_strdup("one of ");
	const char *word;

	for (size_t i = 0; (word = value_word(param, i)); i++) {
		char *longer = cli_printf("%s%s%s", out, i ? ", " : "", word);

		free(out);
		out = longer;
	}
	return out;
}

static int parse_word(const struct cli_param *param, const char *text, struct cli_value *v,
		      char **ret_expected)
{
	const char *word;

	for (size_t i = 0; (word = value_word(param, i)); i++)
		if (!strcmp(word, text)) {
			v->number = word_number(param, i);
			return 0;
		}
	*ret_expected = expected_words(param);
	return -EINVAL;
}

/* ---- numbers ---- */

static int parse_number(const struct cli_param *param, const char *text, struct cli_value *v,
			char **ret_expected)
{
	bool units = param->type == CLI_SIZE || param->type == CLI_ADDRESS;
	uint64_t min = param->type == CLI_ID && !param->min ? 1 : param->min;
	uint64_t max = param->max ?: UINT64_MAX;
	const char *what = param->type == CLI_ID ? "an id, 1 or more"
			   : param->type == CLI_SIZE
				   ? "a number of bytes such as 4096, 0x1000 or 4K"
			   : param->type == CLI_ADDRESS ? "an address such as 0x1000 or 1G"
							: "a number";
	int r = value_number(text, units, &v->number);

	if (!r && v->number >= min && v->number <= max)
		return 0;
	if (r == -ERANGE)
		*ret_expected = cli_strdup("a number below 2^64");
	else if (max != UINT64_MAX)
		*ret_expected = cli_printf("%s from %" PRIu64 " to %" PRIu64,
					   units ? what : "a number", min, max);
	else if (min > 1)
		*ret_expected = cli_printf("%s, at least %" PRIu64, what, min);
	else
		*ret_expected = cli_printf("%s%s%s", what, !r && units ? " that is not zero" : "",
					   param->flags & CLI_OR_ANY ? ", or the word any" : "");
	return -EINVAL;
}

static int parse_amount(const struct cli_param *param, const char *text, struct cli_value *v,
			char **ret_expected)
{
	const char *equals = strchr(text, '=');
	enum quota_resource resource;

	if (!equals || equals == text || !equals[1]) {
		*ret_expected =
			cli_strdup("RESOURCE=AMOUNT, such as ioasids=8 or pinned_bytes=64M");
		return -EINVAL;
	}
	v->resource = cli_strdup(text);
	v->resource[equals - text] = 0;
	if (quota_resource_from_name(v->resource, &resource) < 0) {
		const struct cli_param names = {.type = CLI_RESOURCE};
		_cleanup_free_ char *words = expected_words(&names);

		*ret_expected = cli_printf("a resource before the '=', %s", words);
		return -EINVAL;
	}
	if (param->flags & CLI_OR_MAX && !strcmp(equals + 1, "max")) {
		v->number = UINT64_MAX;
		return 0;
	}
	if (value_number(equals + 1, true, &v->number) < 0) {
		*ret_expected = cli_printf("a number after the '=', such as 8 or 64M%s",
					   param->flags & CLI_OR_MAX ? ", or max" : "");
		return -EINVAL;
	}
	return 0;
}

static int parse_prot(const char *text, struct cli_value *v, char **ret_expected)
{
	static const char letters[] = "rwx";
	uint64_t bits = 0;
	bool good = *text;

	for (const char *p = text; *p && good; p++) {
		const char *l = strchr(letters, *p);

		if (*p == '-')
			continue;
		good = l && !(bits & UINT64_C(1) << (l - letters));
		if (good)
			bits |= UINT64_C(1) << (l - letters);
	}
	if (good && bits) {
		v->number = bits;
		return 0;
	}
	*ret_expected = cli_strdup("some of the letters r, w and x, each once, such as rw");
	return -EINVAL;
}

/* ---- texts with a shape ---- */

/* Pattern: 'h' a hexadecimal digit, 'o' 0 to 7, anything else itself. */
static bool matches(const char *text, const char *pattern)
{
	for (; *pattern; pattern++, text++) {
		if (*pattern == 'h'   ? hex_digit(*text) < 0
		    : *pattern == 'o' ? *text < '0' || *text > '7'
				      : *text != *pattern)
			return false;
	}
	return !*text;
}

static bool is_plain_text(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

static int parse_shape(const struct cli_param *param, const char *text, char **ret_expected)
{
	bool good = *text;
	const char *what = "a text that is not empty";

	switch (param->type) {
	case CLI_DEVICE:
		good = matches(text, "hhhh:hh:hh.o");
		what = "the address of a device, such as 0000:3b:00.0";
		break;
	case CLI_PCI_ID:
		good = matches(text, "hhhh:hhhh");
		what = "VENDOR:DEVICE in hexadecimal, such as 8086:10fb";
		break;
	case CLI_PCI_CLASS:
		good = matches(text, "hhhhhh");
		what = "six hexadecimal digits, such as 020000";
		break;
	case CLI_ARGUMENT:
		good = true;
		break;
	case CLI_TEXT:
		good = is_plain_text(text) && (*text || !(param->flags & CLI_REQUIRED)) &&
		       (!param->max || strlen(text) <= param->max);
		if (param->max) {
			*ret_expected = cli_printf(
				"1 to %" PRIu64 " bytes without control characters", param->max);
			if (!good)
				return -EINVAL;
			free(*ret_expected);
			*ret_expected = NULL;
		}
		what = "a text without control characters";
		break;
	default:
		break;
	}
	if (good)
		return 0;
	*ret_expected = cli_strdup(what);
	return -EINVAL;
}

int value_parse(const struct cli_param *param, const char *text, struct cli_value *ret_value,
		char **ret_expected)
{
	struct cli_value v = {.param = param, .text = cli_strdup(text)};
	char *expected = NULL;
	int r = 0;

	if (param->flags & CLI_OR_ANY && !strcmp(text, "any")) {
		v.any = true;
		*ret_value = v;
		return 0;
	}
	switch (param->type) {
	case CLI_FLAG:
		break;
	case CLI_UINT:
	case CLI_ID:
	case CLI_SIZE:
	case CLI_ADDRESS:
		r = parse_number(param, text, &v, &expected);
		break;
	case CLI_HEX:
		r = value_hex(text, &v.bytes, &v.n_bytes);
		if (r < 0)
			expected = cli_strdup("pairs of hexadecimal digits, such as deadbeef");
		break;
	case CLI_AMOUNT:
		r = parse_amount(param, text, &v, &expected);
		break;
	case CLI_PROT:
		r = parse_prot(text, &v, &expected);
		break;
	case CLI_TEXT:
	case CLI_FILE:
	case CLI_ARGUMENT:
	case CLI_DEVICE:
	case CLI_PCI_ID:
	case CLI_PCI_CLASS:
		r = parse_shape(param, text, &expected);
		break;
	default:
		r = parse_word(param, text, &v, &expected);
		break;
	}
	if (r < 0) {
		value_deinit(&v);
		*ret_expected = expected;
		return -EINVAL;
	}
	*ret_value = v;
	return 0;
}

void value_deinit(struct cli_value *value)
{
	free(value->text);
	free(value->resource);
	free(value->bytes);
	*value = (struct cli_value){};
}

const char *value_metavar(const struct cli_param *param, char *buffer, size_t size)
{
	static const char *const names[] = {
		[CLI_TEXT] = "TEXT",
		[CLI_UINT] = "N",
		[CLI_ID] = "ID",
		[CLI_SIZE] = "BYTES",
		[CLI_ADDRESS] = "ADDR",
		[CLI_HEX] = "HEX",
		[CLI_FILE] = "PATH",
		[CLI_ARGUMENT] = "ARG",
		[CLI_DEVICE] = "DEVICE",
		[CLI_PCI_ID] = "V:D",
		[CLI_PCI_CLASS] = "CLASS",
		[CLI_FORMAT] = "FORMAT",
		[CLI_KIND] = "KIND",
		[CLI_SNOOP] = "MODE",
		[CLI_GRANULARITY] = "WHAT",
		[CLI_EVENT] = "TYPE",
		[CLI_ACCESS] = "ACCESS",
		[CLI_PROT] = "rwx",
		[CLI_RESOURCE] = "RESOURCE",
		[CLI_AMOUNT] = "RESOURCE=N",
		[CLI_WORD] = "WORD",
	};
	const char *name = param->value ?: names[param->type];

	snprintf(buffer, size, "%s%s", name ?: "", param->flags & CLI_REPEATED ? ",..." : "");
	return buffer;
}
