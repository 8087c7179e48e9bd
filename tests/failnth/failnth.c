/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fail-nth: for every step of the sequence, for every n, the nth allocation of the broker and
 * the nth call of the shim that the step makes fails, once.
 *
 * Each case is a broker of its own, led up to the step without faults.  Then the step is hurt:
 *  - it is refused, with INTERNAL, UNAVAILABLE or RESOURCE_EXHAUSTED, a reason and a message,
 *    and every counter and object is as it was, unless it says how much was done; or
 *  - it comes to what it should: the failure cost nothing that it promised (an audit line, a
 *    cache).  Those are counted apart as absorbed;
 *  - the end of a connection cannot be refused: it must complete.
 * A refused step is then repeated and must come to what it should, and the sequence goes on to
 * its end.  Finally every counter is zero, the broker drains, and no block, no fd, no watch is
 * left.  n grows until the step no longer reaches it.
 *
 * A program that injected nothing anywhere fails.
 */
#include "alloc_fault.h"
#include "sequence.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NTH_MAX 2000

static unsigned long passed, failed, injected, absorbed;
static const char *const kind_names[] = {"nothing", "allocation", "shim call", "room"};

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	if (!dir)
		return -1;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static bool fail(const struct step *step, const struct fault *fault, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static bool fail(const struct step *step, const struct fault *fault, const char *format, ...)
{
	va_list ap;

	printf("FAIL: %s, %s %llu: ", step->name, kind_names[fault->kind],
	       (unsigned long long)fault->nth);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	return false;
}

static bool is_clean_refusal(const struct run *run, const struct step *step, int code)
{
	if (code != 8 && code != 13 && code != 14)
		return false;
	/* Steps that are no request have no details. */
	return step->act == sequence[0].act || !run->host.answered || run->host.reason[0];
}

/* Runs one step unhurt; false if it does not come to what it should. */
static bool run_step(struct run *run, const struct step *step, const struct fault *fault,
		     const char *when)
{
	int code = step->act(run);

	if (code == step->expected)
		return true;
	return fail(step, fault, "%s: code %d instead of %d: %s %s %s", when, code, step->expected,
		    run->host.reason, run->host.message, run->problem);
}

/* The hurt step itself, and its repetition. */
static bool hurt_step(struct run *run, const struct step *step, struct fault *fault)
{
	static uint8_t before[HOST_ANSWER_MAX], after[HOST_ANSWER_MAX];
	char why[sizeof(run->host.message)];
	size_t n_before, n_after;
	const char *problem;
	bool partial;
	int code;

	n_before = run_snapshot(run, step->makes_lease, before, sizeof(before));
	run->host.answered = false;
	run->fault = fault;
	code = step->act(run);
	run->fault = NULL;
	if (!fault->hit) {
		if (code != step->expected)
			return fail(step, fault, "unhurt, code %d instead of %d: %s %s %s", code,
				    step->expected, run->host.reason, run->host.message,
				    run->problem);
		return true;
	}
	injected++;
	if (code == step->expected) {
		absorbed += step->expected != STEP_VOID;
		problem = run_check(run);
		return problem ? fail(step, fault, "afterwards: %s", problem) : true;
	}
	if (!is_clean_refusal(run, step, code))
		return fail(step, fault, "not a clean refusal: code %d: %s %s", code,
			    run->host.reason, run->host.message);
	partial = run->host.partial;
	snprintf(why, sizeof(why), "%s", run->host.message);
	n_after = run_snapshot(run, step->makes_lease, after, sizeof(after));
	if (n_before && !partial && (n_before != n_after || memcmp(before, after, n_before)))
		return fail(step, fault, "the refused request changed something: %s", why);
	problem = run_check(run);
	if (problem)
		return fail(step, fault, "afterwards: %s", problem);
	return run_step(run, step, fault, "repeated");
}

/* One case.  *ret_hit: the step made at least nth such calls. */
static bool run_case(size_t index, struct fault *fault, bool *ret_hit)
{
	struct run *run = malloc(sizeof(*run));
	const struct step *step = &sequence[index];
	int64_t live = alloc_fault_live();
	int fds = count_fds();
	bool good;

	if (!run || run_begin(run)) {
		printf("FAIL: cannot begin: %s\n", run ? run->problem : "no memory");
		exit(1);
	}
	good = true;
	for (size_t i = 0; i < index && good; i++)
		good = run_step(run, &sequence[i], fault, sequence[i].name);
	if (good)
		good = hurt_step(run, step, fault);
	*ret_hit = fault->hit;
	for (size_t i = index + 1; i < sequence_length && good; i++)
		good = run_step(run, &sequence[i], fault, sequence[i].name);
	if (run_end(run) && good)
		good = fail(step, fault, "%s", run->problem);
	free(run);
	/* The count of live blocks includes run itself on the way in, so compare without it. */
	if (good && alloc_fault_live() != live - 1)
		good = fail(step, fault, "%lld blocks are left",
			    (long long)(alloc_fault_live() - live + 1));
	if (good && count_fds() != fds)
		good = fail(step, fault, "%d fds are left", count_fds() - fds);
	return good;
}

int main(void)
{
	unsigned long totals[_FAULT_KIND_MAX] = {0};

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("%-40s %12s %12s %12s\n", "step", "allocations", "shim calls", "room");
	for (size_t i = 0; i < sequence_length; i++) {
		unsigned long points[_FAULT_KIND_MAX] = {0};

		for (int kind = FAULT_ALLOCATION; kind < _FAULT_KIND_MAX; kind++) {
			for (uint64_t nth = 1;; nth++) {
				struct fault fault = {.kind = kind, .nth = nth};
				bool hit = false;

				if (run_case(i, &fault, &hit))
					passed++;
				else
					failed++;
				if (!hit)
					break;
				points[kind]++;
				if (nth == NTH_MAX) {
					printf("FAIL: %s: more than %d points\n", sequence[i].name,
					       NTH_MAX);
					failed++;
					break;
				}
			}
			totals[kind] += points[kind];
		}
		printf("%-40s %12lu %12lu %12lu\n", sequence[i].name, points[FAULT_ALLOCATION],
		       points[FAULT_SHIM], points[FAULT_ROOM]);
	}
	printf("%-40s %12lu %12lu %12lu\n", "in all", totals[FAULT_ALLOCATION], totals[FAULT_SHIM],
	       totals[FAULT_ROOM]);
	printf("%lu faults injected, %lu of them absorbed without a refusal\n", injected, absorbed);
	if (!totals[FAULT_ALLOCATION] || !totals[FAULT_SHIM] || !totals[FAULT_ROOM]) {
		printf("FAIL: a kind of fault was never injected\n");
		failed++;
	}
	printf("%lu passed, %lu failed\n", passed, failed);
	return failed ? 1 : 0;
}
