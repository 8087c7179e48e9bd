/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An edu's interrupt: MSI, by VFIO to an eventfd.  Whether a message arrives depends on the
 * tables that the device's writes go through, as with DMA.
 */
#ifndef TESTS_GUEST_EDU_IRQ_H
#define TESTS_GUEST_EDU_IRQ_H

#include "edu.h"

/* 0, *ret_eventfd is non-blocking and the caller's; or -errno. */
int edu_irq_open(int cdev, int *ret_eventfd);
/* The device raises it: 1, it has arrived within ms; 0, it has not; or -errno. */
int edu_irq_raise(struct edu *edu, int eventfd, int ms);

#endif
