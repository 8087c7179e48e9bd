/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_REGISTRY_INTERNAL_H
#define IOASID_REGISTRY_INTERNAL_H

/* What tests set and users do not. */

#include "log_file.h"
#include "registry.h"

struct registry_options {
	size_t slack;		  /* 0: REGISTRY_SLACK */
	size_t step;		  /* of growth; 0: LOG_FILE_STEP */
	log_allocate_fn allocate; /* NULL: fallocate() */
	void *data;
};

#define REGISTRY_SLACK ((size_t)1 << 20)

int registry_open_with(const char *folder, const struct registry_options *options,
		       struct registry **ret_registry, struct registry_image **ret_image,
		       struct registry_problem *ret_problem);

#endif
