/* SPDX-License-Identifier: Apache-2.0 */
/* See state.h.  Members that this hook does not use are let pass: runtimes add their own. */
#include "integrations/oci/state.h"

#include "integrations/oci/fail.h"
#include "integrations/oci/strict.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define SIZE_LIMIT (1u << 20)
#define WHAT	   "state on stdin"
#define ID_MAX	   1024

static int read_members(struct state *state)
{
	const char *version;
	int64_t pid = 0;
	int r = strict_text(state->document, WHAT, "ociVersion", true, &version);

	if (!r)
		r = strict_text(state->document, WHAT, "id", true, &state->id);
	if (!r && (!*state->id || strlen(state->id) > ID_MAX))
		r = hook_fail(-EINVAL, WHAT ": id: expected 1 to %d bytes", ID_MAX);
	if (!r)
		r = strict_text(state->document, WHAT, "bundle", true, &state->bundle);
	if (!r && state->bundle[0] != '/')
		r = hook_fail(-EINVAL, WHAT ": bundle: expected an absolute path");
	if (!r && strlen(state->bundle) >= PATH_MAX)
		r = hook_fail(-EINVAL, WHAT ": bundle: expected less than %d bytes", PATH_MAX);
	if (!r)
		r = strict_number(state->document, WHAT, "pid", false, 0, INT_MAX, &pid);
	if (!r)
		r = strict_object(state->document, WHAT, "annotations", false, &state->annotations);
	state->pid = (pid_t)pid;
	return r;
}

int state_read(int fd, struct state *ret_state)
{
	struct state state = {};
	int r = strict_read(fd, SIZE_LIMIT, WHAT, &state.document);

	if (!r)
		r = read_members(&state);
	if (r < 0) {
		state_deinit(&state);
		return r;
	}
	*ret_state = state;
	return 0;
}

void state_deinit(struct state *state)
{
	json_object_put(state->document);
	state->document = NULL;
}

int state_annotation(const struct state *state, const char *name, const char **ret_value)
{
	if (!state->annotations) {
		*ret_value = NULL;
		return 0;
	}
	return strict_text(state->annotations, WHAT ": annotations", name, false, ret_value);
}
