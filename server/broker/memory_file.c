/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the broker asks of a memfd before devices may reach it.  IOMMU_IOAS_MAP_FILE checks
 * neither access mode nor seals (seen on Linux 7.3.4), so it is done here.
 *
 * F_SEAL_SHRINK must be set: else the owner could cut the file under a mapping.  Pure
 * functions on an fd; may run on a worker.
 */
#include "server/broker/memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

bool memory_file_is_memfd(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fcntl(fd, F_GET_SEALS) >= 0;
}

bool memory_file_is_pidfd(int fd)
{
	char path[64], line[64];
	FILE *f;
	bool found = false;

	/* Only a pidfd has a "Pid:" line in its fdinfo (proc(5)). */
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "Pid:", 4);
	if (f)
		fclose(f);
	return found;
}

static int unsuitable(char *ret_why, size_t size, const char *why)
{
	snprintf(ret_why, size, "%s", why);
	return MEMORY_FILE_E_UNSUITABLE;
}

int memory_file_examine(int fd, struct memory_file *ret_file, char *ret_why, size_t why_size)
{
	struct statfs fs;
	struct stat st;
	int seals, mode;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	mode = fcntl(fd, F_GETFL);
	if (mode < 0)
		return -errno;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0)
		return unsuitable(ret_why, why_size, "the file takes no seals: it is no memfd");
	if (!(seals & F_SEAL_SHRINK))
		return unsuitable(
			ret_why, why_size,
			"F_SEAL_SHRINK is not set: the file could be cut under a mapping");
	mode &= O_ACCMODE;
	if (mode == O_WRONLY)
		return unsuitable(ret_why, why_size, "the fd is open for writing only");
	ret_file->key = (struct page_key){.dev = st.st_dev, .ino = st.st_ino};
	ret_file->size = (uint64_t)st.st_size;
	ret_file->page_size = (uint64_t)fs.f_bsize;
	ret_file->writable = mode == O_RDWR && !(seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE));
	return 0;
}

int memory_file_check_holes(int fd, const struct memory_file *file, uint64_t offset,
			    uint64_t length, char *ret_why, size_t why_size)
{
	struct statfs fs;
	struct stat st;
	off_t before, hole;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	/*
	 * A file that has all its blocks has no hole.  SEEK_HOLE alone would not do: shmem
	 * counts pages that were allocated by fallocate(2) and not written yet as holes, and
	 * hugetlbfs does not have it.
	 */
	if ((uint64_t)st.st_blocks * 512 >= (uint64_t)st.st_size)
		return 0;
	if (fs.f_type == HUGETLBFS_MAGIC)
		return unsuitable(ret_why, why_size, "the file has holes");
	/* The file offset is shared with the owner: leave it as it was. */
	before = lseek(fd, 0, SEEK_CUR);
	hole = lseek(fd, (off_t)offset, SEEK_HOLE);
	if (before >= 0)
		lseek(fd, before, SEEK_SET);
	if (hole < 0)
		return -errno;
	if ((uint64_t)hole < offset + length) {
		snprintf(ret_why, why_size, "the file has a hole at offset %lld", (long long)hole);
		return MEMORY_FILE_E_UNSUITABLE;
	}
	return 0;
}
