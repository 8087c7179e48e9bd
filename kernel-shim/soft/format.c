/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The list of formats that can be walked and built, and the shapes that their tables can have.
 * Order is the order of preference in a device's capabilities.
 */

#include "soft/format.h"

#include <stdio.h>
#include <string.h>

static const struct soft_format *const formats[] = {
	&soft_format_x86_64_4l,	   &soft_format_x86_64_5l,   &soft_format_vtdss_4l,
	&soft_format_vtdss_5l,	   &soft_format_vtdss_3l,    &soft_format_ept_4l,
	&soft_format_ept_5l,	   &soft_format_armv8_s1_4k, &soft_format_armv8_s1_16k,
	&soft_format_armv8_s1_64k, &soft_format_armv8_s2_4k, &soft_format_armv8_s2_16k,
	&soft_format_armv8_s2_64k, &soft_format_amdv1_4,     &soft_format_amdv1_5,
	&soft_format_amdv1_6,	   &soft_format_amdv1_3,     &soft_format_amdv1_2,
	&soft_format_amdv1_1,	   &soft_format_sv48,	     &soft_format_sv57,
	&soft_format_sv39,	   &soft_format_sv48x4,	     &soft_format_sv57x4,
	&soft_format_sv39x4,
};

const struct soft_format *soft_format_at(size_t index)
{
	return index < sizeof(formats) / sizeof(formats[0]) ? formats[index] : NULL;
}

const struct soft_format *soft_format_find(enum shim_format id)
{
	const struct soft_format *format;

	for (size_t i = 0; (format = soft_format_at(i)); i++)
		if (format->id == id)
			return format;
	return NULL;
}

static bool is_word(const char *word, const char *text, size_t length)
{
	return strlen(word) == length && !memcmp(word, text, length);
}

const struct soft_format *soft_format_by_name(const char *name, size_t length)
{
	const struct soft_format *format;

	for (size_t i = 0; (format = soft_format_at(i)); i++)
		if (is_word(format->name, name, length) ||
		    (format->alias && is_word(format->alias, name, length)))
			return format;
	return NULL;
}

#define REFUSE(reason, ...)                                                                        \
	({                                                                                         \
		if (reason)                                                                        \
			snprintf(reason, SHIM_REASON_MAX, __VA_ARGS__);                            \
		SHIM_E_INCOMPATIBLE;                                                               \
	})

/* Roots that only an extension of ARM's allows in stage 2 (pseudocode S2InvalidSL). */
static const char *needs_extension(const struct soft_format *format, unsigned int levels, bool lpa2)
{
	if (format->granule == 14 && levels == 4 && !lpa2)
		return "FEAT_LPA2";
	/* Small translation tables, which no unit here has. */
	if (format->granule == 12 && levels == 1)
		return "FEAT_TTST";
	return NULL;
}

/*
 * The levels of a table whose input width chooses them (Arm ARM D8.2): each level but the root's
 * takes a whole stride of the input, the root what is left.  Stage 2 may leave up to
 * `concatenated` bits more to a root that stands lower (pseudocode S2InconsistentSL; the same in
 * QEMU's check_s2_mmu_setup() and TF-RMM's s2_inconsistent_sl()).
 */
static int resize(const struct soft_format *format, const struct soft_shape_spec *spec,
		  char *ret_reason, struct soft_shape *shape)
{
	unsigned int stride = soft_format_stride(format), above = shape->input_bits;
	unsigned int most = stride + format->concatenated, levels, rest;
	const char *extension;

	above -= format->granule;
	levels = (above + stride - 1) / stride;
	if (spec->levels && !format->concatenated)
		return REFUSE(ret_reason, "only a stage-2 table has a start level");
	if (spec->levels)
		levels = spec->levels;
	else if (format->concatenated && needs_extension(format, levels, spec->lpa2))
		levels--; /* 16K: two concatenated tables do for the one bit of level 0 */
	extension = format->concatenated ? needs_extension(format, levels, spec->lpa2) : NULL;
	if (extension)
		return REFUSE(ret_reason, "format %s: a table of %u levels needs %s", format->name,
			      levels, extension);
	rest = stride * (levels - 1);
	if (above <= rest || above - rest > most)
		return REFUSE(ret_reason,
			      "format %s: %u levels do not fit an input of %u bits, but one of %u "
			      "to %u",
			      format->name, levels, shape->input_bits, format->granule + rest + 1,
			      format->granule + rest + most);
	shape->levels = (uint8_t)levels;
	shape->root_bits = (uint8_t)(above - rest);
	return 0;
}

int soft_shape_init(const struct soft_format *format, const struct soft_shape_spec *spec,
		    char *ret_reason, struct soft_shape *ret)
{
	bool resizes = format->input_bits_max;
	bool wide = spec->lpa2 || format->granule == 16;
	unsigned int low = resizes ? format->input_bits_min : format->granule + 1u;
	unsigned int high = resizes && wide ? format->input_bits_max : format->input_bits;
	struct soft_shape shape = {
		.levels = format->levels,
		.input_bits = spec->input_bits ? spec->input_bits : format->input_bits,
		.root_bits = (uint8_t)(soft_format_stride(format) + format->root_extra),
		.upper = spec->upper,
		.top_byte_ignored = spec->top_byte_ignored,
	};
	unsigned int used;
	int r;

	if (shape.input_bits < low || shape.input_bits > high)
		return REFUSE(ret_reason, "format %s takes addresses of %u to %u bits, not %u",
			      format->name, low, high, shape.input_bits);
	if (spec->lpa2 && (!resizes || format->granule == 16))
		return REFUSE(ret_reason, "format %s has no FEAT_LPA2 descriptors", format->name);
	if ((spec->upper || spec->top_byte_ignored) && format->input != SOFT_INPUT_HALVES)
		return REFUSE(ret_reason, "format %s has neither halves nor a top byte to ignore",
			      format->name);
	if (resizes) {
		r = resize(format, spec, ret_reason, &shape);
		if (r)
			return r;
	} else if (spec->levels && spec->levels != format->levels) {
		return REFUSE(ret_reason, "format %s has %u levels", format->name, format->levels);
	}
	/* AMD v1 with 6 levels: only 7 bits are left for the root. */
	used = soft_format_shift(format, shape.levels);
	if (used + shape.root_bits > 64)
		shape.root_bits = (uint8_t)(64 - used);
	*ret = shape;
	return 0;
}
