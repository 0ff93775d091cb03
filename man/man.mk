# The manual: programs, file formats, libraries, overview and protocol.

dist_man_MANS += \
	man/libslabd.3 \
	man/slab.3 \
	man/slab_seg.3 \
	man/slabctl.1 \
	man/slabd-protocol.7 \
	man/slabd.7 \
	man/slabd.8 \
	man/slabd.conf.5 \
	man/slabd_alloc.3 \
	man/slabd_open.3 \
	man/slabd_pool_attach.3 \
	man/slabd_send.3
