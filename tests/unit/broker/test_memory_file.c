/* SPDX-License-Identifier: Apache-2.0 */
/* What a memfd must be: against real files of this kernel. */
#include "server/broker/memory_file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096

static int memfd(size_t pages, int seals)
{
	static const char data[PAGE] = "x";
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	for (size_t i = 0; i < pages; i++)
		assert_int_equal(write(fd, data, PAGE), PAGE);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static int reopen(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	assert_true(again >= 0);
	return again;
}

static void seals_and_modes(void **state)
{
	struct memory_file file;
	char why[160];
	int fd, other;

	fd = memfd(2, F_SEAL_SHRINK);
	assert_int_equal(memory_file_examine(fd, &file, why, sizeof(why)), 0);
	assert_int_equal(file.size, 2 * PAGE);
	assert_int_equal(file.page_size, PAGE);
	assert_true(file.writable);
	other = reopen(fd, O_RDONLY);
	assert_int_equal(memory_file_examine(other, &file, why, sizeof(why)), 0);
	assert_false(file.writable);
	close(other);
	other = reopen(fd, O_WRONLY);
	assert_int_equal(memory_file_examine(other, &file, why, sizeof(why)),
			 MEMORY_FILE_E_UNSUITABLE);
	assert_non_null(strstr(why, "writing only"));
	close(other);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	assert_int_equal(memory_file_examine(fd, &file, why, sizeof(why)), 0);
	assert_false(file.writable);
	close(fd);

	fd = memfd(1, F_SEAL_SHRINK | F_SEAL_WRITE);
	assert_int_equal(memory_file_examine(fd, &file, why, sizeof(why)), 0);
	assert_false(file.writable);
	close(fd);

	fd = memfd(1, F_SEAL_GROW);
	assert_int_equal(memory_file_examine(fd, &file, why, sizeof(why)),
			 MEMORY_FILE_E_UNSUITABLE);
	assert_non_null(strstr(why, "F_SEAL_SHRINK"));
	close(fd);
}

static void other_files_are_told_apart(void **state)
{
	struct memory_file file;
	int pidfd = syscall(SYS_pidfd_open, getpid(), 0);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), plain = memfd(1, F_SEAL_SHRINK);
	FILE *disk = tmpfile();
	char why[160];
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	assert_true(pidfd >= 0 && null >= 0 && disk);
	assert_true(memory_file_is_memfd(plain));
	assert_false(memory_file_is_pidfd(plain));
	assert_true(memory_file_is_pidfd(pidfd));
	assert_false(memory_file_is_memfd(pidfd));
	assert_false(memory_file_is_memfd(null));
	assert_false(memory_file_is_memfd(pipes[0]));
	assert_false(memory_file_is_pidfd(pipes[0]));
	assert_int_equal(memory_file_examine(pipes[0], &file, why, sizeof(why)),
			 MEMORY_FILE_E_UNSUITABLE);
	close(pidfd);
	close(null);
	close(plain);
	close(pipes[0]);
	close(pipes[1]);
	fclose(disk);
}

static void holes(void **state)
{
	struct memory_file file;
	char why[160];
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	/* Pages 0 and 2 written, 1 a hole. */
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	assert_int_equal(pwrite(fd, "x", 1, 2 * PAGE), 1);
	assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(lseek(fd, 123, SEEK_SET), 123);
	assert_int_equal(memory_file_examine(fd, &file, why, sizeof(why)), 0);
	assert_int_equal(memory_file_check_holes(fd, &file, 0, PAGE, why, sizeof(why)), 0);
	assert_int_equal(memory_file_check_holes(fd, &file, 2 * PAGE, PAGE, why, sizeof(why)), 0);
	assert_int_equal(memory_file_check_holes(fd, &file, 0, 3 * PAGE, why, sizeof(why)),
			 MEMORY_FILE_E_UNSUITABLE);
	assert_int_equal(memory_file_check_holes(fd, &file, PAGE, PAGE, why, sizeof(why)),
			 MEMORY_FILE_E_UNSUITABLE);
	/* The owner's file offset is left alone. */
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 123);
	/* Allocated, not written: no hole. */
	assert_int_equal(fallocate(fd, 0, PAGE, PAGE), 0);
	assert_int_equal(memory_file_check_holes(fd, &file, 0, 3 * PAGE, why, sizeof(why)), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seals_and_modes),
		cmocka_unit_test(other_files_are_told_apart),
		cmocka_unit_test(holes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
