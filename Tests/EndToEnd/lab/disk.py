"""A disk that can lose power: an ext4 in an image, and the image on a btrfs, which can be cloned in an instant.

    WHERE/outer.img, WHERE/outer     the btrfs
    WHERE/outer/disk.img             the ext4, mounted where it is wanted

A clone of disk.img holds what ext4 had handed to its device by then, and nothing that it still had in memory: what was
flushed is there, and of the rest this and that. btrfs clones under the file's lock, so between two writes.
"""
import os
import shutil
import subprocess


# Without auto_da_alloc ext4 does not flush a file that is renamed over another; commit=1 makes more kinds of halves.
OPTIONS = 'loop,noatime,noauto_da_alloc,commit=1'


def missing():
    """why there can be no such disk, or None"""
    lacking = [x for x in ('mkfs.btrfs', 'mkfs.ext4', 'unshare', 'ip') if not shutil.which(x, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')]
    return f'needs {", ".join(lacking)}' if lacking else None


def run(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env={**os.environ, 'PATH': os.environ.get('PATH', '') + ':/usr/sbin:/sbin'})
    if done.returncode:
        raise OSError(f'{" ".join(argv)}: exit {done.returncode}: {done.stderr.strip()}')


class Disk:
    """Mounted at `place` until close(). OSError if it cannot be."""

    def __init__(self, where, place, megabytes=1500):
        self.place, self.outer, self.mounted, self.clones = place, where + '/outer', [], 0
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
            run('mkfs.ext4', '-q', '-F', self.image)
            self._mount(self.image, place, OPTIONS)
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
        self._mount(self.image, self.place, OPTIONS)

    def close(self):
        for place in reversed(self.mounted):
            run('umount', '-l', place)
        self.mounted = []
