#include "config.h"

#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "headroom.h"

/* How one version of the kernel's control groups shows memory. */
struct cgroup_layout {
	const char *fstype;
	const char *option; /* of the mount; NULL: none is needed */
	const char *own;    /* starts our line of /proc/self/cgroup, behind
			       the hierarchy's number */
	const char *limit, *usage;
	const char *cache[2]; /* keys in memory.stat */
};

static const struct cgroup_layout cgroup_layouts[] = {
    {"cgroup", "memory", ":memory:", "memory.limit_in_bytes",
	"memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}},
    {"cgroup2", NULL, "::", "memory.max", "memory.current",
	{"inactive_file", "active_file"}},
};

static uint64_t
least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/*
 * The number in a file of one number, or behind `key` in a file of "key number"
 * lines. UINT64_MAX: no file, no key, or the word "max".
 */
static uint64_t
file_number(const char *path, const char *key)
{
	uint64_t number = UINT64_MAX;
	FILE *file = fopen(path, "re");
	size_t skip = key == NULL ? 0 : strlen(key);
	char line[256], *at;

	if (file == NULL)
		return UINT64_MAX;
	while (fgets(line, sizeof(line), file) != NULL) {
		if (key != NULL && (strncmp(line, key, skip) != 0 ||
				       strchr(": ", line[skip]) == NULL))
			continue;
		at = line + skip + strspn(line + skip, ": ");
		if (sscanf(at, "%" SCNu64, &number) != 1)
			number = UINT64_MAX;
		break;
	}
	fclose(file);
	return number;
}

static uint64_t
filesystem_room(int fd)
{
	struct statvfs fs;
	uint64_t room;

	/* A tmpfs without a limit has no blocks at all. */
	if (fstatvfs(fd, &fs) < 0 || fs.f_blocks == 0 ||
	    __builtin_mul_overflow(fs.f_bavail, fs.f_frsize, &room))
		return UINT64_MAX;
	return room;
}

static uint64_t
host_room(void)
{
	uint64_t available = file_number("/proc/meminfo", "MemAvailable");
	uint64_t swap = file_number("/proc/meminfo", "SwapFree");

	if (available == UINT64_MAX)
		return UINT64_MAX;
	return (available + (swap == UINT64_MAX ? 0 : swap)) * 1024;
}

/* Whether `options`, separated by commas, contain `option`. */
static bool
has_option(const char *options, const char *option)
{
	size_t len = strlen(option);
	const char *at = options;

	while ((at = strstr(at, option)) != NULL) {
		if ((at == options || at[-1] == ',') &&
		    strchr(",\n", at[len]) != NULL)
			return true;
		at += len;
	}
	return false;
}

/* Where a hierarchy is mounted, and which of its groups is at the mount. */
struct cgroup_mount {
	char root[PATH_MAX], at[PATH_MAX];
};

/* A line of mountinfo: ID PARENT DEV ROOT AT OPTIONS... - TYPE SOURCE OPTIONS
 */
static bool
mount_matches(const char *line, const struct cgroup_layout *layout,
    struct cgroup_mount *mount)
{
	const char *tail = strstr(line, " - ");
	char fstype[32];
	int options = 0;

	if (tail == NULL ||
	    sscanf(tail, " - %31s %*s %n", fstype, &options) != 1 ||
	    strcmp(fstype, layout->fstype) != 0 ||
	    (layout->option != NULL &&
		!has_option(tail + options, layout->option)))
		return false;
	return sscanf(line, "%*s %*s %*s %4095s %4095s", mount->root,
		   mount->at) == 2;
}

static bool
mount_find(const struct cgroup_layout *layout, struct cgroup_mount *mount)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	bool found = false;
	char *line = NULL;
	size_t size = 0;

	if (file == NULL)
		return false;
	while (!found && getline(&line, &size, file) >= 0)
		found = mount_matches(line, layout, mount);
	free(line);
	fclose(file);
	return found;
}

/* Our own group's path within the hierarchy, from a line "NUMBER:NAMES:PATH".
 */
static bool
own_group(const struct cgroup_layout *layout, char path[PATH_MAX])
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	size_t skip = strlen(layout->own), size = 0;
	bool found = false;
	char *line = NULL, *at;

	if (file == NULL)
		return false;
	while (!found && getline(&line, &size, file) >= 0) {
		at = strchr(line, ':');
		found = at != NULL && strncmp(at, layout->own, skip) == 0 &&
			sscanf(at + skip, "%4095s", path) == 1;
	}
	free(line);
	fclose(file);
	return found;
}

static uint64_t
group_number(const char *group, const char *name, const char *key)
{
	char path[2 * PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return file_number(path, key);
}

static uint64_t
group_room(const struct cgroup_layout *layout, const char *group)
{
	uint64_t limit = group_number(group, layout->limit, NULL);
	uint64_t usage = group_number(group, layout->usage, NULL);
	uint64_t cache = 0, part;

	if (limit == UINT64_MAX || usage == UINT64_MAX)
		return UINT64_MAX;
	for (int i = 0; i < 2; i++) {
		part = group_number(group, "memory.stat", layout->cache[i]);
		if (part != UINT64_MAX)
			cache += part;
	}
	usage -= least(usage, cache);
	return limit - least(limit, usage);
}

/* The least room in our group and in every one above it that can be seen. */
static uint64_t
hierarchy_room(const struct cgroup_layout *layout)
{
	char own[PATH_MAX], group[2 * PATH_MAX];
	struct cgroup_mount mount;
	uint64_t room = UINT64_MAX;
	size_t root;

	if (!own_group(layout, own) || !mount_find(layout, &mount))
		return UINT64_MAX;
	root = strcmp(mount.root, "/") == 0 ? 0 : strlen(mount.root);
	snprintf(group, sizeof(group), "%s%s", mount.at,
	    strncmp(own, mount.root, root) == 0 ? own + root : "");
	while (strlen(group) > strlen(mount.at)) {
		room = least(room, group_room(layout, group));
		*strrchr(group, '/') = '\0';
	}
	return least(room, group_room(layout, mount.at));
}

uint64_t
headroom(int fd)
{
	uint64_t room = least(filesystem_room(fd), host_room());

	for (size_t i = 0;
	     i < sizeof(cgroup_layouts) / sizeof(cgroup_layouts[0]); i++)
		room = least(room, hierarchy_room(&cgroup_layouts[i]));
	return room;
}
