/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of an edu in a VM of QEMU's machine "pc": what a guest's kernel would do, with the
 * qtest protocol in place of a processor.  Addresses are the VM's.  What is to be known of edu
 * is in edu.h.
 */
#ifndef TESTS_GUEST_QEMU_DRIVER_H
#define TESTS_GUEST_QEMU_DRIVER_H

#include "qemu_qtest.h"

/* Bytes of one move, and where the VM has nothing although the host's memory goes on there. */
#define DRIVER_LENGTH  1024u
#define DRIVER_NOTHING UINT64_C(0x18000000)

struct driver {
	struct qtest *qtest;
	unsigned int slot;
};

/* Looks for it on the bus: false, it is not there. */
bool driver_find(struct qtest *qtest, struct driver *ret_driver);
/* Gives it an address and lets it do DMA; checks that its registers answer. */
bool driver_enable(struct driver *driver);

/* The device reads or writes length bytes of the VM's memory; false: it is never done. */
bool driver_to_device(struct driver *driver, uint64_t address, size_t length);
bool driver_from_device(struct driver *driver, uint64_t address, size_t length);
/* The latter, with an interrupt at its end: whether it came. */
bool driver_interrupts(struct driver *driver, uint64_t address, size_t length);

/* The VM lets go of it, after device_del. */
void driver_eject(struct driver *driver);

#endif
