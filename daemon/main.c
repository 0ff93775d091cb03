/*
 * slabd: options, and off it goes.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"

#define CONFIG_PATH SYSCONFDIR "/slabd/slabd.conf"

static const char usage_text[] =
    "usage: slabd [-htUV] [-c file] [-s socket]\n"
    "  -c file    configuration (" CONFIG_PATH ")\n"
    "  -s socket  serve here instead of where the configuration says\n"
    "  -t         check the configuration and exit\n"
    "  -U         do not confine itself (for debuggers)\n"
    "  -V         print the version and exit\n";

static int
check_config(const char *path)
{
	struct config *conf;
	char *error = NULL;

	if (config_load(&conf, path, &error) != 0) {
		fprintf(stderr, "%s\n", error != NULL ? error : "no memory");
		free(error);
		return EX_CONFIG;
	}
	printf("%s: no errors, %zu %s\n", path, conf->npools,
	    conf->npools == 1 ? "pool" : "pools");
	config_free(conf);
	return EX_OK;
}

int
main(int argc, char *argv[])
{
	struct daemon_options options = {
	    .config_path = CONFIG_PATH, .confine = true};
	struct daemon daemon;
	int opt, status, check = 0;

	while ((opt = getopt(argc, argv, "c:hs:tUV")) != -1) {
		switch (opt) {
		case 'c':
			options.config_path = optarg;
			break;
		case 's':
			options.socket_path = optarg;
			break;
		case 't':
			check = 1;
			break;
		case 'U':
			options.confine = false;
			break;
		case 'V':
			printf("slabd %s\n", VERSION);
			return EX_OK;
		case 'h':
			fputs(usage_text, stdout);
			return EX_OK;
		default:
			fputs(usage_text, stderr);
			return EX_USAGE;
		}
	}
	if (optind < argc) {
		fputs(usage_text, stderr);
		return EX_USAGE;
	}
	if (check)
		return check_config(options.config_path);
	log_open(SLABD_LOG_INFO, NULL);
	daemon_start(&daemon, &options);
	status = daemon_run(&daemon);
	daemon_free(&daemon);
	return status;
}
