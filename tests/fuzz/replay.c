#include "config.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include "replay.h"

#define INPUT_MAX (1u << 20)

static int
replay(const char *path)
{
	static uint8_t data[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	size_t n;

	if (f == NULL) {
		perror(path);
		return -1;
	}
	n = fread(data, 1, sizeof(data), f);
	fclose(f);
	return LLVMFuzzerTestOneInput(data, n);
}

int
fuzz_replay(int argc, char **argv, const char *corpus)
{
	const char *srcdir = getenv("srcdir");
	glob_t files = {0};
	char pattern[4096];
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= replay(argv[i]);
	if (argc > 1)
		return failed != 0;
	snprintf(pattern, sizeof(pattern), "%s/tests/fuzz/corpus/%s/*",
	    srcdir != NULL ? srcdir : ".", corpus);
	if (glob(pattern, 0, NULL, &files) != 0) {
		fprintf(stderr, "no corpus: %s\n", pattern);
		return 1;
	}
	for (size_t i = 0; i < files.gl_pathc; i++)
		failed |= replay(files.gl_pathv[i]);
	printf("%zu files replayed\n", files.gl_pathc);
	globfree(&files);
	return failed != 0;
}
