# What a system needs beside the programs: the configuration, the files that make
# slabd a service, the schema of its statistics, the shell's completion, and what
# there is to read beside the manual.

dist_doc_DATA = README.md ARCHITECTURE.md SECURITY.md NEWS LICENSE
dist_pkgdata_DATA = etc/slabd-stats.schema.json
dist_bashcompletion_DATA = etc/slabctl.bash

systemdsystemunit_DATA = etc/slabd.service etc/slabd.socket
sysusersdir = $(prefix)/lib/sysusers.d
tmpfilesdir = $(prefix)/lib/tmpfiles.d

EXTRA_DIST += etc/slabd.conf etc/slabd.service.in etc/slabd.socket.in \
	etc/sysusers.conf etc/tmpfiles.conf
CLEANFILES += $(systemdsystemunit_DATA)

# Not by configure, which would leave ${prefix} in the paths.
etc/slabd.service: etc/slabd.service.in
etc/slabd.socket: etc/slabd.socket.in
$(systemdsystemunit_DATA):
	$(AM_V_GEN)$(MKDIR_P) etc && sed \
		-e 's|@bindir[@]|$(bindir)|g' \
		-e 's|@sbindir[@]|$(sbindir)|g' \
		-e 's|@sysconfdir[@]|$(sysconfdir)|g' \
		$(srcdir)/$@.in >$@.tmp && mv $@.tmp $@

# A configuration that is there already is somebody's work.
install-data-local:
	$(MKDIR_P) "$(DESTDIR)$(sysconfdir)/slabd" \
		"$(DESTDIR)$(sysusersdir)" "$(DESTDIR)$(tmpfilesdir)"
	test -e "$(DESTDIR)$(sysconfdir)/slabd/slabd.conf" || \
		$(INSTALL_DATA) $(srcdir)/etc/slabd.conf \
		"$(DESTDIR)$(sysconfdir)/slabd/slabd.conf"
	$(INSTALL_DATA) $(srcdir)/etc/sysusers.conf \
		"$(DESTDIR)$(sysusersdir)/slabd.conf"
	$(INSTALL_DATA) $(srcdir)/etc/tmpfiles.conf \
		"$(DESTDIR)$(tmpfilesdir)/slabd.conf"

uninstall-local:
	rm -f "$(DESTDIR)$(sysusersdir)/slabd.conf" \
		"$(DESTDIR)$(tmpfilesdir)/slabd.conf"
	if cmp -s $(srcdir)/etc/slabd.conf \
	    "$(DESTDIR)$(sysconfdir)/slabd/slabd.conf"; then \
		rm -f "$(DESTDIR)$(sysconfdir)/slabd/slabd.conf"; fi
