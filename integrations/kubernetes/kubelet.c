/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The truth is what stat() says; inotify only makes it fast.  So it does no harm if the folder
 * is not there yet, is replaced, or events are lost.
 */
#include "kubelet.h"

#include "deviceplugin.pb-c.h"
#include "say.h"
#include "unary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define REGISTER   "/v1beta1.Registration/Register"
#define TIMEOUT_MS 5000

struct kubelet {
	const struct config *config;
	struct listeners *listeners;
	int inotify_fd;
	bool watching;
	/* The kubelet.sock of the last look. */
	struct stat socket;
	bool socket_there;
	bool registered[CONFIG_RESOURCES_MAX];
	/* The last failure, said once: of the sockets, of the registration. */
	int failed[CONFIG_RESOURCES_MAX];
};

int kubelet_new(const struct config *config, struct server *server, struct kubelet **ret_kubelet)
{
	struct kubelet *kubelet = calloc(1, sizeof(*kubelet));
	int r;

	if (!kubelet)
		return -ENOMEM;
	kubelet->config = config;
	kubelet->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	r = kubelet->inotify_fd < 0 ? -errno : 0;
	if (!r)
		r = listeners_new(config, server, &kubelet->listeners);
	if (r) {
		kubelet_free(kubelet);
		return r;
	}
	*ret_kubelet = kubelet;
	return 0;
}

void kubelet_free(struct kubelet *kubelet)
{
	if (!kubelet)
		return;
	listeners_free(kubelet->listeners);
	if (kubelet->inotify_fd >= 0)
		close(kubelet->inotify_fd);
	free(kubelet);
}

int kubelet_fd(const struct kubelet *kubelet)
{
	return kubelet->inotify_fd;
}

static void watch_folder(struct kubelet *kubelet)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	while ((n = read(kubelet->inotify_fd, events, sizeof(events))) > 0)
		for (char *p = events; p < events + n;) {
			const struct inotify_event *event = (const void *)p;

			if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF))
				kubelet->watching = false;
			p += sizeof(*event) + event->len;
		}
	if (!kubelet->watching)
		kubelet->watching =
			inotify_add_watch(kubelet->inotify_fd, kubelet->config->kubelet_dir,
					  IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_DELETE_SELF |
						  IN_MOVE_SELF | IN_ONLYDIR) >= 0;
}

static bool kubelet_is_new(struct kubelet *kubelet)
{
	char path[256];
	struct stat st;
	bool there, same;

	snprintf(path, sizeof(path), "%s/kubelet.sock", kubelet->config->kubelet_dir);
	there = lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
	same = there && kubelet->socket_there && st.st_dev == kubelet->socket.st_dev &&
	       st.st_ino == kubelet->socket.st_ino &&
	       st.st_ctim.tv_sec == kubelet->socket.st_ctim.tv_sec &&
	       st.st_ctim.tv_nsec == kubelet->socket.st_ctim.tv_nsec;
	kubelet->socket_there = there;
	if (there)
		kubelet->socket = st;
	return !same;
}

static int register_resource(struct kubelet *kubelet, unsigned resource,
			     char problem[UNARY_PROBLEM_SIZE])
{
	V1beta1__DevicePluginOptions options = V1BETA1__DEVICE_PLUGIN_OPTIONS__INIT;
	V1beta1__RegisterRequest request = V1BETA1__REGISTER_REQUEST__INIT;
	char name[LISTENERS_NAME_SIZE], path[256];
	ProtobufCMessage *answer;
	int r;

	options.pre_start_required = true;
	options.get_preferred_allocation_available = true;
	listeners_name(kubelet->config, resource, name);
	request.version = (char *)"v1beta1";
	request.endpoint = name;
	request.resource_name = kubelet->config->resources[resource].name;
	request.options = &options;
	snprintf(path, sizeof(path), "%s/kubelet.sock", kubelet->config->kubelet_dir);
	r = unary_call(path, REGISTER, &request.base, &v1beta1__empty__descriptor, TIMEOUT_MS,
		       &answer, problem);
	if (!r)
		message_free(answer);
	return r;
}

/* False: the kubelet does not answer, and the others are asked for later. */
static bool check_resource(struct kubelet *kubelet, unsigned resource)
{
	const char *name = kubelet->config->resources[resource].name;
	char problem[UNARY_PROBLEM_SIZE];
	bool fresh = false;
	int r = listeners_ensure(kubelet->listeners, resource, &fresh);

	if (r)
		snprintf(problem, sizeof(problem), "no socket in %s: %s",
			 kubelet->config->kubelet_dir, strerror(-r));
	if (fresh)
		kubelet->registered[resource] = false;
	if (!r && !kubelet->registered[resource] && kubelet->socket_there) {
		r = register_resource(kubelet, resource, problem);
		kubelet->registered[resource] = !r;
		if (!r)
			say("%s: registered with the kubelet", name);
	}
	if (r && r != kubelet->failed[resource])
		say("%s: %s", name, problem);
	kubelet->failed[resource] = r;
	return r != -ETIMEDOUT;
}

void kubelet_check(struct kubelet *kubelet)
{
	watch_folder(kubelet);
	if (kubelet_is_new(kubelet))
		memset(kubelet->registered, 0, sizeof(kubelet->registered));
	for (size_t i = 0; i < kubelet->config->n_resources; i++)
		if (!check_resource(kubelet, i))
			return;
}
