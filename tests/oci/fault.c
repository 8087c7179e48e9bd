/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into ioasid-oci-hook: its N-th call of what can fail does fail, or is where it is
 * killed.  Only calls from the program itself are counted, and not those of the libraries
 * below it, whose threads come in any order.
 *
 *   IOASID_FAULT_AT=N        the call, from 1
 *   IOASID_FAULT_ERRNO=E     how it fails; absent: the process is killed before it
 *   IOASID_FAULT_TO=FILE     gets the name of the function
 *
 * Calls of libioasid are counted only where they are killed at: their failures are the
 * broker's to make.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static uintptr_t begin, end;
static long at;
static int fault; /* 0: kill */
static atomic_long calls;

static int find_program(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)size;
	(void)data;
	begin = UINTPTR_MAX;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

		if (info->dlpi_phdr[i].p_type != PT_LOAD)
			continue;
		begin = from < begin ? from : begin;
		end = from + info->dlpi_phdr[i].p_memsz;
	}
	return 1; /* the program is the first */
}

__attribute__((constructor)) static void init(void)
{
	const char *number = getenv("IOASID_FAULT_AT"), *error = getenv("IOASID_FAULT_ERRNO");

	fault = error ? atoi(error) : 0;
	dl_iterate_phdr(find_program, NULL);
	at = number ? atol(number) : 0;
}

static void say(const char *name)
{
	const char *path = getenv("IOASID_FAULT_TO");
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;

	if (fd < 0 || write(fd, name, strlen(name)) < 0)
		abort();
	close(fd);
}

/* Is this call the one?  Then errno is set, or this is the end. */
static bool is_due(const void *caller, const char *name, bool of_broker)
{
	uintptr_t place = (uintptr_t)caller;

	if (!at || place < begin || place >= end || (of_broker && fault))
		return false;
	if (atomic_fetch_add(&calls, 1) + 1 != at)
		return false;
	say(name);
	if (!fault) {
		kill(getpid(), SIGKILL);
		for (;;)
			pause();
	}
	errno = fault;
	return true;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

#define WRAP(type, failure, name, parameters, arguments)                                           \
	__attribute__((visibility("default"))) type name parameters                                \
	{                                                                                          \
		if (is_due(__builtin_return_address(0), #name, false))                             \
			return failure;                                                            \
		return REAL(name) arguments;                                                       \
	}

WRAP(int, -1, mkdir, (const char *p, mode_t m), (p, m))
WRAP(int, -1, mkdirat, (int d, const char *p, mode_t m), (d, p, m))
WRAP(int, -1, unlinkat, (int d, const char *p, int f), (d, p, f))
WRAP(int, -1, renameat, (int d, const char *p, int e, const char *q), (d, p, e, q))
WRAP(int, -1, symlinkat, (const char *t, int d, const char *p), (t, d, p))
WRAP(int, -1, flock, (int fd, int op), (fd, op))
WRAP(int, -1, unshare, (int f), (f))
WRAP(int, -1, setns, (int fd, int t), (fd, t))
WRAP(int, -1, fstat, (int fd, struct stat *st), (fd, st))
WRAP(int, -1, stat, (const char *p, struct stat *st), (p, st))
WRAP(int, -1, fstatat, (int d, const char *p, struct stat *st, int f), (d, p, st, f))
WRAP(int, -1, faccessat, (int d, const char *p, int m, int f), (d, p, m, f))
WRAP(ssize_t, -1, read, (int fd, void *b, size_t n), (fd, b, n))
WRAP(ssize_t, -1, write, (int fd, const void *b, size_t n), (fd, b, n))
WRAP(DIR *, NULL, fdopendir, (int fd), (fd))
WRAP(struct dirent *, NULL, readdir, (DIR * d), (d))
WRAP(char *, NULL, strdup, (const char *s), (s))
WRAP(void *, NULL, realloc, (void *p, size_t n), (p, n))
WRAP(int, fault, pthread_create,
     (pthread_t * t, const pthread_attr_t *a, void *(*f)(void *), void *d), (t, a, f, d))

int open_tree(int dirfd, const char *path, unsigned int flags);
int mount_setattr(int dirfd, const char *path, unsigned int flags, void *attr, size_t size);
int move_mount(int from, const char *path, int to, const char *target, unsigned int flags);
WRAP(int, -1, open_tree, (int d, const char *p, unsigned int f), (d, p, f))
WRAP(int, -1, mount_setattr, (int d, const char *p, unsigned int f, void *a, size_t n),
     (d, p, f, a, n))
WRAP(int, -1, move_mount, (int d, const char *p, int e, const char *q, unsigned int f),
     (d, p, e, q, f))

struct json_object;
struct json_object *json_object_new_object(void);
struct json_object *json_object_new_array(void);
struct json_object *json_object_new_string(const char *s);
struct json_object *json_object_new_string_len(const char *s, int n);
struct json_object *json_object_new_int(int32_t i);
struct json_object *json_object_new_int64(int64_t i);
int json_object_object_add(struct json_object *o, const char *k, struct json_object *v);
int json_object_object_add_ex(struct json_object *o, const char *k, struct json_object *v,
			      unsigned int f);
int json_object_array_add(struct json_object *a, struct json_object *v);
const char *json_object_to_json_string_ext(struct json_object *o, int f);
WRAP(struct json_object *, NULL, json_object_new_object, (void), ())
WRAP(struct json_object *, NULL, json_object_new_array, (void), ())
WRAP(struct json_object *, NULL, json_object_new_string, (const char *s), (s))
WRAP(struct json_object *, NULL, json_object_new_string_len, (const char *s, int n), (s, n))
WRAP(struct json_object *, NULL, json_object_new_int, (int32_t i), (i))
WRAP(struct json_object *, NULL, json_object_new_int64, (int64_t i), (i))
WRAP(int, -1, json_object_object_add,
     (struct json_object * o, const char *k, struct json_object *v), (o, k, v))
WRAP(int, -1, json_object_object_add_ex,
     (struct json_object * o, const char *k, struct json_object *v, unsigned int f), (o, k, v, f))
WRAP(int, -1, json_object_array_add, (struct json_object * a, struct json_object *v), (a, v))
WRAP(const char *, NULL, json_object_to_json_string_ext, (struct json_object * o, int f), (o, f))

__attribute__((visibility("default"))) int open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	return is_due(__builtin_return_address(0), "open", false) ? -1
								  : REAL(open)(path, flags, mode);
}

__attribute__((visibility("default"))) int openat(int dirfd, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
	va_end(args);
	return is_due(__builtin_return_address(0), "openat", false)
		       ? -1
		       : REAL(openat)(dirfd, path, flags, mode);
}

/* openat2, pidfd_open */
__attribute__((visibility("default"))) long syscall(long number, ...)
{
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	return is_due(__builtin_return_address(0), "syscall", false)
		       ? -1
		       : REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

__attribute__((visibility("default"))) int asprintf(char **ret_text, const char *format, ...)
{
	va_list args;
	int r;

	if (is_due(__builtin_return_address(0), "asprintf", false))
		return -1;
	va_start(args, format);
	r = vasprintf(ret_text, format, args);
	va_end(args);
	return r;
}

/* Before and behind each of these the broker knows more, or less, than the hook has written. */
#define WRAP_BROKER(name, parameters, arguments)                                                   \
	int name parameters;                                                                       \
	__attribute__((visibility("default"))) int name parameters                                 \
	{                                                                                          \
		int r;                                                                             \
                                                                                                   \
		is_due(__builtin_return_address(0), #name, true);                                  \
		r = REAL(name) arguments;                                                          \
		is_due(__builtin_return_address(0), "behind " #name, true);                        \
		return r;                                                                          \
	}

WRAP_BROKER(ioasid_connect, (const char *s, const void *o, void **c, void **e), (s, o, c, e))
WRAP_BROKER(ioasid_lease_open_with,
	    (void *c, const void *s, const char *n, const void *o, void *x, void **e),
	    (c, s, n, o, x, e))
WRAP_BROKER(ioasid_lease_adopt, (void *c, const void *s, const char *n, const void *x, void **e),
	    (c, s, n, x, e))
WRAP_BROKER(ioasid_lease_close, (void *c, const void *s, void **e), (c, s, e))
WRAP_BROKER(ioasid_lease_list, (void *c, const void *s, void **l, void **e), (c, s, l, e))
WRAP_BROKER(ioasid_claim,
	    (void *c, const void *s, const char *const *d, size_t n, void **r_, void **e),
	    (c, s, d, n, r_, e))
