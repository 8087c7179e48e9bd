/* SPDX-License-Identifier: Apache-2.0 */
/* See bundle.h. */
#include "integrations/oci/bundle.h"

#include "integrations/oci/ask.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/scope.h"
#include "integrations/oci/strict.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SIZE_LIMIT (16u << 20)
#define WHAT	   "config.json of the bundle"
#define WORDS_MAX  160

static int read_rootfs(struct bundle *bundle, const char *path)
{
	struct json_object *root;
	const char *text;
	int r = strict_object(bundle->document, WHAT, "root", true, &root);

	if (!r)
		r = strict_text(root, WHAT ": root", "path", true, &text);
	if (r < 0)
		return r;
	if (!*text)
		return hook_fail(-EINVAL, WHAT ": root.path: empty");
	if ((text[0] == '/' ? asprintf(&bundle->rootfs, "%s", text)
			    : asprintf(&bundle->rootfs, "%s/%s", path, text)) < 0) {
		bundle->rootfs = NULL;
		return hook_fail(-ENOMEM, "out of memory");
	}
	return 0;
}

int bundle_read_fd(int fd, const char *what, const char *path, struct bundle *ret_bundle)
{
	struct bundle bundle = {};
	int r = strict_read(fd, SIZE_LIMIT, what, &bundle.document);

	if (!r)
		r = read_rootfs(&bundle, path);
	if (r < 0) {
		bundle_deinit(&bundle);
		return r;
	}
	*ret_bundle = bundle;
	return 0;
}

int bundle_read(const char *path, struct bundle *ret_bundle)
{
	_cleanup_free_ char *file = NULL;
	_cleanup_fd_ int fd = -1;

	if (asprintf(&file, "%s/config.json", path) < 0) {
		file = NULL;
		return hook_fail(-ENOMEM, "out of memory");
	}
	fd = strict_open(AT_FDCWD, file, file);
	return fd < 0 ? fd : bundle_read_fd(fd, file, path, ret_bundle);
}

void bundle_deinit(struct bundle *bundle)
{
	json_object_put(bundle->document);
	free(bundle->rootfs);
	bundle->document = NULL;
	bundle->rootfs = NULL;
}

static bool is_this_hook(const char *path)
{
	const char *name = strrchr(path, '/');

	return !strcmp(name ? name + 1 : path, "ioasid-oci-hook");
}

static int add_hook(struct json_object *hook, const char *stage, struct ask *ask)
{
	const char *path, *words[WORDS_MAX];
	struct json_object *args;
	size_t n;
	int r;

	if (!json_object_is_type(hook, json_type_object))
		return hook_fail(-EINVAL, WHAT ": hooks.%s: expected objects", stage);
	r = strict_text(hook, WHAT ": hooks", "path", true, &path);
	if (r < 0 || !is_this_hook(path))
		return r;
	r = strict_array(hook, WHAT ": hooks", "args", false, &args);
	if (r < 0)
		return r;
	n = args ? json_object_array_length(args) : 0;
	if (n < 2)
		return 0;
	if (n - 2 > WORDS_MAX)
		return hook_fail(-E2BIG, WHAT ": hooks.%s: more than %d arguments", stage,
				 WORDS_MAX);
	for (size_t i = 2; i < n; i++) {
		struct json_object *word = json_object_array_get_idx(args, i);

		if (!json_object_is_type(word, json_type_string))
			return hook_fail(-EINVAL, WHAT ": hooks.%s: args: expected strings", stage);
		words[i - 2] = json_object_get_string(word);
	}
	return ask_add_arguments(ask, n - 2, words, NULL);
}

int bundle_add_hooks(const struct bundle *bundle, const char *stage, struct ask *ask)
{
	struct json_object *hooks, *list = NULL;
	int r = strict_object(bundle->document, WHAT, "hooks", false, &hooks);

	if (!r && hooks)
		r = strict_array(hooks, WHAT ": hooks", stage, false, &list);
	for (size_t i = 0; !r && list && i < json_object_array_length(list); i++)
		r = add_hook(json_object_array_get_idx(list, i), stage, ask);
	return r;
}
