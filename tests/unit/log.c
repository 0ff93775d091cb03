#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sysexits.h>

#include "daemon/log.h"
#include "scratch.h"

static int saved_stderr, log_pipe;

/* Standard error becomes a pipe, and there is no journal. */
static void
capture(void)
{
	int ends[2];

	scratch_open();
	unsetenv("JOURNAL_STREAM");
	cr_assert_eq(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	/* What the log writes to must be one that can make it wait. */
	fcntl(ends[1], F_SETFL, 0);
	saved_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	log_pipe = ends[0];
	log_open(SLABD_LOG_INFO, NULL);
}

static void
restore(void)
{
	dup2(saved_stderr, STDERR_FILENO);
	scratch_close();
}

TestSuite(log, .timeout = 20, .init = capture, .fini = restore);

/* Everything logged since the last call. */
static const char *
logged(void)
{
	static char text[1 << 17];
	ssize_t n = read(log_pipe, text, sizeof(text) - 1);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

Test(log, line_has_subsystem_and_text)
{
	log_info("client", "%d of %s", 3, "four");
	cr_assert_str_eq(logged(), "slabd: client: 3 of four\n");
	log_info(NULL, "whole");
	cr_assert_str_eq(logged(), "slabd: whole\n");
}

Test(log, level_decides)
{
	log_set_level(SLABD_LOG_WARN);
	log_error("a", "1");
	log_warn("a", "2");
	log_info("a", "3");
	log_debug("a", "4");
	cr_assert_str_eq(logged(), "slabd: a: 1\nslabd: a: 2\n");
	log_set_level(SLABD_LOG_DEBUG);
	log_info("a", "3");
	log_debug("a", "4");
	cr_assert_str_eq(logged(), "slabd: a: 3\nslabd: a: 4\n");
	log_set_level(SLABD_LOG_ERROR);
	log_warn("a", "2");
	cr_assert_str_eq(logged(), "");
}

Test(log, debug_lines_of_chosen_subsystems_only)
{
	log_open(SLABD_LOG_DEBUG, "pool,helper");
	log_debug("pool", "1");
	log_debug("helper", "2");
	log_debug("poo", "no");
	log_debug("pools", "no");
	log_debug("client", "no");
	log_info("client", "3");
	log_debug(NULL, "4");
	cr_assert_str_eq(logged(), "slabd: pool: 1\nslabd: helper: 2\n"
				   "slabd: client: 3\nslabd: 4\n");
}

Test(log, every_line_of_a_text_is_a_line)
{
	log_error("config", "a\nb\n");
	cr_assert_str_eq(logged(), "slabd: config: a\nslabd: config: b\n");
}

Test(log, long_line_is_cut)
{
	char text[2 * LOG_LINE_MAX];
	const char *line;
	size_t len;

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_info("a", "%s", text);
	line = logged();
	len = strlen(line);
	cr_assert_lt(len, LOG_LINE_MAX);
	cr_assert_gt(len, LOG_LINE_MAX - 8);
	cr_assert_str_eq(line + len - 5, "x...\n");
}

/* The journal's stream is known by device and inode. */
static void
set_journal(int off)
{
	struct stat st;
	char stream[64];

	cr_assert_eq(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
	    (uintmax_t)st.st_ino + (uintmax_t)off);
	setenv("JOURNAL_STREAM", stream, 1);
	log_open(SLABD_LOG_DEBUG, NULL);
}

Test(log, journal_gets_priorities)
{
	set_journal(0);
	log_error("a", "x\ny");
	log_warn("a", "x");
	log_info(NULL, "x");
	log_debug("a", "x");
	cr_assert_str_eq(
	    logged(), "<3>a: x\n<3>a: y\n<4>a: x\n<6>x\n<7>a: x\n");
}

Test(log, somebody_elses_journal_gets_none)
{
	set_journal(1);
	log_error("a", "x");
	cr_assert_str_eq(logged(), "slabd: a: x\n");
	setenv("JOURNAL_STREAM", "nonsense", 1);
	log_open(SLABD_LOG_DEBUG, NULL);
	log_error("a", "x");
	cr_assert_str_eq(logged(), "slabd: a: x\n");
}

Test(log, errno_survives)
{
	close(log_pipe);
	signal(SIGPIPE, SIG_IGN);
	errno = ENOSPC;
	log_error("a", "x");
	cr_assert_eq(errno, ENOSPC);
}

Test(log, percent_m_is_the_callers)
{
	errno = ENOSPC;
	log_error("a", "%m");
	cr_assert_str_eq(logged(), "slabd: a: No space left on device\n");
}

Test(log, full_pipe_drops_and_tells)
{
	unsigned long lost = 0;
	const char *text;
	char *last;

	cr_assert_gt(fcntl(STDERR_FILENO, F_SETPIPE_SZ, 8192), 0);
	for (int i = 0; i < 1000; i++)
		log_info("a", "a line of some length to fill the pipe with");
	text = logged();
	cr_assert_gt(strlen(text), 0);
	cr_assert_null(strstr(text, "lost"));
	log_info("a", "again");
	text = logged();
	cr_assert_eq(sscanf(text, "slabd: %lu lines of log were lost\n", &lost),
	    1, "%s", text);
	cr_assert_gt(lost, 800);
	cr_assert_lt(lost, 1000);
	last = strstr(text, "slabd: a: ");
	cr_assert_not_null(last);
	cr_assert_str_eq(last, "slabd: a: again\n");
	log_info("a", "once");
	cr_assert_str_eq(logged(), "slabd: a: once\n");
}

Test(log, quote_escapes)
{
	static const struct {
		const char *text, *quoted;
	} table[] = {
	    {"", "\"\""},
	    {"plain ~", "\"plain ~\""},
	    {"a\"b\\c", "\"a\\\"b\\\\c\""},
	    {"\n\r\t\033[2J\x7f", "\"\\x0a\\x0d\\x09\\x1b[2J\\x7f\""},
	    {"\xc3\xa4\xff", "\"\\xc3\\xa4\\xff\""},
	    {"%s%n", "\"%s%n\""},
	    {NULL, "(null)"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_assert_str_eq(log_quote(table[i].text), table[i].quoted);
}

/* Texts of one character, which is `width` bytes long when quoted. */
static void
check_cut(char c, size_t width)
{
	char text[2000];

	for (size_t len = 0; len < sizeof(text); len++) {
		const char *quoted;
		size_t n;

		memset(text, c, len);
		text[len] = '\0';
		quoted = log_quote(text);
		n = strlen(quoted);
		cr_assert_lt(n, LOG_QUOTE_MAX);
		if (quoted[n - 1] == '"') {
			cr_assert_eq(n, len * width + 2);
			continue;
		}
		cr_assert_str_eq(quoted + n - 4, "\"...");
		cr_assert_gt(n, LOG_QUOTE_MAX - 8);
	}
}

Test(log, quote_is_cut)
{
	check_cut('x', 1);
	check_cut('"', 2);
	check_cut('\n', 4);
}

Test(log, limit_lets_some_through_and_counts_the_rest)
{
	struct log_limit limit = LOG_LIMIT_INIT("client");
	unsigned allowed = 0;

	for (int i = 0; i < 50; i++)
		allowed += log_allowed(&limit);
	cr_assert_eq(allowed, LOG_LIMIT_LINES);
	cr_assert_str_eq(logged(), "");
	limit.since_ms -= LOG_LIMIT_MS; /* as if the window had passed */
	cr_assert(log_allowed(&limit));
	cr_assert_str_eq(
	    logged(), "slabd: client: 40 similar messages were left out\n");
	cr_assert(log_allowed(&limit));
	cr_assert_str_eq(logged(), "");
}

Test(log, limit_tells_at_its_end)
{
	struct log_limit limit = {0};

	for (unsigned i = 0; i < LOG_LIMIT_LINES + 2; i++)
		log_allowed(&limit);
	log_limit_end(&limit);
	cr_assert_str_eq(logged(), "slabd: 2 similar messages were left out\n");
	log_limit_end(&limit);
	cr_assert_str_eq(logged(), "");
}

/* Before a leak checker, which would look at a forked copy of the test. */
static void
leave(int status, void *arg)
{
	(void)arg;
	_exit(status);
}

static int
fatal_child(void *arg)
{
	on_exit(leave, arg);
	fatal(EX_CONFIG, "%s: no good", "slabd.conf");
}

Test(log, fatal_exits_with_its_status)
{
	cr_assert_eq(child_wait(child_start(fatal_child, NULL)), EX_CONFIG);
	cr_assert_str_eq(logged(), "slabd: slabd.conf: no good\n");
}
