/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BENCH_GUEST_H
#define IOASID_BENCH_GUEST_H

/*
 * P7: what the broker and the shim add to the raw calls.  The two take turns, so that what
 * slows the machine down for a while slows both.  A round is so many turns, and its ratio that
 * of the medians over its turns; printed are the median and the range of the rounds' ratios.
 */

#include "bench.h"

#define ROUNDS 15u
#define TURNS  60u
#define LARGE  (UINT64_C(2) << 20)
#define SMALL  UINT64_C(4096)
#define BASE   (UINT64_C(1) << 30)

/* Ratios of so many rounds, sorted in place; goal 0: none. */
void print_ratio(const char *name, double *ratios, double goal);

/* An IOAS with a device attached, driven by raw calls. */
struct raw {
	int iommufd, cdev;
	uint32_t ioas;
};
/* Opened as root; BDF is with vfio-pci. */
void raw_open(struct raw *raw, const char *bdf);
/* Of pages that are there. */
int memory_new(uint64_t size);
/* Microseconds of one Map and Unmap of length bytes, over n of them. */
double raw_pair_us(const struct raw *raw, int fd, uint64_t length, unsigned n);

/* As the tenant that owns edu, whose raw counterpart is open; echo: path of the echo server. */
void rpc_figures(const char *tenants, const char *echo, const char *edu, const struct raw *raw);
/* As the keeper's client. */
void shim_figures(const char *keeper, const char *edu);

#endif
