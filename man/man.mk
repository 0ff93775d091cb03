# The manual: programs, file formats, libraries, overview and protocol.

dist_man_MANS += \
	man/slab.3 \
	man/slab_seg.3
