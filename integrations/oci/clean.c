/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders that nobody will ask for again: their init has ended, and the broker has no such
 * lease any more.  Whoever works on a folder has it locked, and a locked one is let be.
 */
#include "integrations/oci/stages.h"

#include "integrations/oci/fail.h"
#include "integrations/oci/init.h"
#include "integrations/oci/lease.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

static bool is_left_over(struct ioasid_client *client, const struct folder *folder)
{
	struct record record = {};
	bool exists = true;
	int r = folder_read(folder, &record);

	if (r == -ENOENT)
		return true;
	if (r < 0)
		return false;
	if (!init_lives(record.pid, record.started) &&
	    lease_exists(client, record.ask.tenant, folder->name, &exists) < 0)
		exists = true;
	record_deinit(&record);
	return !exists;
}

static void clean_one(const struct config *config, struct ioasid_client *client, const char *name)
{
	struct folder folder = FOLDER_NONE;

	if (folder_open(config, name, false, true, &folder) < 0)
		return;
	if (is_left_over(client, &folder))
		folder_remove(&folder);
	folder_close(&folder);
}

void clean_run(const struct config *config, struct ioasid_client *client, const char *own)
{
	struct dirent *entry;
	DIR *dir = NULL;
	int fd;

	if (folder_open_parent(config, false, &fd) < 0)
		return;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		if (!strncmp(entry->d_name, "oci-", 4) && strcmp(entry->d_name, own) &&
		    strlen(entry->d_name) < NAMES_LEASE_SIZE)
			clean_one(config, client, entry->d_name);
	closedir(dir);
	hook_forgive();
}
