/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioasid-oci-hook: an OCI runtime's hook that gives a container a lease of its tenant, with
 * devices, and takes it back.  docs/integrations/oci.md is its page.
 *
 * It is an agent: what it may do is what the broker's policy gives to the uid that it runs as.
 * It prints one line, and only when it fails; then a start is refused.
 */
#include "integrations/oci/ask.h"
#include "integrations/oci/config.h"
#include "integrations/oci/fail.h"
#include "integrations/oci/stages.h"
#include "integrations/oci/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

static const char usage[] =
	"usage: ioasid-oci-hook createRuntime|prestart|poststop [OPTION VALUE]... <STATE\n"
	"\n"
	"  --config FILE    instead of " CONFIG_PATH "\n"
	"  --tenant PATH    as annotation io.ioasid.tenant\n"
	"  --device ADDRESS as annotation io.ioasid.devices; may be repeated\n"
	"  --ioasids N      as annotation io.ioasid.ioasids\n"
	"  --memory SIZE    as annotation io.ioasid.memory\n";

static int run(const char *stage, int n, const char *const *arguments)
{
	const char *config_path = CONFIG_PATH;
	bool post = !strcmp(stage, "poststop");
	struct config config = {};
	struct state state = {};
	struct ask ask;
	int r;

	if (!post && strcmp(stage, "createRuntime") && strcmp(stage, "prestart"))
		return hook_fail(-EINVAL,
				 "%s: no such stage; expected createRuntime, prestart or poststop",
				 stage);
	ask_init(&ask);
	r = ask_add_arguments(&ask, (size_t)n, arguments, &config_path);
	if (!r)
		r = state_read(STDIN_FILENO, &state);
	if (!r)
		r = config_read(config_path, &config);
	if (!r)
		r = post ? poststop_run(&config, &state) : create_run(&config, &state, stage, &ask);
	config_deinit(&config);
	state_deinit(&state);
	return r;
}

/* crun gives its hooks no stderr; the system's log is what is left then. */
static void tell(const char *message)
{
	struct stat err, null;

	fprintf(stderr, "ioasid-oci-hook: %s\n", message);
	if (!fstat(STDERR_FILENO, &err) &&
	    (stat("/dev/null", &null) < 0 || err.st_rdev != null.st_rdev || !S_ISCHR(err.st_mode)))
		return;
	openlog("ioasid-oci-hook", LOG_PID, LOG_DAEMON);
	syslog(LOG_ERR, "%s", message);
	closelog();
}

int main(int argc, char **argv)
{
	int r;

	if (argc < 2) {
		fputs(usage, stderr);
		return 2;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		fputs(usage, stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("ioasid-oci-hook " IOASID_VERSION);
		return 0;
	}
	umask(022);
	/* One message, and not what gRPC core says on standard error of its own. */
	setenv("GRPC_VERBOSITY", "NONE", 0);
	r = run(argv[1], argc - 2, (const char *const *)argv + 2);
	if (r < 0)
		tell(hook_message() ?: strerror(-r));
	return r < 0 ? 1 : 0;
}
