/*
 * The configuration of the daemon: what slabd.conf(5) says, checked and with
 * every default filled in.
 *
 * A configuration that comes out of config_load() or config_parse() is whole:
 * every field is within the range named beside it, group and user names are
 * numbers, included files are merged, and no two pools have the same name.
 * Nobody changes it afterwards; a reload reads a new one and frees the old.
 */
#ifndef SLABD_DAEMON_CONF_H
#define SLABD_DAEMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cJSON;

#define CONFIG_SOCKET		"/run/slabd/slabd.sock" /* the default */
#define CONFIG_SOCKET_MAX	107u	   /* bytes that fit sun_path */
#define CONFIG_FILE_MAX		(1u << 20) /* bytes in one file */
#define CONFIG_POOLS_MAX	4096u	   /* in all files together */
#define CONFIG_NAME_MAX		63u	   /* bytes in a pool's name */
#define CONFIG_SLOT_SIZE_MAX	(1u << 30) /* bytes */
#define CONFIG_SEGMENT_MAX	65534u	   /* slots in a segment */
#define CONFIG_SLOTS_MAX	(1u << 24) /* slots in a pool */
#define CONFIG_POOL_CLIENTS_MAX 4095u	   /* attachments to a pool */
#define CONFIG_SLOT_ALIGN	64u	   /* slot_stride is a multiple */

enum config_log_level {
	CONFIG_LOG_ERROR,
	CONFIG_LOG_WARNING,
	CONFIG_LOG_INFO, /* the default */
	CONFIG_LOG_DEBUG,
};

/* Where a pool's region comes from. */
enum config_backing {
	CONFIG_BACKING_POSIX,	/* a POSIX shared-memory object */
	CONFIG_BACKING_MEMFD,	/* a sealed object without a name */
	CONFIG_BACKING_HUGETLB, /* the same, of huge pages */
};

enum config_who {
	CONFIG_USER = 1,
	CONFIG_GROUP,
};

/* One entry of a pool's access list; the entries that match a client add up. */
struct config_access {
	enum config_who who; /* what id is */
	uint32_t id;	     /* uid or gid, never (uint32_t)-1 */
	bool write;	     /* otherwise the client may only read */
};

#define CONFIG_ORPHAN_SECONDS 10u /* unless it says otherwise */

struct config_pool {
	char name[CONFIG_NAME_MAX + 1]; /* [A-Za-z0-9][A-Za-z0-9_.-]* */
	uint64_t slot_size;   /* bytes, as written; 1..CONFIG_SLOT_SIZE_MAX */
	uint64_t slot_stride; /* slot_size rounded up to CONFIG_SLOT_ALIGN */
	/* slots_per_segment * max_segments <= CONFIG_SLOTS_MAX */
	uint32_t slots_per_segment; /* 1..CONFIG_SEGMENT_MAX */
	uint32_t min_segments;	    /* kept attached; 0..max_segments */
	uint32_t max_segments;	    /* 1 or more */
	enum config_backing backing;
	uint32_t orphan_seconds; /* in-flight slots outlive senders; 0..86400 */
	struct config_access *access; /* none: whoever reaches the socket */
	size_t naccess;
	uint32_t quota;	      /* slots one client may hold, 0: no limit */
	uint32_t uid_quota;   /* slots one user may hold, 0: no limit */
	uint32_t reserve;     /* slots guaranteed to each client, 0: none */
	uint32_t max_clients; /* attachments; 1..CONFIG_POOL_CLIENTS_MAX */
	bool prefault;	      /* pages are cleared when they are attached */
	bool lock;	      /* attached segments are never swapped */
};

struct config {
	char *socket; /* absolute path, at most CONFIG_SOCKET_MAX bytes */
	mode_t mode;  /* of the socket; 0..0777 */
	bool has_user;
	uid_t user; /* the daemon's, if has_user; read at start alone */
	bool has_group;
	gid_t group; /* of the socket, if has_group */
	bool has_admin_group;
	gid_t admin_group;	      /* may administer, if has_admin_group */
	uint32_t max_clients;	      /* connections; 1..65535 */
	uint32_t max_clients_per_uid; /* connections of one user; 1..65535 */
	uint32_t handshake_seconds;   /* until a hello must come; 1..3600 */
	uint32_t shrink_seconds; /* a spare empty segment is kept; 0..86400 */
	enum config_log_level log_level;
	struct config_pool *pools; /* in the order read: the file's, then
				      those of included files */
	size_t npools;
};

/*
 * Reads the configuration file at path and the files it includes.
 *
 * Returns 0 and *out, to be given to config_free(); or -errno with *out NULL
 * and *error a text for people, to be freed, one or several lines without a
 * newline at the end (NULL only if there is no memory for it).  -EINVAL: the
 * content is wrong, and the text names file, line and column and shows the
 * line.  -EPERM: the file may be written by everybody or is no regular file.
 * -EFBIG: larger than CONFIG_FILE_MAX.  -ENOMEM, or what open(2) and read(2)
 * gave.
 *
 * Looks up users and groups, so it may wait for a directory service.  Safe in
 * any thread.
 */
int config_load(struct config **out, const char *path, char **error);

/*
 * The same from memory; text needs no NUL at its end and is not changed.  name
 * stands for the file in messages.  The key "include" is an error here.
 */
int config_parse(struct config **out, const char *text, size_t len,
    const char *name, char **error);

/* The socket's group, (gid_t)-1 where none is named. */
static inline gid_t
config_group(const struct config *config)
{
	return config->has_group ? config->group : (gid_t)-1;
}

/* Frees a configuration; NULL is accepted. */
void config_free(struct config *config);

/*
 * The configuration as an object that config_parse() reads back to the same:
 * included pools are inside, defaults are written out, users and groups are
 * numbers.  The caller deletes it; NULL if there is no memory.
 */
struct cJSON *config_to_json(const struct config *config);

#endif
