/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_PODS_H
#define KUBERNETES_PODS_H

/*
 * Who has which ids, as the kubelet's PodResources tells it.  One answer at a time, immutable
 * (any thread); asking blocks for some seconds at most.
 */

#include "unary.h"

#include <stdbool.h>

enum pods_error {
	/* No container has all these ids. */
	PODS_E_NONE = 1,
	/* Containers of several pods have one of them: the answer is of a moment in between. */
	PODS_E_SEVERAL = 2,
};

struct pods;

struct pods_container {
	const char *namespace;
	const char *pod;
	const char *container;
};

int pods_list(const char *socket, struct pods **ret_pods, char ret_problem[UNARY_PROBLEM_SIZE]);
void pods_free(struct pods *pods);
/* ret_container lives as long as the pods. */
int pods_find(const struct pods *pods, const char *resource, char *const *ids, size_t n_ids,
	      struct pods_container *ret_container);
/* Is the pod told of at all?  The kubelets that are known tell of every pod, with devices or not.
 */
bool pods_know(const struct pods *pods, const char *namespace, const char *pod);
/* Does this container, if it is there, have the id? */
bool pods_has(const struct pods *pods, const struct pods_container *container, const char *resource,
	      const char *id);

#endif
