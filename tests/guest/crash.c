/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A broker that is killed while a client's device works, and the next one.
 *
 *	crash TENANTS-SOCKET EDU KILL START [lost]
 *
 * KILL and START are shell commands: the broker dies, the next one starts, and nothing can be
 * restored.  Real DMA goes on without a broker, as the kernel's objects live as long as the
 * keeper holds them.  The next broker ends them before it serves anybody, and after that
 * nothing is reached, although the client still has the device's fd.
 *
 * "lost": the keeper has lost them.  Then only the device's last holder can end its DMA, which
 * reaches what it reached; and until then nobody gets the device.
 */
#include "scene.h"

int main(int argc, char **argv)
{
	uint64_t memory, space, is;
	struct remains remains;
	struct actor ana, bob;
	const char *device;
	bool lost;

	if (argc != 5 && argc != 6) {
		fprintf(stderr, "usage: crash TENANTS EDU KILL START [lost]\n");
		return 2;
	}
	lost = argc == 6;
	device = argv[2];
	actor_start(&ana, UID_ANA);
	actor_start(&bob, UID_BOB);
	must(DO(&ana, ACT_CONNECT, .text = argv[1]), "connect");
	set_up(&ana, device, &memory, &space);
	is = load(&ana);
	remains_take(&remains, &ana);
	expect(remains_write(&remains, is), true, "bytes move");

	expect(system(argv[3]), 0, "the broker is killed");
	expect(DO(&ana, ACT_RELEASE, .text = device), -ECONNRESET, "the broker is gone");
	expect(remains_write(&remains, is), true, "without a broker DMA goes on");

	expect(system(argv[4]), 0, "the next broker starts");
	expect(remains_write(&remains, is), lost,
	       lost ? "the last holder's DMA goes on" : "it has ended what the last one left");
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
