/*
 * The main program of a fuzz target built with -DREPLAY, for compilers that
 * have no fuzzer: runs the files it is given, or else the target's corpus.
 */
#ifndef SLABD_TESTS_FUZZ_REPLAY_H
#define SLABD_TESTS_FUZZ_REPLAY_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Returns what main() shall. `corpus` is the folder below tests/fuzz/corpus. */
int fuzz_replay(int argc, char **argv, const char *corpus);

#endif
