/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LIBIOASID_LEASE_FILE_H
#define LIBIOASID_LEASE_FILE_H

/*
 * The lease file: what a program is given to find the lease that was opened for it.  One JSON
 * object, each key once, in any order:
 *
 *	{"version": 1, "tenant": "acme/web", "lease": "exec-7", "secret": "<64 hex digits>",
 *	 "devices": ["0000:01:00.0"]}
 *
 * This is text in, struct out: no file, no environment, no allocation.
 */

#include "ioasid.h"

#define LEASE_FILE_MAX		16384
#define LEASE_FILE_DEVICES_MAX	256
#define LEASE_FILE_TENANT_SIZE	256
#define LEASE_FILE_DEVICE_SIZE	13 /* "0000:01:00.0" */
#define LEASE_FILE_PROBLEM_SIZE 160

struct lease_file {
	char tenant[LEASE_FILE_TENANT_SIZE];
	char lease[IOASID_LEASE_NAME_SIZE];
	uint8_t secret[IOASID_LEASE_SECRET_SIZE];
	size_t n_devices;
	char devices[LEASE_FILE_DEVICES_MAX][LEASE_FILE_DEVICE_SIZE];
};

/* -EINVAL: problem says which key and why; it never quotes the secret. */
int lease_file_parse(const char *text, size_t length, char problem[LEASE_FILE_PROBLEM_SIZE],
		     struct lease_file *ret_file);
/* "0000:01:00.0" with lower-case or upper-case digits, and nothing behind it. */
bool lease_file_is_device(const char *text);

#endif
