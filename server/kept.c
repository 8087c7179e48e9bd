/* SPDX-License-Identifier: Apache-2.0 */
/* Opens registry and keeper; what they mean is the broker's (broker/restore.c). */
#include "server/kept.h"

#include "kernel-shim/keeper/client.h"
#include "registry/registry.h"
#include "server/broker/broker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void complain(const char *what, const char *problem)
{
	fprintf(stderr, "ioasidd: %s: %s\n", what, problem);
}

static void __attribute__((format(printf, 2, 3))) say(struct sink *log, const char *format, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	sink_put(log, line, n < (int)sizeof(line) ? n : (int)sizeof(line) - 1);
}

/* Who has sockets of its own is no broker of the host, unless it says so. */
static const char *choose_folder(const struct options *options)
{
	if (options->registry)
		return strcmp(options->registry, "none") ? options->registry : NULL;
	return options->n_listen ? NULL : OPTIONS_REGISTRY;
}

int kept_open(struct kept *kept, const struct options *options)
{
	struct registry_problem problem = {0};
	int r;

	kept->folder = choose_folder(options);
	if (!kept->folder)
		return 0;
	r = registry_open(kept->folder, &kept->registry, &kept->image, &problem);
	if (r == REGISTRY_E_DAMAGED) {
		complain(kept->folder, problem.message);
		complain(kept->folder, "nothing of it can be told: what it had ends; the file is "
				       "kept as log.damaged");
		kept->aside = "damaged";
		return 0;
	}
	if (r) {
		complain(kept->folder, r < 0 ? strerror(-r) : problem.message);
		return r;
	}
	if (kept->image && kept->image->damaged)
		kept->aside = "damaged";
	return 0;
}

int kept_connect_keeper(struct kept *kept, const struct options *options, bool required,
			struct sink *log)
{
	const char *path = options->keeper ?: OPTIONS_KEEPER;
	int r;

	if (!kept->registry)
		return 0;
	r = keeper_connect(path, &kept->keeper);
	if (!r)
		return 0;
	if (required || options->keeper) {
		complain(path, strerror(r < 0 ? -r : EPROTO));
		return r;
	}
	say(log, "no keeper at %s: leases with registered memory end with the broker", path);
	return 0;
}

static int read_boot_id(struct registry_boot_id *ret_boot)
{
	struct registry_boot_id boot;
	char text[64] = "";
	size_t n = 0;
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!f)
		return -errno;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	for (const char *at = text; *at && n < sizeof(boot.bytes); at += 2) {
		if (*at == '-')
			at++;
		if (sscanf(at, "%2hhx", &boot.bytes[n]) != 1)
			break;
		n++;
	}
	if (n < sizeof(boot.bytes))
		return -EPROTO;
	*ret_boot = boot;
	return 0;
}

int kept_restore(struct kept *kept, const struct options *options, struct broker *broker,
		 struct sink *log)
{
	struct registry_boot_id boot;
	int r;

	if (!kept->registry) {
		say(log, "no registry is kept: a restart forgets everything");
		return 0;
	}
	r = read_boot_id(&boot);
	if (!r)
		r = broker_restore(broker, kept->registry, kept->image, &boot,
				   options->grace_seconds * UINT64_C(1000000), kept->aside);
	if (r)
		complain(kept->folder, strerror(-r));
	registry_image_free(kept->image);
	kept->image = NULL;
	return r;
}

void kept_deinit(struct kept *kept)
{
	registry_image_free(kept->image);
	registry_close(kept->registry);
	keeper_free(kept->keeper);
	*kept = (struct kept){0};
}
