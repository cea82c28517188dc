"""A disk that can lose power: an ext4 or XFS in an image, and the image on a btrfs, which can be cloned in an instant.

    WHERE/outer.img, WHERE/outer     the btrfs
    WHERE/outer/disk.img             the file system, mounted where it is wanted

A clone of disk.img holds what the file system had handed to its device by then, and nothing that it still had in memory: what was
flushed is there, and of the rest this and that. btrfs clones under the file's lock, so between two writes. Nothing is frozen or
flushed for it: who mounts a clone replays the log of its file system, as after a loss of power.
"""
import os
import shutil
import subprocess


# Without auto_da_alloc ext4 does not flush a file that is renamed over another; commit=1 makes more kinds of halves.
# A clone has the UUID of the XFS that is mounted beside it.
OPTIONS = {'ext4': 'loop,noatime,noauto_da_alloc,commit=1', 'xfs': 'loop,noatime,nouuid'}
FORCE = {'ext4': '-F', 'xfs': '-f'}


def missing(kind='ext4'):
    """why there can be no such disk, or None"""
    tools = 'mkfs.btrfs', f'mkfs.{kind}', 'unshare', 'ip'
    lacking = [x for x in tools if not shutil.which(x, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')]
    return f'needs {", ".join(lacking)}' if lacking else None


def run(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={**os.environ, 'PATH': os.environ.get('PATH', '') + ':/usr/sbin:/sbin'})
    if done.returncode:
        raise OSError(f'{" ".join(argv)}: exit {done.returncode}: {done.stderr.strip()}')


class Disk:
    """Mounted at `place` until close(). OSError if it cannot be, as where the kernel does not know the `kind`."""

    def __init__(self, where, place, kind='ext4', megabytes=1500):
        self.place, self.outer, self.mounted, self.clones = place, where + '/outer', [], 0
        self.options = OPTIONS[kind]
        os.makedirs(self.outer)
        os.makedirs(place, exist_ok=True)
        with open(self.outer + '.img', 'wb') as f:
            f.truncate(4 << 30)
        try:
            run('mkfs.btrfs', '-q', self.outer + '.img')
            self._mount(self.outer + '.img', self.outer, 'loop')
            self.image = self.outer + '/disk.img'
            with open(self.image, 'wb') as f:
                f.truncate(megabytes << 20)
            run(f'mkfs.{kind}', '-q', FORCE[kind], self.image)
            self._mount(self.image, place, self.options)
        except OSError:
            self.close()
            raise

    def _mount(self, image, place, options):
        run('mount', '-o', options, image, place)
        self.mounted.append(place)

    def cut(self):
        """the image as it would be had the power gone now; the disk goes on. Remove it after use."""
        self.clones += 1
        clone = f'{self.outer}/{self.clones}.img'
        run('cp', '--reflink=always', self.image, clone)
        return clone

    def go_back(self, clone):
        """the disk is `clone` from now on; nobody may have a file of it open"""
        run('umount', self.place)
        self.mounted.remove(self.place)
        os.rename(clone, self.image)
        self._mount(self.image, self.place, self.options)

    def close(self):
        for place in reversed(self.mounted):
            run('umount', '-l', place)
        self.mounted = []
