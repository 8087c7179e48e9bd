/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry dump and registry check, on a registry that is made here and open while they read:
 * every kind of record, no secret, nothing but text, and what is damaged.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "registry/registry.h"
#include "run_cli.h"

#define TEXT(s) ((char *)(uintptr_t)(s))

static char folder[256];
static struct registry *registry;

static void put(uint64_t lease, const Ioasid__Registry__Batch *batch)
{
	struct registry_room room = {0};

	assert_int_equal(
		registry_room_take(registry, REGISTRY_GROWS, registry_batch_size(batch), &room), 0);
	registry_append(registry, &room, lease, batch);
}

static int setup(void **state)
{
	static const struct registry_boot_id boot = {{7}};
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Lease lease = IOASID__REGISTRY__LEASE__INIT;
	Ioasid__Registry__Ioasid ioasid = IOASID__REGISTRY__IOASID__INIT, *ioasids[] = {&ioasid};
	Ioasid__Registry__Mapping mapping = IOASID__REGISTRY__MAPPING__INIT,
				  *mappings[] = {&mapping};
	Ioasid__Registry__Memory memory = IOASID__REGISTRY__MEMORY__INIT, *memories[] = {&memory};
	struct registry_problem problem;
	struct registry_image *image;

	snprintf(folder, sizeof(folder), "%s/ioasid-cli-registry-XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(folder) || registry_open(folder, &registry, &image, &problem) ||
	    registry_begin(registry, &boot, NULL) || registry_commit(registry))
		return -1;
	lease.tenant = TEXT("org/team");
	lease.name = TEXT("\033[31mred\xff");
	lease.secret = (ProtobufCBinaryData){6, (uint8_t *)TEXT("SECRET")};
	lease.next_id = 3;
	memory.id = 1;
	memory.length = 65536;
	ioasid.id = 2;
	ioasid.kind = 1;
	mapping.ioasid = 2;
	mapping.iova = 0;
	mapping.length = 4096;
	mapping.memory = 1;
	mapping.prot = 3;
	batch.lease = &lease;
	batch.memories = memories;
	batch.n_memories = 1;
	batch.ioasids = ioasids;
	batch.n_ioasids = 1;
	batch.mappings = mappings;
	batch.n_mappings = 1;
	put(5, &batch);
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"lock", "log", "log.new"};
	char path[300];

	registry_close(registry);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	return rmdir(folder);
}

static void test_dump(void **state)
{
	struct run_cli run;

	RUN(&run, "registry", "dump", folder);
	assert_int_equal(run.exit_code, 0);
	assert_non_null(strstr(run.out, "lease=0 log generation=1 batches=1"));
	assert_non_null(strstr(run.out, "lease=5 lease tenant=org/team name=?[31mred?"));
	assert_non_null(strstr(run.out, "lease=5 mapping ioasid=2 iova=0x0 memory=1 length=4K"));
	assert_null(strstr(run.out, "SECRET"));
	run_cli_deinit(&run);

	RUN(&run, "-o", "json", "registry", "dump", folder);
	assert_int_equal(run.exit_code, 0);
	assert_non_null(
		strstr(run.out, "\"lease\":5,\"record\":\"memory\",\"id\":1,\"length\":65536"));
	assert_non_null(strstr(run.out, "\"secret\":{\"bytes\":6}"));
	assert_null(strstr(run.out, "SECRET"));
	for (size_t i = 0, lines = 0; run.out[i]; i++) {
		lines += run.out[i] == '\n';
		if (!run.out[i + 1])
			assert_int_equal(lines, 5);
	}
	run_cli_deinit(&run);
}

static void test_check(void **state)
{
	Ioasid__Registry__Batch batch = IOASID__REGISTRY__BATCH__INIT;
	Ioasid__Registry__Drop drop = IOASID__REGISTRY__DROP__INIT, *drops[] = {&drop};
	struct run_cli run;

	RUN(&run, "registry", "check", folder);
	assert_int_equal(run.exit_code, 0);
	assert_non_null(strstr(run.out, "ok"));
	run_cli_deinit(&run);

	drop.memory = 1;
	batch.drops = drops;
	batch.n_drops = 1;
	put(5, &batch);
	RUN(&run, "registry", "check", folder);
	assert_int_equal(run.exit_code, CLI_FAILED);
	assert_non_null(
		strstr(run.out, "    5  mapping of ioasid 2 at 0x0: its memory is not there"));
	assert_non_null(strstr(run.err, "DAMAGED"));
	run_cli_deinit(&run);

	RUN(&run, "registry", "check", "/nowhere/at/all");
	assert_int_equal(run.exit_code, CLI_FAILED);
	assert_non_null(strstr(run.err, "no registry"));
	run_cli_deinit(&run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dump),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests_name("cli registry", tests, setup, teardown);
}
