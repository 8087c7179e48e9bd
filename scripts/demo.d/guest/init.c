/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first and only process of the guest of scripts/demo-guest: says on the console where the
 * kernel has its banner and where it has a string of its own, then stays on the processor, so
 * that CR3 is this process's whenever somebody looks.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static char greeting[64] = "hello from a process inside the guest";

static void say_banner(void)
{
	FILE *symbols = fopen("/proc/kallsyms", "re");
	char line[512];

	while (symbols && fgets(line, sizeof(line), symbols))
		if (strstr(line, " linux_banner\n"))
			printf("linux_banner 0x%.16s\n", line);
}

int main(void)
{
	volatile uint64_t turns = 0;

	mkdir("/proc", 0555);
	mount("proc", "/proc", "proc", 0, NULL);
	mlockall(MCL_CURRENT);
	say_banner();
	/* Written to, so that the page is this process's own. */
	greeting[sizeof(greeting) - 1] = 0;
	printf("greeting 0x%016lx\nready\n", (unsigned long)greeting);
	fflush(stdout);
	for (;;)
		turns++;
}
