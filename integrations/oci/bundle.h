/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_OCI_BUNDLE_H
#define IOASID_OCI_BUNDLE_H

/*
 * config.json of the bundle, which the runtime's caller wrote: where the root file system is,
 * and what the other calls of this hook for the same container ask for.
 */

struct ask;
struct json_object;

struct bundle {
	struct json_object *document;
	char *rootfs; /* absolute; free() */
};

int bundle_read(const char *path, struct bundle *ret_bundle);
/* The same from a config.json that is open, and is called what; path is the bundle's. */
int bundle_read_fd(int fd, const char *what, const char *path, struct bundle *ret_bundle);
void bundle_deinit(struct bundle *bundle);
/*
 * A container with several CDI names has one call of this hook for each.  The first of them
 * asks for all that the others will, because the devices of a group are claimed together; the
 * environment would tell that, too, but an image may have written it.
 */
int bundle_add_hooks(const struct bundle *bundle, const char *stage, struct ask *ask);

#endif
