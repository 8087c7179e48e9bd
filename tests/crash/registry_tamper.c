/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test does to a registry's log while no broker has it:
 *
 *	registry_tamper LOG list	a line for each frame: offset, length, lease, and the kinds
 *					of its records
 *	registry_tamper LOG boot	as if written in another boot
 */
#include "registry/log_format.h"
#include "registry/scan.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void list_drops(const Ioasid__Registry__Batch *b)
{
	for (size_t i = 0; i < b->n_drops; i++) {
		const Ioasid__Registry__Drop *d = b->drops[i];

		printf(" drop.%s", d->lease	   ? "lease"
				   : d->memory	   ? "memory"
				   : d->ioasid	   ? "ioasid"
				   : d->mapping	   ? "mapping"
				   : d->attachment ? "attachment"
				   : d->device[0]  ? "device"
				   : d->intent	   ? "intent"
						   : "other");
	}
}

static void list_frame(const struct scan *s)
{
	Ioasid__Registry__Batch *b = ioasid__registry__batch__unpack(NULL, s->body_size, s->body);

	printf("%zu %zu %llu", s->offset, sizeof(struct log_frame) + s->body_size,
	       (unsigned long long)s->lease);
	if (b) {
		list_drops(b);
		printf("%s%s%s%s%s%s%s%s%s%s%s", b->lease ? " lease" : "",
		       b->n_memories ? " memory" : "", b->n_ioasids ? " ioasid" : "",
		       b->n_mappings ? " mapping" : "", b->n_attachments ? " attachment" : "",
		       b->n_devices ? " device" : "", b->n_keys ? " key" : "",
		       b->intent ? " intent" : "", b->n_tenants ? " tenant" : "",
		       b->n_held ? " held" : "", b->broker ? " broker" : "");
		ioasid__registry__batch__free_unpacked(b, NULL);
	}
	putchar('\n');
}

static int list(const uint8_t *bytes, size_t size)
{
	struct registry_problem problem;
	struct scan s;

	if (scan_begin(&s, bytes, size, &problem)) {
		fprintf(stderr, "registry_tamper: %s\n", problem.message);
		return 1;
	}
	while (scan_next(&s) == SCAN_FRAME)
		list_frame(&s);
	return 0;
}

static int change_boot(uint8_t *bytes)
{
	struct log_header header;

	memcpy(&header, bytes, sizeof(header));
	header.boot.bytes[3] ^= 1;
	header.crc = log_header_crc(&header);
	memcpy(bytes, &header, sizeof(header));
	return 0;
}

int main(int argc, char **argv)
{
	uint8_t *bytes;
	struct stat st;
	int fd;

	if (argc != 3 || (strcmp(argv[2], "list") != 0 && strcmp(argv[2], "boot") != 0)) {
		fputs("usage: registry_tamper LOG list | boot\n", stderr);
		return 2;
	}
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size < LOG_HEADER_SIZE) {
		perror(argv[1]);
		return 1;
	}
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED) {
		perror(argv[1]);
		return 1;
	}
	return !strcmp(argv[2], "list") ? list(bytes, (size_t)st.st_size) : change_boot(bytes);
}
