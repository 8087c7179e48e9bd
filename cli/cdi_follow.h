/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_CDI_FOLLOW_H
#define IOASID_CLI_CDI_FOLLOW_H

/*
 * The file of one tenant from what the broker and the host say: once, or for as long as the
 * process lives.
 */

#include "cdi.h"
#include "cli.h"

#include <stdint.h>

struct cdi_request {
	struct cdi_maker maker; /* tenant: NULL if the caller is one */
	const char *dir;
	/* Only these devices; none: all. */
	char *const *wanted;
	size_t n_wanted;
	const char *sysfs, *dev;
	/* At least so often everything is looked at. */
	uint64_t interval_ms;
};

/* Both return an exit code. */
int cdi_generate_once(struct cli *cli, const struct cdi_request *request);
/* Until SIGTERM or SIGINT, which is success. */
int cdi_generate_follow(struct cli *cli, const struct cdi_request *request);

#endif
