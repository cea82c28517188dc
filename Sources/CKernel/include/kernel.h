#ifndef MAILSYNC_KERNEL_H
#define MAILSYNC_KERNEL_H
#include <stddef.h>
#include <stdint.h>

// Calls and constants that Swift's Glibc module lacks, one C function each; library `Linux` is the only user.
//
// _GNU_SOURCE is defined in kernel.c and never here: in a header it changes system types between clang modules.
// Every function returns what the call returns (-1 and errno on failure) unless its line says otherwise.
// kernel.c asserts that each number below is the system's.
enum {
    MS_O_PATH = 010000000,
    MS_O_NOATIME = 01000000,
    MS_RESOLVE_NO_MAGICLINKS = 0x02,
    MS_RESOLVE_NO_SYMLINKS = 0x04,
    MS_RESOLVE_BENEATH = 0x08,
    MS_RENAME_NOREPLACE = 1,
    MS_UTIME_OMIT = 0x3ffffffe,
    MS_SEEK_DATA = 3,
    MS_SEEK_HOLE = 4,
};

// Landlock's rights, which older headers have only some of (Documentation/userspace-api/landlock.rst).
enum {
    MS_LANDLOCK_TRUNCATE = 1 << 14,
    /// WRITE_FILE, REMOVE_*, MAKE_*, REFER, TRUNCATE.
    MS_LANDLOCK_WRITING = 1 << 1 | 0x3ff << 4 | MS_LANDLOCK_TRUNCATE,
    MS_LANDLOCK_BIND_TCP = 1 << 0,
    MS_LANDLOCK_CONNECT_TCP = 1 << 1,
};

int ms_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int ms_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags);
int ms_syncfs(int descriptor);
/// When it was made, ns since 1970 (statx's btime); 0 where the file system does not keep that.
int ms_birth(int descriptor, int64_t *nanoseconds);

typedef struct {
    uint32_t type;
    uint64_t block_bytes, total_blocks, free_blocks, available_blocks, total_inodes, free_inodes;
} ms_filesystem;
int ms_fstatfs(int descriptor, ms_filesystem *out);

/// `lock`: 0 none, 1 shared, 2 exclusive. F_OFD_SETLK: never waits. A length of 0 reaches to the end, wherever that is.
int ms_ofd_lock(int descriptor, int lock, int64_t start, int64_t length);
/// F_OFD_SETLKW for a shared lock of the whole file.
int ms_ofd_await_shared(int descriptor);
/// F_OFD_GETLK for an exclusive lock: what is in its way, in the same numbers; `process` is -1 for an OFD lock.
int ms_ofd_conflict(int descriptor, int64_t start, int64_t length, int *lock, int32_t *process);

ptrdiff_t ms_flistxattr(int descriptor, char *names, size_t bytes);
ptrdiff_t ms_fgetxattr(int descriptor, const char *name, void *value, size_t bytes);
int ms_fsetxattr(int descriptor, const char *name, const void *value, size_t bytes);
int ms_fremovexattr(int descriptor, const char *name);

/// An eventfd, non-blocking, closed on exec.
int ms_eventfd(void);
/// An accepted connection, closed on exec, blocking.
int ms_accept4(int listener);
ptrdiff_t ms_getrandom(void *bytes, size_t count);
/// Puts the calling thread (and what it later starts) into the idle class of disk scheduling.
int ms_ioprio_idle(void);
/// Bounds how many arenas malloc has for all threads; 1 if it took notice.
int ms_limit_arenas(int count);
/// Gives pages of which malloc uses nothing back to the system; 1 if there were any.
int ms_trim_heap(void);
/// Names the calling thread; returns an error number, as pthread calls do. At most 15 bytes.
int ms_set_thread_name(const char *name);
/// Landlock's version, -1 where there is none.
int ms_landlock_version(void);
/// A rule set that forbids these rights but where a rule allows them; closed on exec.
int ms_landlock_create(uint64_t file_rights, uint64_t port_rights);
int ms_landlock_allow_path(int rules, int directory, uint64_t rights);
int ms_landlock_allow_port(int rules, uint64_t port, uint64_t rights);
/// For the calling thread and what it starts: no new privileges, and only what `rules` allow.
int ms_landlock_restrict(int rules);
/// The system's words for an error number, written into `buffer` or constant.
const char *ms_strerror(int number, char *buffer, size_t bytes);
#endif
