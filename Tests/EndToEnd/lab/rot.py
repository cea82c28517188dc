"""Bits that flip beneath a file: on the disk, so that no time of the file changes, and no event tells of it.

Works for files on an ext4 that lies in a loop device, as `.ci/on-scratch-disk` makes one; else it is Unable.
"""
import fcntl
import mmap
import os
import stat
import struct
import tempfile

FS_IOC_FIEMAP, SYNC, LAST = 0xC020660B, 1, 1
PLAIN_FLAGS = LAST | 0x1000                    # FIEMAP_EXTENT_MERGED; of any other kind of extent the place is not exact
PAGE = 4096


class Unable(Exception):
    """this file's bits cannot be reached"""


def _place(fd, at):
    """byte of the device that holds byte `at` of the file"""
    request = bytearray(struct.pack('=QQIIII', at, 1, SYNC, 0, 1, 0) + bytes(56))
    try:
        fcntl.ioctl(fd, FS_IOC_FIEMAP, request)
    except OSError as e:
        raise Unable(f'no map of its extents: {e}')
    logical, physical, length = struct.unpack_from('=QQQ', request, 32)
    flags, = struct.unpack_from('=I', request, 32 + 40)
    if not struct.unpack_from('=I', request, 20)[0] or flags & ~PLAIN_FLAGS or not logical <= at < logical + length:
        raise Unable('it has no plain extent there')
    return physical + at - logical


def _device(st):
    number = f'{os.major(st.st_dev)}:{os.minor(st.st_dev)}'
    if not os.path.exists(f'/sys/dev/block/{number}/loop'):
        raise Unable('it is on no loop device')
    with tempfile.TemporaryDirectory() as d:
        os.mknod(d + '/disk', 0o600 | stat.S_IFBLK, st.st_dev)
        try:
            return os.open(d + '/disk', os.O_RDWR | os.O_DIRECT)
        except OSError as e:
            raise Unable(f'its device cannot be written: {e}')


def _forget(fd):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def flip(path, at, bit=0):
    """One bit of the file on disk. What was in memory of it is forgotten; where that cannot be, as somebody has it mapped, the bit
    flips back and it is Unable."""
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        os.fsync(fd)
        place = _place(fd, at)
        disk = _device(os.fstat(fd))
        try:
            with mmap.mmap(-1, PAGE) as page:              # O_DIRECT wants memory at a page's boundary
                start = place // PAGE * PAGE
                os.preadv(disk, [page], start)
                before = os.pread(fd, 1, at)
                if page[place - start:place - start + 1] != before:
                    raise Unable('the disk does not have what the file has')
                for byte in (before[0] ^ 1 << bit, before[0]):
                    page[place - start] = byte
                    os.pwritev(disk, [page], start)
                    _forget(fd)
                    if byte != before[0] and os.pread(fd, 1, at) == bytes([byte]):
                        return
                raise Unable('it stays in memory as it was')
        finally:
            os.close(disk)
    finally:
        os.close(fd)
