# Models of what lanes and restarts rest on, for spin: not part of `make check`;
# `make check-model` runs them, with MODEL_LONG=1 in larger sizes.

EXTRA_DIST += \
	tests/model/again.pml \
	tests/model/doorbell.pml \
	tests/model/grants.pml \
	tests/model/handoff.pml \
	tests/model/journal.pml \
	tests/model/magazine.pml \
	tests/model/marks.pml \
	tests/model/restart.pml \
	tests/model/revoke.pml \
	tests/model/seize.pml
dist_noinst_SCRIPTS += tests/model/check.sh

check-model:
	srcdir='$(abs_srcdir)' CC='$(CC)' $(SHELL) $(srcdir)/tests/model/check.sh
.PHONY: check-model
