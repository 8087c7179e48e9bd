/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_SCAN_H
#define IOASID_REGISTRY_SCAN_H

/* Finding the frames of a log, whatever has become of its bytes.  Threads: any, each its own. */

#include "log_format.h"

#include <stdbool.h>

enum scan_result {
	SCAN_END,
	SCAN_FRAME,
	/* The frame is one, its body is not what was written: the lease is known. */
	SCAN_DAMAGED,
	/* Here is no frame, and it cannot be told what was: whose changes are missing is unknown.
	 */
	SCAN_LOST,
	/* The last frame was cut off before anything of its body was there. */
	SCAN_TORN,
};

struct scan {
	const uint8_t *bytes;
	size_t size;
	uint64_t salt;
	size_t next;	 /* where the next frame begins */
	size_t data_end; /* only zeros from here; 0: not looked for yet */
	/* Of the last result. */
	size_t offset;
	uint64_t lease;
	const uint8_t *body;
	size_t body_size;
	size_t budget;	  /* bytes of bodies that searching may still look at */
	bool ended_early; /* SCAN_LOST: where the log seemed to end, more followed */
};

/* REGISTRY_E_NEWER, REGISTRY_E_DAMAGED.  bytes are at a multiple of 8. */
int scan_begin(struct scan *scan, const uint8_t *bytes, size_t size,
	       struct registry_problem *ret_problem);
enum scan_result scan_next(struct scan *scan);

#endif
