/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state file: what a start of the keeper must know about what the last one left behind.
 * Lines of words between tabs:
 *
 *   ioasid-keeper  1       NEXT-CONTEXT
 *   context        ID      OWNER
 *   device         ADDRESS CONTEXT GROUP OWNER DRIVER OVERRIDE
 *
 * CONTEXT 0: of none.  NEXT-CONTEXT is above every id that was given out: ioasidd's registry
 * names contexts by id, so one that meant another context later would give a tenant's mappings
 * to the next.  The file is the keeper's own and in a folder of root's; what cannot be
 * read is nevertheless refused, and with it the start: else drivers would be forgotten.
 */
#include "vault_internal.h"

#include "log.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORDS_MAX 8

int vault_save(struct vault *vault)
{
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	int r = 0;

	if (!stream)
		return -ENOMEM;
	fprintf(stream, "ioasid-keeper\t1\t%" PRIu64 "\n", vault->next_context);
	for (const struct context *context = vault->contexts; context; context = context->next)
		fprintf(stream, "context\t%" PRIu64 "\t%s\n", context->id,
			charge_owner_name(&context->charge));
	for (const struct device *device = vault->devices; device; device = device->next)
		if (device->known)
			fprintf(stream, "device\t%s\t%" PRIu64 "\t%d\t%s\t%s\t%s\n",
				device->function.address,
				device->state == DEVICE_CLAIMED ? device->context : 0,
				device->function.group, charge_owner_name(&device->charge),
				device->function.driver, device->function.override);
	if (fclose(stream))
		r = -ENOMEM;
	else
		r = backup_write(&vault->config.backup, text, size);
	free(text);
	if (r < 0)
		keeper_log(LOG_ERR, "the state file is not written: %s", strerror(-r));
	return r;
}

/* Takes the fd of that name out of the list; -1: systemd has none. */
static int take_fd(struct backup_fd *fds, size_t n_fds, const char *name)
{
	for (size_t i = 0; i < n_fds; i++) {
		int fd = fds[i].fd;

		if (fd < 0 || strcmp(fds[i].name, name) != 0)
			continue;
		fds[i].fd = -1;
		return fd;
	}
	return -1;
}

static bool parse_number(const char *text, uint64_t max, uint64_t *ret_number)
{
	char *end;
	unsigned long long number;

	if (!*text || strspn(text, "0123456789") != strlen(text))
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || number > max)
		return false;
	*ret_number = number;
	return true;
}

struct restore {
	struct vault *vault;
	struct backup_fd *fds;
	size_t n_fds;
	bool begun;
};

static int restore_context(struct restore *restore, char **words)
{
	struct vault *vault = restore->vault;
	char name[BACKUP_NAME_MAX], reason[KEEPER_REASON_MAX];
	struct context *context;
	uint64_t id;
	int r;

	if (!parse_number(words[1], vault->next_context - 1, &id) || !id || !*words[2] ||
	    strlen(words[2]) >= KEEPER_OWNER_MAX || vault_find_context(vault, id))
		return -EBADMSG;
	context = calloc(1, sizeof(*context));
	if (!context)
		return -ENOMEM;
	context->id = id;
	context_backup_name(id, name);
	context->fd = take_fd(restore->fds, restore->n_fds, name);
	if (context->fd < 0) {
		keeper_log(LOG_WARNING, "context %" PRIu64 " of %s is lost", id, words[2]);
		free(context);
		return 0;
	}
	r = charge_take(&vault->charges, CHARGE_CONTEXT, words[2], reason, &context->charge);
	if (r) {
		close_fd(&context->fd);
		free(context);
		return r;
	}
	context->next = vault->contexts;
	vault->contexts = context;
	return 0;
}

static int restore_device(struct restore *restore, char **words)
{
	struct vault *vault = restore->vault;
	char name[BACKUP_NAME_MAX], reason[KEEPER_REASON_MAX];
	struct function function = {0};
	struct device *device;
	uint64_t context, group;
	int r;

	if (!keeper_address_is_valid(words[1]) || vault_find_device(vault, words[1]) ||
	    !parse_number(words[2], UINT64_MAX, &context) ||
	    !parse_number(words[3], INT_MAX, &group) || !*words[4] ||
	    strlen(words[4]) >= KEEPER_OWNER_MAX || strlen(words[5]) >= KEEPER_DRIVER_MAX ||
	    strlen(words[6]) >= KEEPER_DRIVER_MAX)
		return -EBADMSG;
	memcpy(function.address, words[1], strlen(words[1]));
	function.group = group;
	memcpy(function.driver, words[5], strlen(words[5]));
	memcpy(function.override, words[6], strlen(words[6]));
	device = calloc(1, sizeof(*device));
	if (!device)
		return -ENOMEM;
	r = charge_take(&vault->charges, CHARGE_DEVICE, words[4], reason, &device->charge);
	if (r) {
		free(device);
		return r;
	}
	device->function = function;
	device->known = true;
	device->context = context;
	device_backup_name(words[1], name);
	device->fd = take_fd(restore->fds, restore->n_fds, name);
	/* Without context or cdev nobody can use or release it. */
	device->state = device->fd >= 0 && vault_find_context(vault, context) ? DEVICE_CLAIMED
									      : DEVICE_LEFT;
	device->next = vault->devices;
	vault->devices = device;
	return 0;
}

static int restore_line(struct restore *restore, char *line)
{
	static const char *const kinds[] = {"ioasid-keeper", "context", "device"};
	static const size_t lengths[] = {3, 3, 7};
	char *words[WORDS_MAX];
	size_t n = 0, kind;

	line[strcspn(line, "\n")] = '\0';
	for (char *word; n < WORDS_MAX && (word = strsep(&line, "\t"));)
		words[n++] = word;
	for (kind = 0; kind < 3 && strcmp(words[0], kinds[kind]) != 0; kind++)
		continue;
	if (line || kind == 3 || n != lengths[kind] || restore->begun != (kind != 0))
		return -EBADMSG;
	if (kind == 1)
		return restore_context(restore, words);
	if (kind == 2)
		return restore_device(restore, words);
	restore->begun = true;
	if (strcmp(words[1], "1") != 0 ||
	    !parse_number(words[2], UINT64_MAX, &restore->vault->next_context) ||
	    !restore->vault->next_context)
		return -EBADMSG;
	return 0;
}

static int restore_file(struct restore *restore, FILE *file)
{
	size_t size = 0;
	char *line = NULL;
	int r = 0;

	while (!r && getline(&line, &size, file) >= 0)
		r = restore_line(restore, line);
	free(line);
	if (!r && ferror(file))
		r = -EIO;
	if (!r && !restore->begun)
		r = -EBADMSG;
	return r;
}

/*
 * Microseconds since the host was booted: above the ids of all keepers of this boot that began
 * likewise, as no context is opened in less time.  The file may have been removed.
 */
static uint64_t first_context(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + 1;
}

/* An fd that no line names may be all that is left of the id. */
static void skip_context(struct vault *vault, const char *name)
{
	uint64_t id;

	if (!strncmp(name, "ctx.", 4) && parse_number(name + 4, UINT64_MAX - 1, &id) &&
	    id >= vault->next_context)
		vault->next_context = id + 1;
}

int vault_restore(struct vault *vault, struct backup_fd *fds, size_t n_fds)
{
	struct restore restore = {.vault = vault, .fds = fds, .n_fds = n_fds};
	const char *path = vault->config.backup.state_path;
	FILE *file = path ? fopen(path, "re") : NULL;
	int r = 0;

	VAULT_LOCKED(vault);
	if (file) {
		/* Limits that were lowered keep nothing away that exists. */
		for (size_t i = 0; i < _CHARGE_KINDS; i++)
			vault->charges.limits.total[i] = vault->charges.limits.owner[i] = UINT_MAX;
		r = restore_file(&restore, file);
		vault->charges.limits = vault->config.limits;
		fclose(file);
	} else if (path && errno != ENOENT) {
		r = -errno;
	} else {
		vault->next_context = first_context();
	}
	for (size_t i = 0; i < n_fds; i++) {
		if (fds[i].fd < 0)
			continue;
		keeper_log(LOG_WARNING, "%s of the fd store is in no state file", fds[i].name);
		skip_context(vault, fds[i].name);
		backup_remove(&vault->config.backup, fds[i].name);
		close_fd(&fds[i].fd);
	}
	return r ? r : vault_save(vault);
}
