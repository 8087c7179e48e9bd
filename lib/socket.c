/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The library connects by itself instead of leaving it to gRPC, for two reasons: the error
 * of connect() is known at once (gRPC would retry for many seconds and then say
 * "UNAVAILABLE"), and the one connection that comes of it is never replaced by another,
 * with another lease, behind the program's back.
 */
#include "socket.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_PATH "/run/ioasid/ioasid.sock"

uint64_t time_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

uint64_t time_deadline_us(uint32_t timeout_ms)
{
	return timeout_ms == IOASID_NO_TIMEOUT ? UINT64_MAX
					       : time_now_us() + (uint64_t)timeout_ms * 1000;
}

int time_left_ms(uint64_t deadline_us)
{
	uint64_t now, left;

	if (deadline_us == UINT64_MAX)
		return -1;
	now = time_now_us();
	if (now >= deadline_us)
		return 0;
	left = (deadline_us - now + 999) / 1000;
	return left > INT_MAX ? INT_MAX : (int)left;
}

const char *socket_path_or_default(const char *path)
{
	if (!path || !*path)
		path = getenv("IOASID_SOCKET");
	return path && *path ? path : DEFAULT_PATH;
}

static int connect_error(const char *path, int error, struct ioasid_error **ret_error)
{
	bool denied = error == EACCES || error == EPERM;

	return error_make(
		&(const struct error_info){
			.error = -error,
			.code = denied ? IOASID_PERMISSION_DENIED : IOASID_UNAVAILABLE,
			.origin = IOASID_ORIGIN_CONNECT,
			.reason = "NO_SERVER",
			.method = "connect",
		},
		ret_error, "no server at %s: %s", path, strerrordesc_np(error) ?: "unknown error");
}

int socket_connect(const char *path, uint32_t timeout_ms, int *ret_fd,
		   struct ioasid_error **ret_error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(path);
	uint64_t deadline = time_deadline_us(timeout_ms ?: SOCKET_TIMEOUT_MS);
	int fd, r;

	/* The kernel wants room for the final NUL of a path, none for an abstract name. */
	if (length >= sizeof(address.sun_path) + (path[0] == '@'))
		return connect_error(path, ENAMETOOLONG, ret_error);
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = 0;
	else
		length++;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return connect_error(path, errno, ret_error);
	do {
		/* Bounds the wait for a place in the listener's backlog. */
		int left = time_left_ms(deadline);
		struct timeval tv = {left / 1000, left % 1000 * 1000};

		if (!left) {
			r = ETIMEDOUT;
			break;
		}
		if (left > 0)
			(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		r = 0;
		if (connect(fd, (struct sockaddr *)&address,
			    offsetof(struct sockaddr_un, sun_path) + length) < 0)
			r = errno;
	} while (r == EINTR || r == EAGAIN);
	if (!r && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		r = errno;
	if (r) {
		close(fd);
		return connect_error(path, r, ret_error);
	}
	*ret_fd = fd;
	return 0;
}
