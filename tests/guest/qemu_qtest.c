/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See qemu_qtest.h.  Invariant: one request is under way at a time, so that a line that is no
 * interrupt is the answer to it.
 */
#include "qemu_qtest.h"

#include "qemu_socket.h"
#include "report.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <unistd.h>

#define WAIT_MS 10000

static void __attribute__((noreturn)) broken(const char *what)
{
	report(0, "qtest", what);
	exit(1);
}

void qtest_connect(struct qtest *q, const char *path)
{
	*q = (struct qtest){.fd = qemu_socket_connect(path)};
	need(q->fd, "qtest");
}

void qtest_close(struct qtest *q)
{
	close(q->fd);
	q->fd = -1;
}

/* The next line, without its end; what was read beyond it stays. */
static const char *next_line(struct qtest *q, char line[QTEST_LINE])
{
	char *end;
	ssize_t n;

	while (!(end = memchr(q->line, '\n', q->have))) {
		if (q->have == sizeof(q->line))
			broken("a line is too long");
		n = read(q->fd, q->line + q->have, sizeof(q->line) - q->have);
		if (n <= 0)
			broken("QEMU has closed it");
		q->have += (size_t)n;
	}
	*end++ = '\0';
	memcpy(line, q->line, (size_t)(end - q->line));
	q->have -= (size_t)(end - q->line);
	memmove(q->line, end, q->have);
	return line;
}

static bool is_interrupt(struct qtest *q, const char *line)
{
	unsigned int irq;

	if (strncmp(line, "IRQ ", 4))
		return false;
	if (sscanf(line, "IRQ raise %u", &irq) == 1 && irq < 32)
		q->raised |= UINT32_C(1) << irq;
	return true;
}

static void send_line(struct qtest *q, const char *line, size_t n)
{
	if (!qemu_socket_send(q->fd, line, n, -1))
		broken("QEMU takes no request");
}

/* What follows "OK", into answer. */
static void answer(struct qtest *q, char line[QTEST_LINE])
{
	while (is_interrupt(q, next_line(q, line)))
		;
	if (strncmp(line, "OK", 2))
		broken(line);
	memmove(line, line + 2, strlen(line + 2) + 1);
}

static uint64_t __attribute__((format(printf, 2, 3))) ask(struct qtest *q, const char *format, ...)
{
	char line[QTEST_LINE];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	send_line(q, line, (size_t)n);
	answer(q, line);
	return strtoull(line, NULL, 0);
}

static char letter(unsigned int size)
{
	return size == 1 ? 'b' : size == 2 ? 'w' : 'l';
}

void qtest_out(struct qtest *q, uint16_t port, unsigned int size, uint32_t value)
{
	ask(q, "out%c 0x%x 0x%" PRIx32 "\n", letter(size), port, value);
}

uint32_t qtest_in(struct qtest *q, uint16_t port, unsigned int size)
{
	return (uint32_t)ask(q, "in%c 0x%x\n", letter(size), port);
}

void qtest_write64(struct qtest *q, uint64_t address, uint64_t value)
{
	ask(q, "writeq 0x%" PRIx64 " 0x%" PRIx64 "\n", address, value);
}

void qtest_write32(struct qtest *q, uint64_t address, uint32_t value)
{
	ask(q, "writel 0x%" PRIx64 " 0x%" PRIx32 "\n", address, value);
}

uint64_t qtest_read64(struct qtest *q, uint64_t address)
{
	return ask(q, "readq 0x%" PRIx64 "\n", address);
}

uint32_t qtest_read32(struct qtest *q, uint64_t address)
{
	return (uint32_t)ask(q, "readl 0x%" PRIx64 "\n", address);
}

void qtest_write(struct qtest *q, uint64_t address, const void *bytes, size_t n)
{
	char line[QTEST_LINE];
	int used = snprintf(line, sizeof(line), "write 0x%" PRIx64 " 0x%zx 0x", address, n);

	for (size_t i = 0; i < n; i++)
		used += sprintf(line + used, "%02x", ((const uint8_t *)bytes)[i]);
	line[used++] = '\n';
	send_line(q, line, (size_t)used);
	answer(q, line);
}

void qtest_read(struct qtest *q, uint64_t address, void *bytes, size_t n)
{
	char line[QTEST_LINE];
	int used = snprintf(line, sizeof(line), "read 0x%" PRIx64 " 0x%zx\n", address, n);

	send_line(q, line, (size_t)used);
	answer(q, line);
	for (size_t i = 0; i < n; i++)
		if (sscanf(line + 3 + 2 * i, "%2hhx", (uint8_t *)bytes + i) != 1)
			broken("it reads fewer bytes");
}

void qtest_intercept(struct qtest *q, const char *controller)
{
	ask(q, "irq_intercept_in %s\n", controller);
}

bool qtest_was_raised(struct qtest *q, unsigned int irq)
{
	const uint32_t bit = UINT32_C(1) << irq;
	struct pollfd p = {.fd = q->fd, .events = POLLIN};
	char line[QTEST_LINE];

	while (!(q->raised & bit)) {
		if (!memchr(q->line, '\n', q->have) && poll(&p, 1, WAIT_MS) <= 0)
			return false;
		if (!is_interrupt(q, next_line(q, line)))
			broken("an answer that nobody asked for");
	}
	q->raised &= ~bit;
	return true;
}
