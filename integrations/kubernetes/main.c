/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioasid-device-plugin: offers address spaces and devices of an ioasid broker to Kubernetes.
 *
 * Threads: this one (the broker's view, the kubelet's folder), the server's (calls of the
 * kubelet), the listeners', and the binder's (leases).  What each may do is in its header.
 */
#include "kubelet.h"
#include "requests.h"
#include "say.h"
#include "view.h"

#include <errno.h>
#include <getopt.h>
#include <grpc/grpc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define CONFIG_PATH "/etc/ioasid/kubernetes.json"
#define TICK_MS	    1000
/* Of the pod that this is, if it is one: by the DaemonSet. */
#define OWN_POD	      "IOASID_POD_NAME"
#define OWN_NAMESPACE "IOASID_POD_NAMESPACE"
/* However many events come, the broker is not asked more often than this. */
#define LOOK_MS 200

struct plugin {
	struct config *config;
	struct folders *folders;
	struct view *view;
	struct catalog *catalog;
	struct binder *binder;
	struct server *server;
	struct kubelet *kubelet;
	struct requests requests;
	/* The catalog's, and what the kubelet was told of: only changes are sent. */
	struct inventory *inventory;
	int signal_fd;
	int changed_fd;
	uint64_t refreshed_ms;
	/* Something has happened since. */
	bool stale;
};

static int fail(const char *what, int r)
{
	say("%s: %s", what, strerror(-r));
	return r;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * UINT64_C(1000) + t.tv_nsec / 1000000;
}

static void changed(void *userdata)
{
	struct plugin *plugin = userdata;
	const uint64_t one = 1;

	if (write(plugin->changed_fd, &one, sizeof(one)) < 0) {
		/* It is readable already. */
	}
}

static bool owns(void *userdata, const char *address)
{
	struct plugin *plugin = userdata;

	return plugin->binder && binder_owns(plugin->binder, address);
}

/* The inventory is the catalog's; what was shown lives until it is replaced there. */
static int refresh(struct plugin *plugin)
{
	struct inventory *fresh = NULL, *shown = plugin->inventory;
	int r = view_refresh(plugin->view, &fresh);

	if (r)
		return fail("the devices cannot be listed", r);
	plugin->refreshed_ms = now_ms();
	plugin->stale = false;
	for (size_t i = 0; i < fresh->n_resources; i++)
		if (!shown || !inventory_resource_equal(&shown->resources[i], &fresh->resources[i]))
			requests_publish(plugin->server, i, &fresh->resources[i]);
	plugin->inventory = fresh;
	catalog_replace(plugin->catalog, fresh);
	return 0;
}

/* ---- start and end ---- */

static int start_catalog(struct plugin *plugin)
{
	struct inventory *empty;
	int r = inventory_new(plugin->config, NULL, 0, false, &empty);

	if (r)
		return r;
	r = catalog_new(empty, &plugin->catalog);
	if (r)
		inventory_free(empty);
	return r;
}

static int start_binder(struct plugin *plugin)
{
	const struct binder_config config = {
		.config = plugin->config,
		.folders = plugin->folders,
		.catalog = plugin->catalog,
		.own_namespace = getenv(OWN_POD) ? getenv(OWN_NAMESPACE) : NULL,
		.own_pod = getenv(OWN_NAMESPACE) ? getenv(OWN_POD) : NULL,
		.changed = changed,
		.userdata = plugin,
	};
	char problem[CONFIG_PROBLEM_SIZE];
	int r = binder_new(&config, &plugin->binder, problem);

	if (r <= 0)
		return r ? fail("the state cannot be read", r) : 0;
	say("%s/state.json: %s", plugin->config->state_dir, problem);
	return r;
}

static int open_fds(struct plugin *plugin)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	plugin->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	plugin->changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return plugin->signal_fd < 0 || plugin->changed_fd < 0 ? -errno : 0;
}

static int start(struct plugin *plugin)
{
	const struct config *config = plugin->config;
	int r = open_fds(plugin);

	if (r)
		return fail("no descriptors", r);
	r = folders_new(config->state_dir, &plugin->folders);
	if (r)
		return fail(config->state_dir, r);
	r = start_catalog(plugin);
	if (!r)
		r = view_new(config, owns, plugin, &plugin->view);
	if (r)
		return fail("start", r);
	r = start_binder(plugin);
	if (r)
		return r;
	plugin->requests =
		(struct requests){config, plugin->catalog, plugin->folders, plugin->binder};
	r = server_new(config->n_resources, &requests_ops, &plugin->requests, &plugin->server);
	if (r)
		return fail("no server", r);
	r = refresh(plugin);
	if (r)
		return r;
	r = kubelet_new(config, plugin->server, &plugin->kubelet);
	return r ? fail("no listeners", r) : 0;
}

static void stop(struct plugin *plugin)
{
	/* No new calls, then the answers of those that wait, then the end of the rest. */
	kubelet_free(plugin->kubelet);
	binder_stop(plugin->binder);
	server_free(plugin->server);
	binder_free(plugin->binder);
	view_free(plugin->view);
	catalog_free(plugin->catalog);
	folders_free(plugin->folders);
	config_free(plugin->config);
	if (plugin->signal_fd >= 0)
		close(plugin->signal_fd);
	if (plugin->changed_fd >= 0)
		close(plugin->changed_fd);
}

/* ---- the loop ---- */

/* Milliseconds until the broker is to be asked again. */
static uint64_t until_look(const struct plugin *plugin)
{
	uint64_t every = TICK_MS, since = now_ms() - plugin->refreshed_ms;

	if (plugin->stale)
		every = LOOK_MS;
	else if (view_is_alive(plugin->view))
		every = plugin->config->poll_seconds * UINT64_C(1000);
	return since < every ? every - since : 0;
}

static void run(struct plugin *plugin)
{
	struct pollfd fds[VIEW_WATCHES_MAX + 3];
	uint64_t count, wait;

	for (;;) {
		kubelet_check(plugin->kubelet);
		wait = until_look(plugin);
		fds[0] = (struct pollfd){.fd = plugin->signal_fd, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = plugin->changed_fd, .events = POLLIN};
		fds[2] = (struct pollfd){.fd = kubelet_fd(plugin->kubelet), .events = POLLIN};
		(void)poll(fds, 3 + view_poll_fds(plugin->view, fds + 3),
			   wait < TICK_MS ? (int)wait : TICK_MS);
		if (fds[0].revents)
			return;
		if (read(plugin->changed_fd, &count, sizeof(count)) > 0)
			plugin->stale = true;
		if (view_events(plugin->view))
			plugin->stale = true;
		if (until_look(plugin))
			continue;
		if (plugin->stale)
			binder_poke(plugin->binder);
		(void)refresh(plugin);
	}
}

static int usage(FILE *to, int status)
{
	fputs("usage: ioasid-device-plugin [--config PATH] [--check]\n"
	      "  --config PATH  " CONFIG_PATH " if not given\n"
	      "  --check        reads the configuration and says whether it is good\n"
	      "  --version, --help\n",
	      to);
	return status;
}

static int serve(struct plugin *plugin)
{
	sigset_t all;
	int r;

	/* Before any thread: signals come by their descriptor. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	grpc_init();
	r = start(plugin);
	if (!r) {
		run(plugin);
		say("stopping; leases stay");
	}
	stop(plugin);
	grpc_shutdown();
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	struct plugin plugin = {.signal_fd = -1, .changed_fd = -1};
	char problem[CONFIG_PROBLEM_SIZE];
	const char *path = CONFIG_PATH;
	bool check = false;
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (option == 'c')
			path = optarg;
		else if (option == 'k')
			check = true;
		else if (option == 'v')
			return puts("ioasid-device-plugin " IOASID_VERSION) < 0;
		else
			return option == 'h' ? usage(stdout, 0) : usage(stderr, 2);
	}
	if (optind < argc)
		return usage(stderr, 2);
	r = config_load(path, &plugin.config, problem);
	if (r) {
		say("%s: %s", path, r > 0 ? problem : strerror(-r));
		return EXIT_FAILURE;
	}
	if (check) {
		config_free(plugin.config);
		return EXIT_SUCCESS;
	}
	return serve(&plugin);
}
