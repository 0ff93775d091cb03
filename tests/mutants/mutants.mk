# Defects on purpose, one patch each, and the tests that must catch them. `make
# check` sees that the patches still apply; `make check-mutants` tries them in a
# copy of the sources, with MUTANTS='003 017' only those.

EXTRA_DIST += tests/mutants
if TESTS_ENABLED
TESTS += tests/mutants/mutants.sh
endif

mutants_run = srcdir='$(abs_builddir)/mutants/src' \
	mutants='$(abs_builddir)/mutants'
check-mutants:
	rm -rf mutants
	$(MKDIR_P) mutants
	$(MAKE) distdir distdir=mutants/src
	$(mutants_run) $(SHELL) mutants/src/tests/mutants/mutants.sh --run
mostlyclean-local:
	rm -rf mutants
.PHONY: check-mutants
