/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_TESTS_FAKE_HOST_H
#define IOASID_TESTS_FAKE_HOST_H

/*
 * A host for the keeper's tests: sysfs and procfs in a temporary folder, and a kernel that
 * moves drivers when it is written to.  Open cdevs are pipes: their other end shows whether
 * anybody still has one, however it travelled.
 *
 * What must never happen is counted as an offence: unbinding vfio-pci under a holder (the
 * kernel would block), resetting under a holder.
 */

#include "keeper/host.h"

#include <pthread.h>

#define FAKE_OPENS_MAX 4096

struct fake_open {
	int read_end;
	unsigned long inode; /* of the pipe */
	unsigned node;	     /* vfioN */
	bool bound;
};

struct fake_host {
	struct host host;
	char root[64];
	pthread_mutex_t lock;
	unsigned n_ops;
	unsigned fail_at;   /* this op fails; 0: none */
	unsigned fail_more; /* and so many after it */
	int fail_with;
	unsigned n_offences;
	char trace[8192]; /* what was written, one line each */
	struct fake_open opens[FAKE_OPENS_MAX];
	size_t n_opens;
	/* Knobs. */
	bool no_cdev;  /* vfio-pci without VFIO_DEVICE_CDEV */
	bool no_iommu; /* no /dev/iommu */
	/* The one process: whose it is, or an errno; what was done to it and to contexts. */
	uid_t process_uid;
	int process_error;
	int count_error;
	int limit_error;
	int end_error;
	uint64_t process_locks;
	unsigned n_counted;
	unsigned n_ended;
	int bind_error;
	const char *stubborn;	  /* vfio-pci does not take this device */
	const char *busy_disk;	  /* O_EXCL fails */
	const char *with_address; /* interface */
	/* Writes to the resets of devices whose address begins with this fail so. */
	const char *bad_reset;
	int reset_error;
	/* A write to this device's reset waits while blocked is set. */
	const char *slow;
	bool blocked;
	bool waiting;
	pthread_cond_t changed;
};

void fake_host_init(struct fake_host *fake);
void fake_host_deinit(struct fake_host *fake);

/* driver NULL: none; it is also what the device goes to by itself. */
void fake_add(struct fake_host *fake, const char *address, const char *class, int group,
	      const char *driver);
void fake_file(struct fake_host *fake, const char *path, const char *text);
void fake_link(struct fake_host *fake, const char *path, const char *target);
void fake_folder(struct fake_host *fake, const char *path);
void fake_remove(struct fake_host *fake, const char *path);

/* The driver that the device has now, in a static buffer; "" for none. */
const char *fake_driver(struct fake_host *fake, const char *address);
const char *fake_override(struct fake_host *fake, const char *address);
/* Cdevs that somebody has open. */
unsigned fake_open_cdevs(struct fake_host *fake);

#endif
