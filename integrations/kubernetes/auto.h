/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBERNETES_AUTO_H
#define KUBERNETES_AUTO_H

/* Cleanup at the end of a scope. */

#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

static inline void auto_free(void *pointer)
{
	free(*(void **)pointer);
}
static inline void auto_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void auto_json(struct json_object **object)
{
	json_object_put(*object);
}
#define AUTO_FREE  __attribute__((cleanup(auto_free)))
#define AUTO_CLOSE __attribute__((cleanup(auto_close)))
#define AUTO_JSON  __attribute__((cleanup(auto_json)))

#endif
