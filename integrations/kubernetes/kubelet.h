/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_KUBELET_H
#define KUBERNETES_KUBELET_H

/*
 * Being known to the kubelet.  A kubelet that starts deletes every socket in its folder and
 * has forgotten all plugins: the folder is watched, the sockets are made again, and every
 * resource is registered with each kubelet.sock that appears.  Main thread only.
 */

#include "listeners.h"

struct kubelet;

int kubelet_new(const struct config *config, struct server *server, struct kubelet **ret_kubelet);
void kubelet_free(struct kubelet *kubelet);
/* Readable when something happened in the folder: kubelet_check(). */
int kubelet_fd(const struct kubelet *kubelet);
/* Also to be called every second or so.  Blocks for some seconds at most. */
void kubelet_check(struct kubelet *kubelet);

#endif
