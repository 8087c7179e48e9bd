/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A broker that is killed while a client's device works, and the next one.
 *
 *	crash TENANTS-SOCKET EDU BROKER-PID COMMAND
 *
 * COMMAND starts the next broker; it is run by the shell.  Real DMA goes on without a broker,
 * as the kernel's objects live as long as the keeper holds them.  The next broker knows
 * nothing of them: it ends them before it serves anybody, and after that nothing is reached,
 * although the client still has the device's fd.
 */
#include "scene.h"

#include <signal.h>
#include <unistd.h>

/* It is another one's child, and a zombie until that one looks. */
static void wait_for_end(pid_t pid)
{
	char path[64], text[512] = "", *state;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	for (int i = 0; i < 200; i++) {
		FILE *file = fopen(path, "r");

		if (!file)
			return;
		text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
		fclose(file);
		state = strrchr(text, ')');
		if (state && state[2] == 'Z')
			return;
		usleep(50000);
	}
}

int main(int argc, char **argv)
{
	uint64_t memory, space, is;
	struct remains remains;
	struct actor ana, bob;
	const char *device;
	pid_t broker;

	if (argc != 5) {
		fprintf(stderr, "usage: crash TENANTS EDU BROKER-PID COMMAND\n");
		return 2;
	}
	device = argv[2];
	broker = (pid_t)atoi(argv[3]);
	actor_start(&ana, UID_ANA);
	actor_start(&bob, UID_BOB);
	must(DO(&ana, ACT_CONNECT, .text = argv[1]), "connect");
	set_up(&ana, device, &memory, &space);
	is = load(&ana);
	remains_take(&remains, &ana);
	expect(remains_write(&remains, is), true, "bytes move");

	kill(broker, SIGKILL);
	wait_for_end(broker);
	expect(DO(&ana, ACT_RELEASE, .text = device), -ECONNRESET, "the broker is gone");
	expect(remains_write(&remains, is), true, "without a broker DMA goes on");

	expect(system(argv[4]), 0, "the next broker starts");
	expect(remains_write(&remains, is), false, "it has ended what the last one left");
	must(DO(&bob, ACT_CONNECT, .text = argv[1]), "connect");
	expect(DO(&bob, ACT_CLAIM, .text = device), -EBUSY, "whose holder still keeps the device");
	actor_end(&ana, false);
	remains_drop(&remains);
	expect(claim_in_time(&bob, device), 0, "until it lets go");
	must(DO(&bob, ACT_RELEASE, .text = device), "release");
	set_up(&bob, device, &memory, &space);
	moves(&bob, "and bytes of the next tenant move");
	actor_end(&bob, false);
	return report_failed;
}
