# slabctl, and the examples: a file taken through a pool by several processes, and
# a client in Python that knows nothing but slabd-protocol(7).

bin_PROGRAMS += slabctl
slabctl_SOURCES = clients/slabctl.c \
	clients/output.c clients/output.h \
	clients/view.c clients/view.h
nodist_slabctl_SOURCES = clients/schema.h
slabctl_LDADD = lib/libslabdall.la $(CJSON_LIBS) -lm

# The schema as a string of C, for `slabctl schema`.
clients/schema.h: etc/slabd-stats.schema.json
	$(AM_V_GEN)$(MKDIR_P) clients && { \
		echo 'static const char schema[] ='; \
		sed 's/[\\"]/\\&/g; s/.*/"&\\n"/; $$s/$$/;/' \
		    $(srcdir)/etc/slabd-stats.schema.json; } >$@.tmp && \
	mv $@.tmp $@
BUILT_SOURCES += clients/schema.h
CLEANFILES += clients/schema.h clients/schema.h.tmp

noinst_PROGRAMS += clients/examples/filepipe
clients_examples_filepipe_SOURCES = \
	clients/examples/dispatch.c clients/examples/dispatch.h \
	clients/examples/filepipe.c \
	clients/examples/message.c clients/examples/message.h \
	clients/examples/sha256.c clients/examples/sha256.h \
	clients/examples/stages.c clients/examples/stages.h
clients_examples_filepipe_LDADD = lib/libslabd.la
dist_noinst_SCRIPTS += clients/examples/client.py
