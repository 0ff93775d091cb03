# The manual: programs, file formats, libraries, overview and protocol.

dist_man_MANS += \
	man/slab.3 \
	man/slab_seg.3 \
	man/slabd.8 \
	man/slabd.conf.5
