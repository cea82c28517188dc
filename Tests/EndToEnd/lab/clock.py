"""A wall clock that can be set for one process: a library that is loaded before the C library's clock_gettime."""
import os
import shutil
import struct
import subprocess

SOURCE = r'''
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static const volatile long *step;               /* seconds, in a file that the test writes */
__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("CLOCK_STEP"), O_RDONLY);
    void *p = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (p != MAP_FAILED) step = p;
}
int clock_gettime(clockid_t which, struct timespec *t) {
    long r = syscall(SYS_clock_gettime, which, t);
    if (r == 0 && step && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) t->tv_sec += *step;
    return (int)r;
}
'''


class Clock:
    """`under` goes before a command line; step(seconds) sets how far its clock is from the right one"""

    def __init__(self, where):
        self.file, library = where + '/clock', where + '/clock.so'
        compiler = next((c for c in ('cc', 'gcc', 'clang') if shutil.which(c)), None)
        if not compiler:
            raise OSError('no C compiler')
        done = subprocess.run([compiler, '-shared', '-fPIC', '-O1', '-x', 'c', '-', '-o', library], input=SOURCE, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f'{compiler}: {done.stderr[-300:]}')
        self.step(0)
        os.chmod(self.file, 0o644)
        self.under = ['env', f'LD_PRELOAD={library}', f'CLOCK_STEP={self.file}']

    def step(self, seconds):
        with open(self.file, 'r+b' if os.path.exists(self.file) else 'wb') as f:
            f.write(struct.pack('l', seconds))
