#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/event.h"
#include "daemon/pool.h"
#include "host.h"
#include "input.h"

static char dir[] = "/tmp/slabd-fuzz.XXXXXX";

static const char *
write_config(const char *config)
{
	static char path[64];
	char text[2048];
	int fd, len;

	must(mkdtemp(dir) != NULL, "mkdtemp");
	snprintf(path, sizeof(path), "%s/c", dir);
	len = snprintf(text, sizeof(text), config, dir);
	must(len > 0 && (size_t)len < sizeof(text), "a long configuration");
	for (int i = 0; i < len; i++)
		text[i] = text[i] == '\'' ? '"' : text[i];
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	must(fd >= 0 && write(fd, text, (size_t)len) == len, "config");
	close(fd);
	return path;
}

void
host_begin(struct daemon *d, const char *config)
{
	struct daemon_options options = {.config_path = write_config(config)};

	daemon_start(d, &options);
	while (d->listener == NULL)
		loop_poll(d->loop);
}

void
host_drop_names(struct daemon *d)
{
	struct pool *p;

	TAILQ_FOREACH (p, &d->pools, entry) {
		region_unlink(&p->region);
		region_unlink(&p->ledger_region);
		region_unlink(&p->claims.region);
	}
	unlink(d->instance.socket_path);
}

void
host_end(struct daemon *d)
{
	static const char *const names[] = {"c", "s.lock"};
	char path[64];

	daemon_free(d);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}
