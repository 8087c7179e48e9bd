/* SPDX-License-Identifier: Apache-2.0 */
/* See options.h. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBLEM_MAX 256
#define LIMIT_MAX   65536

const char options_help[] =
	"usage: ioasid-keeper [OPTION...]\n"
	"\n"
	"Opens IOMMU contexts and PCI devices for ioasidd, and holds what must outlive it.\n"
	"\n"
	"  --listen PATH               socket (default " OPTIONS_SOCKET ", or what systemd\n"
	"                              passes)\n"
	"  --client USER|UID           who may connect, besides root (default ioasid)\n"
	"  --allow-host-device ADDR    may be claimed although the host uses it; repeatable\n"
	"  --holder USER|UID           whose processes may be given a context of their own\n"
	"                              (policy delegate), and are ended with it; repeatable,\n"
	"                              never root; default nobody's\n"
	"  --state FILE                drivers that claimed devices had (default\n"
	"                              " OPTIONS_STATE ")\n"
	"  --no-fdstore                leave no fds with systemd\n"
	"  --max-contexts N            in total (1024)\n"
	"  --max-contexts-per-owner N  (256)\n"
	"  --max-devices N             in total (256)\n"
	"  --max-devices-per-owner N   (64)\n"
	"  --max-fds N                 held fds in total (32768)\n"
	"  --max-fds-per-owner N       (16384)\n"
	"  --help, --version\n";

enum {
	OPT_LISTEN = 256,
	OPT_CLIENT,
	OPT_ALLOW,
	OPT_HOLDER,
	OPT_STATE,
	OPT_NO_FDSTORE,
	OPT_HELP,
	OPT_VERSION,
	/* Two of each kind, in its order. */
	OPT_LIMITS,
};

static const struct option table[] = {
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"client", required_argument, NULL, OPT_CLIENT},
	{"allow-host-device", required_argument, NULL, OPT_ALLOW},
	{"holder", required_argument, NULL, OPT_HOLDER},
	{"state", required_argument, NULL, OPT_STATE},
	{"no-fdstore", no_argument, NULL, OPT_NO_FDSTORE},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{"max-contexts", required_argument, NULL, OPT_LIMITS},
	{"max-contexts-per-owner", required_argument, NULL, OPT_LIMITS + 1},
	{"max-devices", required_argument, NULL, OPT_LIMITS + 2},
	{"max-devices-per-owner", required_argument, NULL, OPT_LIMITS + 3},
	{"max-fds", required_argument, NULL, OPT_LIMITS + 4},
	{"max-fds-per-owner", required_argument, NULL, OPT_LIMITS + 5},
	{0},
};

static int __attribute__((format(printf, 2, 3))) wrong(char *ret_problem, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ret_problem, PROBLEM_MAX, format, args);
	va_end(args);
	return 1;
}

static bool parse_number(const char *text, unsigned long max, unsigned long *ret_number)
{
	unsigned long number;

	if (!*text || strspn(text, "0123456789") != strlen(text))
		return false;
	errno = 0;
	number = strtoul(text, NULL, 10);
	if (errno || number > max)
		return false;
	*ret_number = number;
	return true;
}

static int parse_user(const char *option, const char *text, char *ret_problem, uid_t *ret_uid)
{
	const struct passwd *user = getpwnam(text);
	unsigned long uid;

	if (user)
		uid = user->pw_uid;
	else if (!parse_number(text, (uid_t)-2, &uid))
		return wrong(ret_problem, "%s: '%s' is neither a user nor a uid", option, text);
	*ret_uid = uid;
	return 0;
}

static int add_holder(struct options *options, const char *text, char *ret_problem)
{
	uid_t uid;
	int r = parse_user("--holder", text, ret_problem, &uid);

	if (r)
		return r;
	/* Who has the client in its hands could end any daemon of the host. */
	if (!uid)
		return wrong(ret_problem,
			     "--holder: root's processes are not for the keeper to end");
	if (options->n_holders == OPTIONS_HOLDERS_MAX)
		return wrong(ret_problem, "--holder: at most %d", OPTIONS_HOLDERS_MAX);
	options->holders[options->n_holders++] = uid;
	return 0;
}

static int add_allowed(struct options *options, const char *text, char *ret_problem)
{
	char(*larger)[KEEPER_PCI_MAX];

	if (!keeper_address_is_valid(text))
		return wrong(ret_problem, "--allow-host-device: '%s' is not like 0000:3b:00.0",
			     text);
	larger = realloc(options->allowed, (options->n_allowed + 1) * sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	snprintf(larger[options->n_allowed++], sizeof(*larger), "%s", text);
	options->allowed = larger;
	return 0;
}

static int set_limit(struct options *options, int index, const char *text, char *ret_problem)
{
	unsigned *limits = index % 2 ? options->limits.owner : options->limits.total;
	unsigned long number;

	if (!parse_number(text, LIMIT_MAX, &number) || !number)
		return wrong(ret_problem, "'%s' is no number from 1 to %d", text, LIMIT_MAX);
	limits[index / 2] = number;
	return 0;
}

int options_parse(int argc, char **argv, struct options *ret_options, char *ret_problem)
{
	const char *client = "ioasid";
	struct options options = {
		.state = OPTIONS_STATE,
		.fd_store = true,
		.limits = {.total = {1024, 256, 32768}, .owner = {256, 64, 16384}},
	};
	int option, r = 0;

	opterr = 0;
	optind = 1;
	while (!r && (option = getopt_long(argc, argv, "", table, NULL)) >= 0) {
		switch (option) {
		case OPT_LISTEN:
			options.listen = optarg;
			break;
		case OPT_CLIENT:
			client = optarg;
			break;
		case OPT_ALLOW:
			r = add_allowed(&options, optarg, ret_problem);
			break;
		case OPT_HOLDER:
			r = add_holder(&options, optarg, ret_problem);
			break;
		case OPT_STATE:
			options.state = optarg;
			break;
		case OPT_NO_FDSTORE:
			options.fd_store = false;
			break;
		case OPT_HELP:
			options.action = OPTIONS_HELP;
			break;
		case OPT_VERSION:
			options.action = OPTIONS_VERSION;
			break;
		case '?':
			r = wrong(ret_problem, "%s: unknown option, or its value is missing",
				  argv[optind - 1]);
			break;
		default:
			r = set_limit(&options, option - OPT_LIMITS, optarg, ret_problem);
			break;
		}
	}
	if (!r && optind < argc)
		r = wrong(ret_problem, "unexpected argument '%s'", argv[optind]);
	if (!r && options.action == OPTIONS_SERVE)
		r = parse_user("--client", client, ret_problem, &options.client);
	if (r) {
		options_deinit(&options);
		return r;
	}
	*ret_options = options;
	return 0;
}

void options_deinit(struct options *options)
{
	free(options->allowed);
	options->allowed = NULL;
	options->n_allowed = 0;
}
