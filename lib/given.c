/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this process was given by whoever started it (ioasidctl exec, an OCI hook, a device
 * plugin): a lease that is open already, with devices claimed in it, and fds of them.
 *
 *	IOASID_LEASE_FILE	path of the lease file (lease_file.h), or "fd:N"
 *	IOASID_DEVICE_FDS	"0000:01:00.0=5 0000:01:00.1=6"
 *
 * The environment is the only thing that is global here; it is read anew by each call, and never
 * written.  A file is read with a bound, from its beginning (pread: an fd may be shared with
 * programs that read it, too), and nothing of it is kept but the names; the secret goes to the
 * client's holds, as that of any lease does.  Fds that were given stay open and inheritable: a
 * launcher between, a shell for instance, has children of its own.
 *
 * The lease that is adopted becomes the default of the client, once: other threads may be
 * calling, so what was published (client->given) is neither changed nor freed before the client.
 */
#include "client.h"
#include "error.h"
#include "lease_file.h"
#include "result.h"
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The launcher, or the program before this one, has left; the broker may not have noticed yet. */
#define ADOPT_PATIENCE_MS 2000
#define ADOPT_PAUSE_MS	  20

static void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_close_ __attribute__((cleanup(closep)))

static int lease_file_error(int error, enum ioasid_code code, const char *reason,
			    struct ioasid_error **ret_error, const char *subject, const char *text)
{
	return error_make(
		&(const struct error_info){
			.error = error,
			.code = code,
			.reason = reason,
			.method = "given",
		},
		ret_error, "%s%s%s", subject, *subject ? ": " : "", text);
}

/* ---- reading ---- */

/* A number of an fd: decimal, nothing around it. */
static bool parse_fd(const char *text, size_t length, int *ret_fd)
{
	int fd = 0;

	if (!length || (length > 1 && *text == '0'))
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9' || fd > (INT_MAX - 9) / 10)
			return false;
		fd = fd * 10 + (text[i] - '0');
	}
	*ret_fd = fd;
	return true;
}

/* The file that IOASID_LEASE_FILE names; *ret_own: to be closed. */
static int open_lease(const char *value, int *ret_fd, bool *ret_own,
		      struct ioasid_error **ret_error)
{
	int fd;

	if (!strncmp(value, "fd:", 3)) {
		if (!parse_fd(value + 3, strlen(value + 3), ret_fd))
			return lease_file_error(-EINVAL, IOASID_INVALID_ARGUMENT, "LEASE_FILE",
						ret_error, "IOASID_LEASE_FILE",
						"expected a number after fd:");
		*ret_own = false;
		return 0;
	}
	if (*value != '/')
		return lease_file_error(-EINVAL, IOASID_INVALID_ARGUMENT, "LEASE_FILE", ret_error,
					"IOASID_LEASE_FILE",
					"expected an absolute path of a lease file, or fd:N");
	/* A FIFO in its place must not stop the program. */
	fd = open(value, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		int error = errno;

		return lease_file_error(-error, IOASID_FAILED_PRECONDITION, "LEASE_FILE", ret_error,
					value, strerrordesc_np(error) ?: "cannot be opened");
	}
	*ret_fd = fd;
	*ret_own = true;
	return 0;
}

static int read_all(int fd, char *text, size_t size, size_t *ret_length)
{
	struct stat st;
	size_t n = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENXIO;
	while (n < size) {
		ssize_t got = pread(fd, text + n, size - n, (off_t)n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
	}
	*ret_length = n;
	return 0;
}

static int read_lease(const char *value, int fd, struct lease_file *ret_file,
		      struct ioasid_error **ret_error)
{
	char problem[LEASE_FILE_PROBLEM_SIZE];
	/* One more, to tell a file that is too long. */
	char text[LEASE_FILE_MAX + 1];
	size_t length = 0;
	int r = read_all(fd, text, sizeof(text), &length);

	if (r < 0)
		return lease_file_error(r == -ENXIO ? -EINVAL : r, IOASID_FAILED_PRECONDITION,
					"LEASE_FILE", ret_error, value,
					r == -ENXIO ? "not a regular file"
						    : strerrordesc_np(-r) ?: "cannot be read");
	r = lease_file_parse(text, length, problem, ret_file);
	if (r < 0)
		r = lease_file_error(r, IOASID_INVALID_ARGUMENT, "LEASE_FILE", ret_error, value,
				     problem);
	explicit_bzero(text, sizeof(text));
	return r;
}

/* -ENODATA: nothing was given. */
static int find_lease(struct lease_file *ret_file, struct ioasid_error **ret_error)
{
	const char *value = getenv("IOASID_LEASE_FILE");
	_cleanup_close_ int own = -1;
	bool is_own;
	int fd, r;

	if (!value || !*value)
		return lease_file_error(-ENODATA, IOASID_FAILED_PRECONDITION, "NOTHING_GIVEN",
					ret_error, "IOASID_LEASE_FILE",
					"not set: this program was given no lease");
	r = open_lease(value, &fd, &is_own, ret_error);
	if (r < 0)
		return r;
	if (is_own)
		own = fd;
	return read_lease(value, fd, ret_file, ret_error);
}

int ioasid_given_read(struct ioasid_given **ret_given, struct ioasid_error **ret_error)
{
	__attribute__((cleanup(result_freep))) struct result *result = NULL;
	struct ioasid_given *given;
	struct lease_file file;
	const char **devices;
	int r = find_lease(&file, ret_error);

	if (r < 0)
		return r;
	explicit_bzero(file.secret, sizeof(file.secret));
	result = result_new(sizeof(*given));
	if (!result)
		return error_no_memory(ret_error);
	given = result_root(result);
	given->lease = result_strdup(result, file.lease);
	given->tenant = result_strdup(result, file.tenant);
	given->n_devices = file.n_devices;
	devices = result_alloc(result, file.n_devices, sizeof(*devices));
	for (size_t i = 0; devices && i < file.n_devices; i++)
		devices[i] = result_strdup(result, file.devices[i]);
	given->devices = devices;
	if (result_failed(result))
		return error_no_memory(ret_error);
	result = NULL;
	*ret_given = given;
	return 0;
}

void ioasid_given_free(struct ioasid_given *given)
{
	result_free_root(given);
}

/* ---- adopting ---- */

static void given_free(struct client_given *given)
{
	if (!given)
		return;
	free(given->lease);
	free(given->tenant);
	free(given);
}

static struct client_given *given_new(const struct lease_file *file)
{
	struct client_given *given = calloc(1, sizeof(*given));

	if (!given)
		return NULL;
	given->lease = strdup(file->lease);
	given->tenant = strdup(file->tenant);
	if (given->lease && given->tenant)
		return given;
	given_free(given);
	return NULL;
}

/* A lease of another tenant than the program's default could not be found by its name. */
static bool becomes_default(const struct ioasid_client *client, const struct lease_file *file)
{
	return !client->lease &&
	       (!client->tenant || !*client->tenant || !strcmp(client->tenant, file->tenant));
}

static int adopt(struct ioasid_client *client, const struct lease_file *file,
		 struct ioasid_error **ret_error)
{
	const struct ioasid_scope scope = {.lease = "", .tenant = file->tenant};
	const struct timespec pause = {.tv_nsec = ADOPT_PAUSE_MS * 1000000L};
	uint64_t deadline = time_deadline_us(ADOPT_PATIENCE_MS);

	for (;;) {
		struct ioasid_error *error = NULL;
		int r = ioasid_lease_adopt(client, &scope, file->lease, file->secret, &error);

		if (!r)
			return 0;
		if ((strcmp(error->reason, "WRONG_STATE") && strcmp(error->reason, "BUSY")) ||
		    !time_left_ms(deadline)) {
			if (ret_error)
				*ret_error = error;
			else
				ioasid_error_free(error);
			return r;
		}
		ioasid_error_free(error);
		nanosleep(&pause, NULL);
	}
}

int ioasid_lease_adopt_given(struct ioasid_client *client, char ret_name[IOASID_LEASE_NAME_SIZE],
			     struct ioasid_error **ret_error)
{
	struct client_given *given = NULL, *none = NULL;
	struct lease_file file;
	int r;

	if (!client)
		return error_invalid("given", ret_error, "client is NULL");
	r = find_lease(&file, ret_error);
	if (r < 0)
		return r;
	/* Before the broker is asked: what was adopted can be made the default. */
	if (becomes_default(client, &file)) {
		given = given_new(&file);
		if (!given) {
			explicit_bzero(file.secret, sizeof(file.secret));
			return error_no_memory(ret_error);
		}
	}
	r = adopt(client, &file, ret_error);
	explicit_bzero(file.secret, sizeof(file.secret));
	if (!r && ret_name)
		memcpy(ret_name, file.lease, IOASID_LEASE_NAME_SIZE);
	if (r || !given || !atomic_compare_exchange_strong(&client->given, &none, given))
		given_free(given);
	return r;
}

/* ---- fds ---- */

/* One "ADDRESS=N" of length bytes; false: it is none. */
static bool parse_pair(const char *text, size_t length, char ret_device[LEASE_FILE_DEVICE_SIZE],
		       int *ret_fd)
{
	const size_t n = LEASE_FILE_DEVICE_SIZE - 1;

	if (length < n + 2 || text[n] != '=')
		return false;
	memcpy(ret_device, text, n);
	ret_device[n] = 0;
	return lease_file_is_device(ret_device) && parse_fd(text + n + 1, length - n - 1, ret_fd);
}

static int duplicate(int given, int *ret_fd)
{
	int fd = fcntl(given, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

int ioasid_given_context_fd(int *ret_fd)
{
	const char *value = getenv("IOASID_CONTEXT_FD");
	int given;

	if (!ret_fd)
		return -EINVAL;
	if (!value || !*value)
		return -ENODATA;
	return parse_fd(value, strlen(value), &given) ? duplicate(given, ret_fd) : -EINVAL;
}

int ioasid_given_device_fd(const char *address, int *ret_fd)
{
	const char *value = getenv("IOASID_DEVICE_FDS");
	int found = -1, fd;

	if (!address || !ret_fd)
		return -EINVAL;
	/* As a whole: a variable that is half understood is not believed. */
	for (const char *at = value ?: ""; *at;) {
		char device[LEASE_FILE_DEVICE_SIZE];
		size_t length = strcspn(at, " ");

		if (length && !parse_pair(at, length, device, &fd))
			return -EINVAL;
		if (length && !strcasecmp(device, address)) {
			if (found >= 0)
				return -EINVAL;
			found = fd;
		}
		at += length;
		at += *at == ' ';
	}
	return found < 0 ? -ENODATA : duplicate(found, ret_fd);
}
