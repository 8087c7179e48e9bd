/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See folder.h.  A file is written beside and renamed, so that whoever reads sees an old or a
 * new one.  Nothing is synced: the state is worth nothing after the end of the machine.
 */
#include "integrations/oci/folder.h"

#include "integrations/oci/config.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/mount.h"
#include "integrations/oci/scope.h"
#include "integrations/oci/strict.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define RECORD	      "hook.json"
#define CONTAINER     "container"
#define LEASE	      "lease.json"
#define SOCKET	      "ioasid.sock"
#define SIZE_LIMIT    (1u << 20)
#define LOCK_PAUSE_MS 10

/* ---- folders ---- */

int folder_open_parent(const struct config *config, bool make, int *ret_fd)
{
	struct stat st;
	int fd;

	if (make && mkdir(config->state_dir, 0700) < 0 && errno != EEXIST)
		return hook_fail(-errno, "cannot make state_dir %s: %s", config->state_dir,
				 strerror(errno));
	fd = open(config->state_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && !make)
		return -ENOENT;
	if (fd < 0 || fstat(fd, &st) < 0) {
		int r = hook_fail(-errno, "state_dir %s: %s", config->state_dir, strerror(errno));

		if (fd >= 0)
			close(fd);
		return r;
	}
	if (st.st_uid != geteuid() || (st.st_mode & 077)) {
		close(fd);
		return hook_fail(-EPERM,
				 "state_dir %s: has to belong to uid %u and have the mode 0700",
				 config->state_dir, geteuid());
	}
	*ret_fd = fd;
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int lock(int fd, const struct config *config, bool no_wait)
{
	uint64_t end = now_ms() + config->timeout_ms;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return hook_fail(-errno, "cannot lock the state folder: %s",
					 strerror(errno));
		if (no_wait)
			return -EWOULDBLOCK;
		if (now_ms() > end)
			return hook_fail(-ETIMEDOUT, "another run of the hook for this container "
						     "does not end");
		usleep(LOCK_PAUSE_MS * 1000);
	}
	return 0;
}

/* Removed, and perhaps made anew, between the open and the lock? */
static bool is_still_there(int parent, const char *name, int fd)
{
	struct stat opened, there;

	return !fstat(fd, &opened) && !fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) &&
	       opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

static int open_locked(const struct config *config, int parent, const char *name, bool make,
		       bool no_wait, int *ret_fd)
{
	for (;;) {
		int fd, r;

		if (make && mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
			return hook_fail(-errno, "cannot make %s/%s: %s", config->state_dir, name,
					 strerror(errno));
		fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT) {
			if (make)
				continue;
			return -ENOENT;
		}
		if (fd < 0)
			return hook_fail(-errno, "%s/%s: %s", config->state_dir, name,
					 strerror(errno));
		r = lock(fd, config, no_wait);
		if (!r && is_still_there(parent, name, fd)) {
			*ret_fd = fd;
			return 0;
		}
		close(fd);
		if (r < 0)
			return r;
	}
}

int folder_open(const struct config *config, const char *name, bool make, bool no_wait,
		struct folder *ret_folder)
{
	_cleanup_fd_ int parent = -1;
	int r = folder_open_parent(config, make, &parent), fd = -1;

	if (!r)
		r = open_locked(config, parent, name, make, no_wait, &fd);
	if (r < 0)
		return r;
	ret_folder->parent = parent;
	ret_folder->fd = fd;
	snprintf(ret_folder->name, sizeof(ret_folder->name), "%s", name);
	parent = -1;
	return 0;
}

void folder_close(struct folder *folder)
{
	if (folder->fd >= 0)
		close(folder->fd);
	if (folder->parent >= 0)
		close(folder->parent);
	folder->fd = folder->parent = -1;
}

static void dir_closep(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* Everything in it, to the depth that the hook makes. */
static int empty(int dirfd, int depth)
{
	__attribute__((cleanup(dir_closep))) DIR *dir = NULL;
	int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;

	if (copy < 0)
		return -errno;
	dir = fdopendir(copy);
	if (!dir) {
		close(copy);
		return -errno;
	}
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (!unlinkat(dirfd, entry->d_name, 0) || errno == ENOENT)
			continue;
		if (depth && (errno == EISDIR || errno == EPERM)) {
			_cleanup_fd_ int fd =
				openat(dirfd, entry->d_name,
				       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (fd >= 0)
				empty(fd, depth - 1);
		}
		if (unlinkat(dirfd, entry->d_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

int folder_remove(const struct folder *folder)
{
	int r = empty(folder->fd, 1);

	if (!r && unlinkat(folder->parent, folder->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r < 0 ? hook_fail(r, "cannot remove the state folder %s: %s", folder->name,
				 strerror(-r))
		     : 0;
}

/* ---- files ---- */

static int write_all(int fd, const char *text, size_t n)
{
	while (n) {
		ssize_t done = write(fd, text, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		text += done;
		n -= (size_t)done;
	}
	return 0;
}

static int write_file(int dirfd, const char *name, mode_t mode, const char *text)
{
	_cleanup_fd_ int fd = -1;
	char beside[64];
	int r;

	snprintf(beside, sizeof(beside), ".%s.new", name);
	if (unlinkat(dirfd, beside, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dirfd, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, strlen(text));
	if (!r && renameat(dirfd, beside, dirfd, name) < 0)
		r = -errno;
	return r;
}

static void to_hex(const uint8_t *bytes, size_t n, char *ret_text)
{
	for (size_t i = 0; i < n; i++)
		sprintf(ret_text + 2 * i, "%02x", bytes[i]);
}

static int digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *found = c ? strchr(digits, c) : NULL;

	return found ? (int)(found - digits) : -1;
}

static bool from_hex(const char *text, size_t n, uint8_t *ret_bytes)
{
	if (strlen(text) != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		ret_bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* ---- hook.json ---- */

/* Takes value, which may be NULL for want of memory. */
static int put(struct json_object *object, const char *name, struct json_object *value)
{
	if (value && !json_object_object_add(object, name, value))
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

static int put_devices(struct json_object *object, const struct ask *ask)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; list && i < ask->n_devices; i++) {
		struct json_object *text = json_object_new_string(ask->devices[i]);

		if (!text || json_object_array_add(list, text) < 0) {
			json_object_put(text);
			json_object_put(list);
			return -ENOMEM;
		}
	}
	return put(object, "devices", list);
}

static int put_secret(struct json_object *object, const struct record *record)
{
	char text[2 * IOASID_LEASE_SECRET_SIZE + 1];
	int r;

	to_hex(record->secret, sizeof(record->secret), text);
	r = put(object, "secret", json_object_new_string(text));
	explicit_bzero(text, sizeof(text));
	return r;
}

static int write_json(int dirfd, const char *name, mode_t mode, struct json_object *object)
{
	const char *text = json_object_to_json_string_ext(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	return text ? write_file(dirfd, name, mode, text) : -ENOMEM;
}

int folder_write(const struct folder *folder, const struct record *record)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	int r = o ? 0 : -ENOMEM;

	if (!r)
		r = put(o, "id", json_object_new_string(record->id));
	if (!r)
		r = put(o, "bundle", json_object_new_string(record->bundle));
	if (!r)
		r = put(o, "tenant", json_object_new_string(record->ask.tenant));
	if (!r)
		r = put(o, "pid", json_object_new_int64(record->pid));
	if (!r)
		r = put(o, "started", json_object_new_int64((int64_t)record->started));
	if (!r)
		r = put_devices(o, &record->ask);
	if (!r && record->has_secret)
		r = put_secret(o, record);
	if (!r)
		r = write_json(folder->fd, RECORD, 0600, o);
	return r < 0 ? hook_fail(r, "cannot write " RECORD " in the state folder: %s", strerror(-r))
		     : 0;
}

static int read_devices(struct json_object *o, struct ask *ask)
{
	struct json_object *list;
	int r = strict_array(o, RECORD, "devices", true, &list);

	for (size_t i = 0; !r && i < json_object_array_length(list); i++)
		r = ask_add_devices(ask, RECORD ": devices",
				    json_object_get_string(json_object_array_get_idx(list, i))
					    ?: "");
	return r;
}

static int read_members(struct json_object *o, struct record *record)
{
	const char *id, *bundle, *tenant, *secret;
	int64_t pid = 0, started = 0;
	int r = strict_text(o, RECORD, "id", true, &id);

	if (!r)
		r = strict_text(o, RECORD, "bundle", true, &bundle);
	if (!r)
		r = strict_text(o, RECORD, "tenant", true, &tenant);
	if (!r)
		r = ask_add_tenant(&record->ask, RECORD ": tenant", tenant);
	if (!r)
		r = strict_number(o, RECORD, "pid", true, 1, INT_MAX, &pid);
	if (!r)
		r = strict_number(o, RECORD, "started", true, 0, INT64_MAX, &started);
	if (!r)
		r = read_devices(o, &record->ask);
	if (!r)
		r = strict_text(o, RECORD, "secret", false, &secret);
	if (r < 0)
		return r;
	record->has_secret = secret != NULL;
	if (secret && !from_hex(secret, sizeof(record->secret), record->secret))
		return hook_fail(-EINVAL, RECORD ": secret: expected 64 hexadecimal digits");
	record->pid = (pid_t)pid;
	record->started = (uint64_t)started;
	record->id = strdup(id);
	record->bundle = strdup(bundle);
	return record->id && record->bundle ? 0 : hook_fail(-ENOMEM, "out of memory");
}

bool folder_is_new(const struct folder *folder)
{
	return faccessat(folder->fd, RECORD, F_OK, 0) < 0 && errno == ENOENT;
}

int folder_read(const struct folder *folder, struct record *ret_record)
{
	_cleanup_json_ struct json_object *o = NULL;
	struct record record = {};
	int r;

	if (folder_is_new(folder))
		return -ENOENT;
	ask_init(&record.ask);
	r = strict_read_file(folder->fd, RECORD, SIZE_LIMIT, RECORD " in the state folder", &o);
	if (!r)
		r = read_members(o, &record);
	if (r < 0) {
		record_deinit(&record);
		return r;
	}
	*ret_record = record;
	return 0;
}

void record_deinit(struct record *record)
{
	free(record->id);
	free(record->bundle);
	record->id = record->bundle = NULL;
	explicit_bzero(record->secret, sizeof(record->secret));
}

/* ---- container/ ---- */

static int write_lease(int dirfd, const struct folder *folder, const struct record *record)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	int r = o ? 0 : -ENOMEM;

	if (!r)
		r = put(o, "version", json_object_new_int(1));
	if (!r)
		r = put(o, "tenant", json_object_new_string(record->ask.tenant));
	if (!r)
		r = put(o, "lease", json_object_new_string(folder->name));
	if (!r)
		r = put_secret(o, record);
	if (!r)
		r = put_devices(o, &record->ask);
	return r < 0 ? r : write_json(dirfd, LEASE, 0444, o);
}

static int fill(int dirfd, const struct folder *folder, const struct record *record,
		const char *socket)
{
	_cleanup_free_ char *link = NULL;

	if (mkdirat(dirfd, MOUNT_BROKER, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (asprintf(&link, MOUNT_BROKER "/%s", strrchr(socket, '/') + 1) < 0) {
		link = NULL;
		return -ENOMEM;
	}
	if ((unlinkat(dirfd, SOCKET, 0) < 0 && errno != ENOENT) ||
	    symlinkat(link, dirfd, SOCKET) < 0)
		return -errno;
	return write_lease(dirfd, folder, record);
}

int folder_write_container(const struct folder *folder, const struct record *record,
			   const char *socket, int *ret_fd)
{
	_cleanup_fd_ int fd = -1;
	int r;

	if (mkdirat(folder->fd, CONTAINER, 0755) < 0 && errno != EEXIST)
		r = -errno;
	else if ((fd = openat(folder->fd, CONTAINER,
			      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		r = -errno;
	else
		r = fill(fd, folder, record, socket);
	if (r < 0)
		return hook_fail(r, "cannot write the container's part of the state folder: %s",
				 strerror(-r));
	*ret_fd = fd;
	fd = -1;
	return 0;
}
