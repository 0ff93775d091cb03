/*
 * filepipe: takes a file through a pool with processes of its own for reading,
 * hashing and writing, and shows that killing the ones in the middle loses
 * neither a byte nor a slot. An example, and a test on real input.
 */
#include "config.h"

#include <sys/stat.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dispatch.h"

static _Noreturn void
usage(void)
{
	fprintf(stderr,
	    "usage: filepipe [-s SOCKET] [-p POOL] [-w WORKERS] [-k KILLS]"
	    " INPUT OUTPUT\n"
	    "  -s SOCKET   the daemon's, if not where it usually is\n"
	    "  -p POOL     to take slots from (frames)\n"
	    "  -w WORKERS  processes that hash chunks, 1 to %u (3)\n"
	    "  -k KILLS    how often to kill -9 one of them on the way (0)\n",
	    DISPATCH_WORKERS_MAX);
	exit(2);
}

static unsigned
number(const char *text, unsigned least, unsigned most)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || *text == '-' ||
	    n < least || n > most)
		usage();
	return (unsigned)n;
}

/* Opens both; an output that is the input must not be emptied. */
static int
open_files(struct plan *plan, const char *input, const char *output)
{
	struct stat in, out;

	plan->input = open(input, O_RDONLY | O_CLOEXEC);
	if (plan->input < 0 || fstat(plan->input, &in) < 0) {
		fprintf(stderr, "filepipe: %s: %s\n", input, strerror(errno));
		return 1;
	}
	plan->output = open(output, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (plan->output < 0 || fstat(plan->output, &out) < 0) {
		fprintf(stderr, "filepipe: %s: %s\n", output, strerror(errno));
		return 1;
	}
	if (in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
		fprintf(stderr, "filepipe: %s: is the input\n", output);
		return 1;
	}
	if (S_ISREG(out.st_mode) && ftruncate(plan->output, 0) < 0) {
		fprintf(stderr, "filepipe: %s: %s\n", output, strerror(errno));
		return 1;
	}
	return 0;
}

/* What was done, by whom; 1 when what was written is not what was read. */
static int
report(const char *input, unsigned workers, const struct dispatch_result *r)
{
	char read[2 * SHA256_BYTES + 1], written[2 * SHA256_BYTES + 1];
	int differ = memcmp(r->read, r->written, SHA256_BYTES) != 0;

	sha256_text(r->read, read);
	sha256_text(r->written, written);
	printf("%s: %" PRIu64 " bytes, %" PRIu64 " chunks of %" PRIu64 "\n",
	    input, r->bytes, r->chunks, r->chunk_bytes);
	printf("    read     %s\n    written  %s  %s\n\n", read, written,
	    differ ? "DIFFERENT" : "equal");
	printf("    worker      chunks  killed\n");
	for (unsigned i = 0; i < workers; i++)
		printf("    %-6u%12" PRIu64 "%8u\n", i + 1,
		    r->workers[i].chunks, r->workers[i].killed);
	printf("    all   %12" PRIu64 "%8u  chunks done again: %" PRIu64 "\n",
	    r->chunks, r->killed, r->retries);
	return differ;
}

int
main(int argc, char **argv)
{
	static struct dispatch_result result;
	struct plan plan = {.pool = "frames"};
	unsigned workers = 3, kills = 0;
	int option;

	while ((option = getopt(argc, argv, "s:p:w:k:")) != -1) {
		switch (option) {
		case 's':
			plan.socket = optarg;
			break;
		case 'p':
			plan.pool = optarg;
			break;
		case 'w':
			workers = number(optarg, 1, DISPATCH_WORKERS_MAX);
			break;
		case 'k':
			kills = number(optarg, 0, 1000000);
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 2)
		usage();
	/* One at each worker, one waiting for it, some to read and write. */
	plan.window = 2 * workers + 2;
	if (open_files(&plan, argv[optind], argv[optind + 1]) != 0 ||
	    dispatch_run(&plan, workers, kills, &result) != 0)
		return 1;
	return report(argv[optind], workers, &result);
}
