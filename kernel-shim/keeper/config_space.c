/* SPDX-License-Identifier: Apache-2.0 */
/* See config_space.h; numbers are those of the PCI Express base specification. */
#include "config_space.h"

#include <string.h>

enum {
	EXTENDED_START = 0x100,
	/* The smallest capability has 8 bytes: no honest list is longer. */
	CAPABILITIES_MAX = (CONFIG_SPACE_MAX - EXTENDED_START) / 8,
	CAP_ATS = 0x0f,
	CAP_PRI = 0x13,
	CAP_PASID = 0x1b,
	PASID_REGISTER = 4,
	PASID_EXEC = 1 << 1,
	PASID_WIDTH_SHIFT = 8,
	PASID_WIDTH_MASK = 0x1f,
	PASID_WIDTH_MAX = 20,
};

static uint16_t read16(const uint8_t *bytes)
{
	return bytes[0] | bytes[1] << 8;
}

static uint32_t read32(const uint8_t *bytes)
{
	return read16(bytes) | (uint32_t)read16(bytes + 2) << 16;
}

static void note_pasid(const uint8_t *bytes, size_t size, size_t at,
		       struct config_capabilities *capabilities)
{
	uint16_t pasid;

	if (at + PASID_REGISTER + 2 > size)
		return;
	pasid = read16(bytes + at + PASID_REGISTER);
	capabilities->pasid_bits = pasid >> PASID_WIDTH_SHIFT & PASID_WIDTH_MASK;
	if (capabilities->pasid_bits > PASID_WIDTH_MAX)
		capabilities->pasid_bits = PASID_WIDTH_MAX;
	capabilities->pasid_exec = capabilities->pasid_bits && pasid & PASID_EXEC;
}

void config_space_examine(const uint8_t *bytes, size_t size,
			  struct config_capabilities *ret_capabilities)
{
	struct config_capabilities capabilities = {0};
	size_t at = EXTENDED_START;

	for (unsigned i = 0; i < CAPABILITIES_MAX && at >= EXTENDED_START && at + 4 <= size; i++) {
		uint32_t header = read32(bytes + at);

		/* No extended capability at all, or a device that does not answer. */
		if (header == 0 || header == UINT32_MAX)
			break;
		switch (header & 0xffff) {
		case CAP_ATS:
			capabilities.ats = true;
			break;
		case CAP_PRI:
			capabilities.pri = true;
			break;
		case CAP_PASID:
			note_pasid(bytes, size, at, &capabilities);
			break;
		default:
			break;
		}
		at = header >> 20 & ~3u;
	}
	*ret_capabilities = capabilities;
}
