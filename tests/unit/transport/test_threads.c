/* SPDX-License-Identifier: Apache-2.0 */
/* What threads share: mailbox, workers, watches, sinks. */
#include "server/transport/clock.h"
#include "server/transport/list.h"
#include "server/transport/mailbox.h"
#include "server/transport/sink.h"
#include "server/transport/watches.h"
#include "server/transport/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- mailbox ---- */

static atomic_uint n_wakes;
static sem_t woken;

static void wake(void *userdata)
{
	atomic_fetch_add(&n_wakes, 1);
	sem_post(&woken);
}

struct letter {
	struct mail mail;
	unsigned sender;
	unsigned number;
};

static unsigned next_number[4];
static unsigned n_delivered;

static void letter_deliver(struct mail *mail)
{
	struct letter *letter = container_of(mail, struct letter, mail);

	assert_int_equal(letter->number, next_number[letter->sender]++);
	n_delivered++;
	free(letter);
}

static struct mailbox mailbox;

static void *sender_main(void *userdata)
{
	for (unsigned i = 0; i < 20000; i++) {
		struct letter *letter = calloc(1, sizeof(*letter));

		letter->mail.deliver = letter_deliver;
		letter->sender = (unsigned)(uintptr_t)userdata;
		letter->number = i;
		mailbox_post(&mailbox, &letter->mail);
	}
	return NULL;
}

static void test_mailbox_loses_nothing_and_coalesces(void **state)
{
	pthread_t threads[4];

	assert_int_equal(mailbox_init(&mailbox, wake, NULL), 0);
	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, sender_main, (void *)i);
	while (n_delivered < 80000) {
		sem_wait(&woken);
		mailbox_deliver(&mailbox);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	/* Without a reader between them, two mails cost one wake. */
	atomic_store(&n_wakes, 0);
	memset(next_number, 0, sizeof(next_number));
	sender_main(NULL);
	assert_int_equal(atomic_load(&n_wakes), 1);
	mailbox_deliver(&mailbox);
	assert_int_equal(n_delivered, 100000);
	mailbox_deinit(&mailbox);
}

/* ---- workers ---- */

struct job {
	struct broker_work work;
	unsigned key;
	atomic_uint *running;
	atomic_uint *most;
	struct timespec pause;
	bool done;
	uint64_t done_at;
};

static void job_run(struct broker_work *work)
{
	struct job *job = container_of(work, struct job, work);
	unsigned now = atomic_fetch_add(job->running, 1) + 1, most = atomic_load(job->most);

	while (now > most && !atomic_compare_exchange_weak(job->most, &most, now))
		;
	nanosleep(&job->pause, NULL);
	atomic_fetch_sub(job->running, 1);
}

static pthread_t state_thread;

static void job_done(struct broker_work *work)
{
	struct job *job = container_of(work, struct job, work);

	assert_true(pthread_equal(pthread_self(), state_thread));
	assert_false(job->done);
	job->done = true;
	job->done_at = clock_us();
}

static void jobs_run(unsigned n_workers, struct job *jobs, size_t n)
{
	struct workers *workers;

	state_thread = pthread_self();
	while (sem_trywait(&woken) == 0)
		;
	assert_int_equal(mailbox_init(&mailbox, wake, NULL), 0);
	assert_int_equal(workers_new(n_workers, &mailbox, &workers), 0);
	for (size_t i = 0; i < n; i++) {
		jobs[i].work.run = job_run;
		jobs[i].work.done = job_done;
		jobs[i].work.fairness_key = (void *)(uintptr_t)(4096 * (jobs[i].key + 1));
		workers_submit(workers, &jobs[i].work);
	}
	assert_int_equal(workers_pending(workers), n);
	while (workers_pending(workers)) {
		sem_wait(&woken);
		mailbox_deliver(&mailbox);
	}
	for (size_t i = 0; i < n; i++)
		assert_true(jobs[i].done);
	workers_free(workers);
	mailbox_deinit(&mailbox);
}

static void test_one_key_never_takes_more_than_half(void **state)
{
	static const unsigned workers[][2] = {{1, 1}, {2, 1}, {3, 1}, {4, 2}, {8, 4}};

	for (size_t k = 0; k < sizeof(workers) / sizeof(workers[0]); k++) {
		atomic_uint running = 0, most = 0;
		struct job jobs[40] = {0};

		for (size_t i = 0; i < 40; i++)
			jobs[i] = (struct job){
				.running = &running,
				.most = &most,
				.pause.tv_nsec = 3000000,
			};
		jobs_run(workers[k][0], jobs, 40);
		assert_int_equal(atomic_load(&most), workers[k][1]);
	}
}

static void test_keys_take_turns(void **state)
{
	atomic_uint running = 0, most = 0;
	struct job jobs[60] = {0};
	size_t n_before = 0;

	/* Fifty jobs of one key come first, then ten of ten others. */
	for (size_t i = 0; i < 60; i++)
		jobs[i] = (struct job){
			.key = i < 50 ? 0 : i,
			.running = &running,
			.most = &most,
			.pause.tv_nsec = 2000000,
		};
	jobs_run(2, jobs, 60);
	for (size_t i = 0; i < 50; i++)
		n_before += jobs[i].done_at < jobs[59].done_at;
	/* In turns, the last of the ten comes after at most its number of the fifty. */
	assert_in_range(n_before, 0, 20);
}

static void test_everything_queued_is_run_at_the_end(void **state)
{
	atomic_uint running = 0, most = 0;
	struct job jobs[20] = {0};
	struct workers *workers;

	assert_int_equal(mailbox_init(&mailbox, wake, NULL), 0);
	assert_int_equal(workers_new(4, &mailbox, &workers), 0);
	state_thread = pthread_self();
	for (size_t i = 0; i < 20; i++) {
		jobs[i] = (struct job){
			.running = &running,
			.most = &most,
			.pause.tv_nsec = 1000000,
		};
		jobs[i].work.run = job_run;
		jobs[i].work.done = job_done;
		workers_submit(workers, &jobs[i].work);
	}
	while (workers_pending(workers)) {
		sem_wait(&woken);
		mailbox_deliver(&mailbox);
	}
	workers_free(workers);
	mailbox_deinit(&mailbox);
	assert_int_equal(atomic_load(&running), 0);
}

/* ---- watches ---- */

static unsigned n_fired;

static void on_fire(void *userdata)
{
	n_fired++;
	assert_ptr_equal(userdata, &n_fired);
}

static void test_watches(void **state)
{
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct watches *watches;
	uint64_t first, second, tokens[200];
	struct epoll_event event;
	int pipes[200][2];

	assert_int_equal(mailbox_init(&mailbox, wake, NULL), 0);
	assert_int_equal(watches_new(epoll_fd, UINT64_C(3) << 56, &mailbox, &watches), 0);
	for (size_t i = 0; i < 200; i++) {
		assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
		assert_int_equal(
			watches_add(watches, pipes[i][0], EPOLLIN, on_fire, &n_fired, &tokens[i]),
			0);
	}
	assert_int_equal(watches_add(watches, -1, EPOLLIN, on_fire, &n_fired, &first), -EBADF);

	assert_int_equal(write(pipes[150][1], "x", 1), 1);
	assert_int_equal(epoll_wait(epoll_fd, &event, 1, 1000), 1);
	assert_true(event.data.u64 == (UINT64_C(3) << 56 | tokens[150]));
	/* Fires once, however often the acceptor saw it. */
	watches_fire(watches, event.data.u64);
	watches_fire(watches, event.data.u64);
	mailbox_deliver(&mailbox);
	assert_int_equal(n_fired, 1);
	watches_fire(watches, event.data.u64);
	mailbox_deliver(&mailbox);
	assert_int_equal(n_fired, 1);

	/* Removed between the event and its delivery: nothing is called. */
	watches_fire(watches, tokens[7]);
	watches_remove(watches, tokens[7]);
	mailbox_deliver(&mailbox);
	assert_int_equal(n_fired, 1);

	/* A slot's next owner does not get the last one's event. */
	watches_remove(watches, tokens[9]);
	assert_int_equal(watches_add(watches, pipes[9][0], EPOLLIN, on_fire, &n_fired, &second), 0);
	assert_true(second != tokens[9]);
	watches_fire(watches, tokens[9]);
	mailbox_deliver(&mailbox);
	assert_int_equal(n_fired, 1);
	watches_fire(watches, second);
	mailbox_deliver(&mailbox);
	assert_int_equal(n_fired, 2);
	watches_remove(watches, second);
	watches_remove(watches, UINT64_C(0xffffffff));

	watches_free(watches);
	mailbox_deinit(&mailbox);
	for (size_t i = 0; i < 200; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	close(epoll_fd);
}

/* ---- sinks ---- */

static char path[64];

static char *read_all(void)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 20);

	assert_non_null(file);
	assert_non_null(text);
	assert_true(fread(text, 1, (1 << 20) - 1, file) < (1 << 20) - 1);
	fclose(file);
	unlink(path);
	return text;
}

static void put(struct sink *sink, const char *line)
{
	sink_put(sink, line, strlen(line));
}

static void test_sink_writes_all_at_its_end(void **state)
{
	struct sink *sink;
	char *text;

	assert_int_equal(sink_new(path, SINK_TEXT, 4096, &sink), 0);
	put(sink, "one");
	put(sink, "");
	put(sink, "tab\tand\nnewline\x7f");
	sink_free(sink);
	text = read_all();
	assert_string_equal(text, "one\n\ntab?and?newline?\n");
	free(text);
}

/* The ring of 100 bytes wraps many times; each line is whole or counted. */
static void test_sink_ring(void **state)
{
	unsigned written = 0, lost = 0, expected = 0;
	struct sink *sink;
	char *text, *line, *save;

	assert_int_equal(sink_new(path, SINK_TEXT, 100, &sink), 0);
	for (unsigned i = 0; i < 3000; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%05u", i);
		put(sink, number);
		if (i % 100 == 99) {
			struct timespec pause = {.tv_nsec = 2000000};

			nanosleep(&pause, NULL);
		}
	}
	lost = sink_lost(sink);
	sink_free(sink);
	text = read_all();
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned n;

		if (sscanf(line, "(%u lines lost)", &n) == 1) {
			expected += n;
			continue;
		}
		assert_int_equal(sscanf(line, "%05u", &n), 1);
		assert_int_equal(n, expected);
		expected++;
		written++;
	}
	assert_int_equal(written + lost, 3000);
	assert_true(lost > 0);
	free(text);
}

static void test_sink_json_losses(void **state)
{
	struct sink *sink;
	char *text;

	assert_int_equal(sink_new(path, SINK_JSON, 64, &sink), 0);
	/* Never fits. */
	put(sink, "{\"long\":\"1234567890123456789012345678901234567890123456789012345\"}");
	put(sink, "{\"a\":1}");
	put(sink, "{\"b\":2}");
	sink_free(sink);
	text = read_all();
	assert_string_equal(text, "{\"lost\":1,\"a\":1}\n{\"b\":2}\n");
	free(text);
	assert_int_equal(sink_new(path, SINK_JSON, 64, &sink), 0);
	put(sink, "{\"long\":\"1234567890123456789012345678901234567890123456789012345\"}");
	put(sink, "{}");
	sink_free(sink);
	text = read_all();
	assert_string_equal(text, "{\"lost\":1}\n");
	free(text);
}

static void test_sink_targets(void **state)
{
	struct sink *sink;
	struct stat st;

	assert_int_equal(sink_new("/nowhere/at/all", SINK_TEXT, 64, &sink), -ENOENT);
	assert_int_equal(symlink("/tmp/elsewhere", path), 0);
	assert_int_equal(sink_new(path, SINK_TEXT, 64, &sink), -ELOOP);
	unlink(path);
	assert_int_equal(sink_new("none", SINK_TEXT, 64, &sink), 0);
	put(sink, "nothing");
	assert_int_equal(sink_lost(sink), 0);
	sink_free(sink);
	sink_free(NULL);
	umask(022);
	assert_int_equal(sink_new(path, SINK_TEXT, 64, &sink), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	sink_free(sink);
	unlink(path);
}

/* Nobody reads the pipe: putting never waits, and the end waits a second or so. */
static void test_sink_blocked(void **state)
{
	char line[1000];
	struct sink *sink;
	uint64_t start;
	int reader;

	memset(line, 'x', sizeof(line));
	assert_int_equal(mkfifo(path, 0600), 0);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0);
	assert_int_equal(sink_new(path, SINK_TEXT, 1 << 18, &sink), 0);
	start = clock_us();
	for (int i = 0; i < 10000; i++)
		sink_put(sink, line, sizeof(line));
	assert_true(clock_us() - start < 1000000);
	assert_true(sink_lost(sink) > 5000);
	start = clock_us();
	sink_free(sink);
	assert_in_range(clock_us() - start, 500000, 4000000);
	close(reader);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mailbox_loses_nothing_and_coalesces),
		cmocka_unit_test(test_one_key_never_takes_more_than_half),
		cmocka_unit_test(test_keys_take_turns),
		cmocka_unit_test(test_everything_queued_is_run_at_the_end),
		cmocka_unit_test(test_watches),
		cmocka_unit_test(test_sink_writes_all_at_its_end),
		cmocka_unit_test(test_sink_ring),
		cmocka_unit_test(test_sink_json_losses),
		cmocka_unit_test(test_sink_targets),
		cmocka_unit_test(test_sink_blocked),
	};

	sem_init(&woken, 0, 0);
	snprintf(path, sizeof(path), "/tmp/ioasid-sink-%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
