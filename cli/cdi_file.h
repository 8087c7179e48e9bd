/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_CLI_CDI_FILE_H
#define IOASID_CLI_CDI_FILE_H

/*
 * The one file of a tenant in a folder of CDI files, and who writes it.  What engines see is
 * always a whole file: the next one is written beside it and renamed.  Whatever stands under the
 * file's name, a link of somebody's included, is replaced and never followed.
 *
 * One process writes it at a time: it has a lock on a file beside it, which is gone with the
 * process.  Engines look at names that end with .json, and at none of these.
 */

#include "cli.h"

#include <stdbool.h>

struct cdi_file {
	char *dir;
	char *path;
	char *beside;
	char *lock_path;
	int lock;
};
#define CDI_FILE_NONE ((struct cdi_file){.lock = -1})

/* name is that of cdi_file_name().  Paths only; touches nothing.  An exit code. */
int cdi_file_init(struct cli *cli, const char *dir, const char *name, struct cdi_file *ret_file);
/* Gives the lock up. */
void cdi_file_deinit(struct cdi_file *file);
/*
 * Makes the folder, and has the lock from then on; waits for one second if another process
 * has it.  An exit code.
 */
int cdi_file_lock(struct cli *cli, struct cdi_file *file);
/*
 * Both under the lock, which is taken again if the folder was removed meanwhile.  *ret_changed:
 * whether the file was not like that before.  An exit code; on failure the file is as it was.
 */
int cdi_file_write(struct cli *cli, struct cdi_file *file, struct json_object *spec,
		   bool *ret_changed);
int cdi_file_remove(struct cli *cli, struct cdi_file *file, bool *ret_changed);
/* The file as it is, made by this program; NULL: there is none. */
struct json_object *cdi_file_read(const char *path);

#endif
