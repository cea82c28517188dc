#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

_Static_assert(MS_O_PATH == O_PATH, "O_PATH");
_Static_assert(MS_O_NOATIME == O_NOATIME, "O_NOATIME");
_Static_assert(MS_RESOLVE_NO_MAGICLINKS == RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS");
_Static_assert(MS_RESOLVE_NO_SYMLINKS == RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS");
_Static_assert(MS_RESOLVE_BENEATH == RESOLVE_BENEATH, "RESOLVE_BENEATH");
_Static_assert(MS_RENAME_NOREPLACE == RENAME_NOREPLACE, "RENAME_NOREPLACE");
_Static_assert(MS_UTIME_OMIT == UTIME_OMIT, "UTIME_OMIT");
_Static_assert(MS_SEEK_DATA == SEEK_DATA, "SEEK_DATA");
_Static_assert(MS_SEEK_HOLE == SEEK_HOLE, "SEEK_HOLE");
_Static_assert(sizeof(off_t) == 8, "off_t");

int ms_openat2(int directory, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = { .flags = flags, .mode = mode, .resolve = resolve };
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

int ms_renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags) {
    return renameat2(from_directory, from, to_directory, to, flags);
}

int ms_syncfs(int descriptor) { return syncfs(descriptor); }

int ms_birth(int descriptor, int64_t *nanoseconds) {
    struct statx found;
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_BTIME, &found) != 0) return -1;
    bool is_kept = found.stx_mask & STATX_BTIME;
    *nanoseconds = is_kept ? found.stx_btime.tv_sec * 1000000000 + found.stx_btime.tv_nsec : 0;
    return 0;
}

int ms_fstatfs(int descriptor, ms_filesystem *out) {
    struct statfs found;
    if (fstatfs(descriptor, &found) != 0) return -1;
    *out = (ms_filesystem){
        .type = (uint32_t)found.f_type,
        .block_bytes = (uint64_t)found.f_bsize,
        .total_blocks = found.f_blocks,
        .free_blocks = found.f_bfree,
        .available_blocks = found.f_bavail,
        .total_inodes = found.f_files,
        .free_inodes = found.f_ffree,
    };
    return 0;
}

int ms_ofd_lock(int descriptor, int lock, int64_t start, int64_t length) {
    // l_pid must be 0 for OFD locks; the initialiser sees to it.
    struct flock range = {
        .l_type = lock == 0 ? F_UNLCK : lock == 1 ? F_RDLCK : F_WRLCK,
        .l_whence = SEEK_SET, .l_start = start, .l_len = length,
    };
    return fcntl(descriptor, F_OFD_SETLK, &range);
}

int ms_ofd_await_shared(int descriptor) {
    struct flock range = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
    return fcntl(descriptor, F_OFD_SETLKW, &range);
}

int ms_ofd_conflict(int descriptor, int64_t start, int64_t length, int *lock, int32_t *process) {
    struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    int result = fcntl(descriptor, F_OFD_GETLK, &range);
    *lock = range.l_type == F_UNLCK ? 0 : range.l_type == F_RDLCK ? 1 : 2;
    *process = range.l_pid;
    return result;
}

ptrdiff_t ms_flistxattr(int descriptor, char *names, size_t bytes) { return flistxattr(descriptor, names, bytes); }

ptrdiff_t ms_fgetxattr(int descriptor, const char *name, void *value, size_t bytes) {
    return fgetxattr(descriptor, name, value, bytes);
}

int ms_fsetxattr(int descriptor, const char *name, const void *value, size_t bytes) {
    return fsetxattr(descriptor, name, value, bytes, 0);
}

int ms_fremovexattr(int descriptor, const char *name) { return fremovexattr(descriptor, name); }

int ms_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int ms_accept4(int listener) { return accept4(listener, NULL, NULL, SOCK_CLOEXEC); }

ptrdiff_t ms_getrandom(void *bytes, size_t count) { return getrandom(bytes, count, 0); }

int ms_ioprio_idle(void) {
    // glibc has no name for this one: IOPRIO_WHO_PROCESS is 1, IOPRIO_CLASS_IDLE is 3, the class is in bits 13 and up.
    return (int)syscall(SYS_ioprio_set, 1, 0, 3 << 13);
}

int ms_limit_arenas(int count) { return mallopt(M_ARENA_MAX, count); }

int ms_trim_heap(void) { return malloc_trim(0); }

int ms_set_thread_name(const char *name) { return pthread_setname_np(pthread_self(), name); }

// The numbers are the same on all architectures; what <linux/landlock.h> of an older kernel lacks is laid out here.
enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };
enum { BENEATH_PATH = 1, NET_PORT = 2, VERSION = 1 };

int ms_landlock_version(void) { return (int)syscall(CREATE_RULESET, NULL, 0, VERSION); }

int ms_landlock_create(uint64_t file_rights, uint64_t port_rights) {
    uint64_t handled[2] = { file_rights, port_rights };
    // Before version 4 there is only the first.
    return (int)syscall(CREATE_RULESET, handled, port_rights == 0 ? sizeof handled[0] : sizeof handled, 0);
}

int ms_landlock_allow_path(int rules, int directory, uint64_t rights) {
    struct { uint64_t rights; int32_t directory; } __attribute__((packed)) rule = { rights, directory };
    return (int)syscall(ADD_RULE, rules, BENEATH_PATH, &rule, 0);
}

int ms_landlock_allow_port(int rules, uint64_t port, uint64_t rights) {
    struct { uint64_t rights, port; } rule = { rights, port };
    return (int)syscall(ADD_RULE, rules, NET_PORT, &rule, 0);
}

int ms_landlock_restrict(int rules) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return (int)syscall(RESTRICT_SELF, rules, 0);
}

const char *ms_strerror(int number, char *buffer, size_t bytes) { return strerror_r(number, buffer, bytes); }
