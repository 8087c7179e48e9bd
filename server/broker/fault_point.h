/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOASID_BROKER_FAULT_POINT_H
#define IOASID_BROKER_FAULT_POINT_H

/*
 * Named places at which a broker under test kills itself, as kill -9 would.  They exist in
 * ioasidd_crash only, which is built with the tests; in ioasidd they are nothing.
 *
 * IOASID_CRASH="WHERE:STEP[:N]" arms one of them: the N-th time (1) that it is passed; with
 * IOASID_CRASH_WHILE=FILE only while that file exists, so that a test can build something first.
 *WHERE is a method's name, or "lease", "compact", "restore" for what belongs to no call; any:any:N
 * is the N-th point of all.  The steps
 *of a call, numbered as in docs/ARCHITECTURE.md, "The path of one request":
 *
 *	policy (5)  charge (6)  reserve (7)  intent (8)  shim (9)  before_result
 *	result (10)  publish (11)  audit (13)  reply (12)
 *
 * each passed when that step is done.  Of long work: unmap_slice, free_slice, lease_context,
 * lease_reap, resume_lease; of a compaction: begin, slice, commit; of a start: lease, sweep, fds,
 * compact, commit.
 */

#ifdef IOASID_FAULT_POINTS

struct op;

/* method: a path or a bare name. */
void fault_point(const char *method, const char *step);
/* The state thread handles this method now, NULL: none. */
void fault_point_enter(const char *method);
/* Of the method that it handles. */
void fault_point_here(const char *step);
/* This op does the method's work; passes "shim" when it has run, on whatever thread. */
void fault_point_start(const struct op *op, const char *method);
void fault_point_ran(const struct op *op);

#define FAULT_POINT(method, step)     fault_point(method, step)
#define FAULT_POINT_ENTER(method)     fault_point_enter(method)
#define FAULT_POINT_HERE(step)	      fault_point_here(step)
#define FAULT_POINT_START(op, method) fault_point_start(op, method)
#define FAULT_POINT_RAN(op)	      fault_point_ran(op)

#else

#define FAULT_POINT(method, step)     ((void)0)
#define FAULT_POINT_ENTER(method)     ((void)0)
#define FAULT_POINT_HERE(step)	      ((void)0)
#define FAULT_POINT_START(op, method) ((void)0)
#define FAULT_POINT_RAN(op)	      ((void)0)

#endif
#endif
