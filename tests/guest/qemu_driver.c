/* SPDX-License-Identifier: Apache-2.0 */
/* See qemu_driver.h.  One move at a time, as in edu.c. */
#include "qemu_driver.h"

#include "edu.h"

#include <linux/pci_regs.h>
#include <unistd.h>

#define EDU_DEVICE 0x11e81234u
#define PIIX3	   0x70008086u

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc
/* Where the machine has nothing. */
#define BAR	   UINT64_C(0xe0000000)
#define PIIX3_PIRQ 0x60
#define IRQ	   11
/* QEMU's docs/specs/acpi_pci_hotplug.rst */
#define HOTPLUG_EJECT  0xae08
#define HOTPLUG_SELECT 0xae10

#define EDU_ID		0x00
#define EDU_IRQ_STATUS	0x24
#define EDU_IRQ_ACK	0x64
#define EDU_DMA_SOURCE	0x80
#define EDU_DMA_TARGET	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_COMMAND 0x98

#define EDU_COMMAND_RUN	      1u
#define EDU_COMMAND_TO_MEMORY 2u
#define EDU_COMMAND_INTERRUPT 4u
#define EDU_DONE	      0x100u
#define EDU_BUFFER	      0x40000u

#define TRIES	 1000
#define PAUSE_US 10000

static void config_select(struct qtest *q, unsigned int slot, unsigned int offset)
{
	qtest_out(q, CONFIG_ADDRESS, 4, 0x80000000u | slot << 11 | (offset & ~3u));
}

static uint32_t config_read(struct qtest *q, unsigned int slot, unsigned int offset)
{
	config_select(q, slot, offset);
	return qtest_in(q, CONFIG_DATA, 4);
}

static void config_write(struct qtest *q, unsigned int slot, unsigned int offset, unsigned int size,
			 uint32_t value)
{
	config_select(q, slot, offset);
	qtest_out(q, CONFIG_DATA + (offset & 3), size, value);
}

static bool find(struct qtest *q, uint32_t id, unsigned int *ret_slot)
{
	for (unsigned int slot = 0; slot < 32; slot++)
		if (config_read(q, slot, PCI_VENDOR_ID) == id) {
			*ret_slot = slot;
			return true;
		}
	return false;
}

bool driver_find(struct qtest *qtest, struct driver *ret_driver)
{
	ret_driver->qtest = qtest;
	return find(qtest, EDU_DEVICE, &ret_driver->slot);
}

bool driver_enable(struct driver *driver)
{
	struct qtest *q = driver->qtest;
	unsigned int bridge;

	if (find(q, PIIX3, &bridge))
		for (unsigned int pirq = 0; pirq < 4; pirq++)
			config_write(q, bridge, PIIX3_PIRQ + pirq, 1, IRQ);
	config_write(q, driver->slot, PCI_BASE_ADDRESS_0, 4, (uint32_t)BAR);
	config_write(q, driver->slot, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return (qtest_read32(q, BAR + EDU_ID) & 0xffff) == 0x00ed;
}

static bool is_done(struct qtest *q)
{
	for (int i = 0; i < TRIES; i++) {
		if (!(qtest_read64(q, BAR + EDU_DMA_COMMAND) & EDU_COMMAND_RUN))
			return true;
		usleep(PAUSE_US);
	}
	return false;
}

static void begin(struct qtest *q, uint64_t source, uint64_t target, size_t length,
		  uint64_t command)
{
	qtest_write64(q, BAR + EDU_DMA_SOURCE, source);
	qtest_write64(q, BAR + EDU_DMA_TARGET, target);
	qtest_write64(q, BAR + EDU_DMA_COUNT, length);
	qtest_write64(q, BAR + EDU_DMA_COMMAND, command | EDU_COMMAND_RUN);
}

bool driver_to_device(struct driver *driver, uint64_t address, size_t length)
{
	begin(driver->qtest, address, EDU_BUFFER, length, 0);
	return is_done(driver->qtest);
}

bool driver_from_device(struct driver *driver, uint64_t address, size_t length)
{
	begin(driver->qtest, EDU_BUFFER, address, length, EDU_COMMAND_TO_MEMORY);
	return is_done(driver->qtest);
}

bool driver_interrupts(struct driver *driver, uint64_t address, size_t length)
{
	struct qtest *q = driver->qtest;
	bool came;

	begin(q, EDU_BUFFER, address, length, EDU_COMMAND_TO_MEMORY | EDU_COMMAND_INTERRUPT);
	came = qtest_was_raised(q, IRQ) && qtest_read32(q, BAR + EDU_IRQ_STATUS) == EDU_DONE;
	qtest_write32(q, BAR + EDU_IRQ_ACK, EDU_DONE);
	return came && is_done(q);
}

void driver_eject(struct driver *driver)
{
	qtest_out(driver->qtest, HOTPLUG_SELECT, 4, 0);
	qtest_out(driver->qtest, HOTPLUG_EJECT, 4, UINT32_C(1) << driver->slot);
}
