/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_KEEPER_CONFIG_SPACE_H
#define IOASID_KEEPER_CONFIG_SPACE_H

/*
 * Extended capabilities in the bytes of a function's config space.  Pure.  The bytes are the
 * device's: a list of capabilities may loop, point anywhere and lie; a walk is bounded and
 * reads nothing outside.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_SPACE_MAX 4096

struct config_capabilities {
	uint8_t pasid_bits; /* 0: no PASID capability; at most 20 */
	bool pasid_exec;
	bool ats;
	bool pri;
};

/* Fewer than CONFIG_SPACE_MAX bytes where the device, or who reads, has no more. */
void config_space_examine(const uint8_t *bytes, size_t size,
			  struct config_capabilities *ret_capabilities);

#endif
