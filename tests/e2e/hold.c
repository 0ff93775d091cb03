/*
 * hold POOL LABEL HELD SENT: takes slots out of a pool and keeps them, so that
 * a test can see who has them. Says "ready" when it has them; gives all back
 * at the end of its standard input. Dies with whoever started it.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "slabd.h"

static int
take(struct slabd_pool *pool, unsigned held, unsigned sent)
{
	slabd_ref ref;
	void *slot;

	for (unsigned i = 0; i < held + sent; i++) {
		slot = slabd_alloc(pool);
		if (slot == NULL)
			return -1;
		if (i >= held && slabd_send(pool, slot, &ref) < 0)
			return -1;
	}
	return 0;
}

int
main(int argc, char **argv)
{
	struct slabd_options options = SLABD_OPTIONS_INIT;
	struct slabd_pool *pool = NULL;
	struct slabd *slabd = NULL;
	int status = 1;

	if (argc != 5) {
		fputs("usage: hold POOL LABEL HELD SENT\n", stderr);
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	options.label = argv[2];
	if (slabd_open_options(&slabd, &options) < 0 ||
	    slabd_pool_attach(&pool, slabd, argv[1], SLABD_NO_LANE) < 0 ||
	    take(pool, (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4])) < 0) {
		fprintf(stderr, "hold: %s\n", slabd_error_detail());
		goto close;
	}
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	status = 0;
close:
	slabd_pool_detach(pool);
	slabd_close(slabd);
	return status;
}
