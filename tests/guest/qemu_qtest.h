/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's qtest protocol, as much as a driver of one PCI device needs: lines of text over a unix
 * socket, each answered, by which a program outside plays the VM's processor.  QEMU describes
 * it in docs/devel/testing/qtest.rst and qtest.c.  Used by one thread.  A call that fails ends
 * the program (report.h): QEMU is gone, or the protocol is another one.
 *
 * An interrupt of the VM arrives between the answers and is kept until it is asked for.
 */
#ifndef TESTS_GUEST_QEMU_QTEST_H
#define TESTS_GUEST_QEMU_QTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most that one qtest_read() or qtest_write() moves. */
#define QTEST_MAX  2048u
#define QTEST_LINE (2 * QTEST_MAX + 128)

struct qtest {
	int fd;
	size_t have;
	char line[QTEST_LINE];
	uint32_t raised; /* interrupts, by number */
};

/* Tries for a minute. */
void qtest_connect(struct qtest *q, const char *path);
void qtest_close(struct qtest *q);

/* Ports of 1, 2 or 4 bytes. */
void qtest_out(struct qtest *q, uint16_t port, unsigned int size, uint32_t value);
uint32_t qtest_in(struct qtest *q, uint16_t port, unsigned int size);

/* The VM's physical addresses: one access of 4 or 8 bytes, or so many bytes of memory. */
void qtest_write64(struct qtest *q, uint64_t address, uint64_t value);
void qtest_write32(struct qtest *q, uint64_t address, uint32_t value);
uint64_t qtest_read64(struct qtest *q, uint64_t address);
uint32_t qtest_read32(struct qtest *q, uint64_t address);
void qtest_write(struct qtest *q, uint64_t address, const void *bytes, size_t n);
void qtest_read(struct qtest *q, uint64_t address, void *bytes, size_t n);

/* From now on interrupts arrive here instead of at the VM's processor. */
void qtest_intercept(struct qtest *q, const char *controller);
/* Whether this one was raised, within ten seconds; it is asked for once. */
bool qtest_was_raised(struct qtest *q, unsigned int irq);

#endif
