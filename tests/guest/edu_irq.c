/* SPDX-License-Identifier: Apache-2.0 */
/* See edu_irq.h.  Keeps nothing. */
#include "edu_irq.h"

#include <errno.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdalign.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define EDU_IRQ_RAISE 0x60
#define EDU_IRQ_ACK   0x64
#define BITS	      1u

static void edu_write32(struct edu *edu, size_t offset, uint32_t value)
{
	*(volatile uint32_t *)((volatile char *)edu->bar + offset) = value;
}

int edu_irq_open(int cdev, int *ret_eventfd)
{
	alignas(struct vfio_irq_set) unsigned char
		bytes[sizeof(struct vfio_irq_set) + sizeof(int)] = {0};
	struct vfio_irq_set *set = (struct vfio_irq_set *)bytes;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	set->argsz = sizeof(bytes);
	set->flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	set->index = VFIO_PCI_MSI_IRQ_INDEX;
	set->count = 1;
	memcpy(set->data, &fd, sizeof(fd));
	if (ioctl(cdev, VFIO_DEVICE_SET_IRQS, set)) {
		int r = -errno;

		close(fd);
		return r;
	}
	*ret_eventfd = fd;
	return 0;
}

int edu_irq_raise(struct edu *edu, int eventfd, int ms)
{
	struct pollfd poll_fd = {.fd = eventfd, .events = POLLIN};
	uint64_t n;
	int r;

	edu_write32(edu, EDU_IRQ_RAISE, BITS);
	r = poll(&poll_fd, 1, ms);
	edu_write32(edu, EDU_IRQ_ACK, BITS);
	if (r < 0)
		return -errno;
	if (r && read(eventfd, &n, sizeof(n)) != sizeof(n))
		return -errno;
	return r;
}
