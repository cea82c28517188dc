"""What happens to the files of a store behind everybody's back: one function for each way, and what an audit has to call it."""
import collections
import mmap
import os
import shutil
import stat
import time

from . import diff, rot

Expected = collections.namedtuple('Expected', 'what side path kinds below alike names')
# what    how it was done          kinds   classes, any of which is right         alike   other paths of which one may be named instead
# path    key of its root / path   below   whether what is beneath it may be named too
# names   of the file, all: a repair of one heals the others

FRESH = 3                                                  # seconds: what was written so lately may have been written again, for all one knows
LARGEST = 4 << 20                                          # of files whose content is changed


def role(path):
    """a word for the kind of file, None for those that are left alone"""
    key, _, rest = path.partition('/')
    name = rest.rsplit('/', 1)[-1]
    if diff.is_message(path):
        return 'message'
    if name.startswith('cyrus.'):
        return name
    if key == 'sievedir':
        return 'sieve'
    if rest.startswith('quota/'):
        return 'quota'
    if name == 'db' or rest.startswith(('db/', 'lock/')) or name in ('annotations.db-lock',):
        return None
    return name if name.endswith('.db') else 'plain'


class Spoiler:
    """Spoils one side of a pair at rest. `aside(path)` says what must be left alone: somebody is at work there."""

    def __init__(self, side, letter, rng, aside, keep):
        self.side, self.letter, self.rng, self.aside, self.keep = side, letter, rng, aside, keep
        self.name = 'primary' if letter == 'p' else 'replica'
        os.makedirs(keep, exist_ok=True)
        self.older, self.kept = {}, {}

    # ---- what there is
    def look(self, taken):
        """the store as it is now; `taken` are paths that were spoilt on the other side"""
        self.tree = diff.scan(self.side.roots)
        self.taken = set(taken)
        self.names = collections.defaultdict(list)
        for p, (_, st) in self.tree.items():
            if stat.S_ISREG(st.st_mode):
                self.names[st.st_dev, st.st_ino].append(p)
        self.by_role = collections.defaultdict(list)
        for p, (_, st) in sorted(self.tree.items()):
            if stat.S_ISREG(st.st_mode) and role(p):
                self.by_role[role(p)].append(p)

    def remember(self):
        """files that are databases or indexes, as they are now: to be put back when they have changed"""
        self.look(())
        for n, p in enumerate(x for k, v in self.by_role.items() if k.startswith('cyrus.') or k.endswith('.db') or k == 'quota' for x in v):
            copy = f'{self.keep}/{n}'
            shutil.copy2(self.tree[p][0], copy)
            self.older[p] = copy

    def at(self, path):
        return self.tree[path][0]

    def all_names(self, path):
        st = self.tree[path][1]
        return self.names[st.st_dev, st.st_ino]

    def free(self, path):
        """neither it nor anything it is one file with, lies in or holds was touched"""
        parts = path.split('/')
        return not self.aside(path) and not any(
            '/'.join(parts[:n]) in self.taken for n in range(1, len(parts) + 1)) and not any(t.startswith(path + '/') for t in self.taken)

    def pick(self, wanted, good=lambda p: True, single=False):
        """a path of one of these roles, each role as likely as another; None if there is none left"""
        roles = [r for r in self.by_role if wanted(r)]
        self.rng.shuffle(roles)
        for r in roles:
            found = self.by_role[r][:]
            self.rng.shuffle(found)
            for p in found[:200]:
                names = self.all_names(p)
                if all(map(self.free, names)) and (not single or len(names) == 1) and good(p):
                    self.taken.update(names)
                    return p
        return None

    def expect(self, what, paths, *kinds, below=False, alike=()):
        return [Expected(f'{self.letter}: {what}', self.name, p, kinds, below, tuple(alike), tuple(paths)) for p in paths]

    def owned(self, path):
        st = os.stat(os.path.dirname(path))
        os.chown(path, st.st_uid, st.st_gid, follow_symlinks=False)

    def size(self, path):
        return self.tree[path][1].st_size

    def same_times(self, path):
        st = self.tree[path][1]
        os.utime(self.at(path), ns=(st.st_atime_ns, st.st_mtime_ns))

    def write_bit(self, path):
        at, bit = self.rng.randrange(self.size(path)), self.rng.randrange(8)
        with open(self.at(path), 'r+b') as f:
            f.seek(at)
            b = f.read(1)[0]
            f.seek(at)
            f.write(bytes([b ^ 1 << bit]))

    def content(self, path):
        return 0 < self.size(path) < LARGEST

    # ---- on either side
    def rot(self):
        """a bit of any kind of file flips on the disk"""
        def good(p):
            st = self.tree[p][1]
            if not self.content(p) or time.time() - max(st.st_mtime, st.st_ctime) < FRESH:
                return False
            try:
                rot.flip(self.at(p), self.rng.randrange(self.size(p)), self.rng.randrange(8))
            except rot.Unable:
                return False
            return True
        p = self.pick(lambda r: True, good)
        return p and self.expect(f'rot of {role(p)}', self.all_names(p), 'rot')

    # ---- on a replica
    def bit(self):
        """a bit, and the times as they were"""
        p = self.pick(lambda r: True, self.content)
        if p:
            self.write_bit(p)
            self.same_times(p)
            return self.expect(f'bit of {role(p)}', self.all_names(p), 'rot')

    def late_bit(self):
        p = self.pick(lambda r: True, self.content)
        if p:
            self.write_bit(p)
            return self.expect(f'bit of {role(p)}, and its time', self.all_names(p), 'tampered')

    def truncate(self):
        p = self.pick(lambda r: True, self.content)
        if p:
            os.truncate(self.at(p), self.rng.randrange(self.size(p)))
            return self.expect(f'truncated {role(p)}', self.all_names(p), 'tampered')

    def grow(self):
        p = self.pick(lambda r: True)
        if p:
            with open(self.at(p), 'ab') as f:
                f.write(self.rng.randbytes(self.rng.randrange(1, 5000)))
            return self.expect(f'longer {role(p)}', self.all_names(p), 'tampered')

    def missing(self):
        p = self.pick(lambda r: True, single=True)
        if p:
            os.unlink(self.at(p))
            return self.expect(f'missing {role(p)}', [p], 'missing')

    def extra(self):
        near = self.pick(lambda r: r in ('message', 'sieve', 'plain', 'seen.db', 'cyrus.index'), single=True)
        if near:
            name = self.rng.choice(['4711.', '99999999.', 'what is this', '.hidden', 'x' * 250, 'Ü'])
            there = f'{os.path.dirname(self.at(near))}/{name}'
            if os.path.lexists(there):
                return []
            with open(there, 'wb') as f:
                f.write(self.rng.randbytes(self.rng.randrange(9000)))
            self.owned(there)
            return self.expect('extra file', [f'{near.rsplit("/", 1)[0]}/{name}'], 'extra')

    def extra_directory(self):
        near = self.pick(lambda r: r in ('message', 'sieve', 'cyrus.index'), single=True)
        if near:
            there = f'{os.path.dirname(self.at(near))}/stray{self.rng.randrange(1000)}'
            os.mkdir(there)
            self.owned(there)
            with open(there + '/1.', 'wb') as f:
                f.write(b'?')
            self.owned(there + '/1.')
            return self.expect('extra directory', [f'{near.rsplit("/", 1)[0]}/{os.path.basename(there)}'], 'extra')

    def missing_directory(self):
        """a mailbox that is gone altogether"""
        near = self.pick(lambda r: r == 'cyrus.header', lambda p: all(
            len(self.all_names(x)) == 1 for x in self.tree if x.startswith(p.rsplit('/', 1)[0] + '/') and stat.S_ISREG(self.tree[x][1].st_mode))
            and self.free(p.rsplit('/', 1)[0]))
        if near:
            d = near.rsplit('/', 1)[0]
            self.taken.add(d)
            shutil.rmtree(os.path.dirname(self.at(near)))
            return self.expect('missing mailbox', [d], 'missing', below=True)

    def swapped(self):
        """two messages of a mailbox, each with the other's content and its own times"""
        a = self.pick(lambda r: r == 'message', single=True)
        if a:
            d = a.rsplit('/', 1)[0] + '/'
            others = [p for p in self.by_role['message'] if p.startswith(d) and self.free(p) and len(self.all_names(p)) == 1]
            if others:
                b = self.rng.choice(others)
                x, y = (open(self.at(p), 'rb').read() for p in (a, b))
                if x == y:
                    return []
                self.taken.add(b)
                for p, data in ((a, y), (b, x)):
                    with open(self.at(p), 'r+b') as f:
                        f.truncate(0)
                        f.write(data)
                    self.same_times(p)
                return self.expect('swapped messages', [a, b], 'rot' if len(x) == len(y) else 'tampered')

    def stale(self):
        """an older version, with the times it had"""
        def good(p):
            return p in self.older and open(self.at(p), 'rb').read() != open(self.older[p], 'rb').read() and \
                (os.stat(self.older[p]).st_mtime_ns, os.stat(self.older[p]).st_size) != (self.tree[p][1].st_mtime_ns, self.size(p))
        p = self.pick(lambda r: True, good)
        if p:
            with open(self.older[p], 'rb') as f, open(self.at(p), 'r+b') as g:
                g.truncate(0)
                g.write(f.read())
            st = os.stat(self.older[p])
            os.utime(self.at(p), ns=(st.st_atime_ns, st.st_mtime_ns))
            return self.expect(f'older {role(p)}', self.all_names(p), 'tampered')

    def time(self):
        p = self.pick(lambda r: r == 'message')
        if p:
            os.utime(self.at(p), ns=(1, self.tree[p][1].st_mtime_ns + self.rng.choice([1, -1, 10**9, -10**16])))
            return self.expect('time', self.all_names(p), 'tampered')

    def mode(self):
        p = self.pick(lambda r: True)
        if p:
            os.chmod(self.at(p), stat.S_IMODE(self.tree[p][1].st_mode) ^ self.rng.choice([0o040, 0o004, 0o200]))
            return self.expect(f'mode of {role(p)}', self.all_names(p), 'tampered')

    def owner(self):
        p = self.pick(lambda r: True)
        if p:
            os.chown(self.at(p), 1, self.rng.choice([1, -1]))
            return self.expect(f'owner of {role(p)}', self.all_names(p), 'tampered')

    def attribute(self):
        p = self.pick(lambda r: True)
        if p:
            os.setxattr(self.at(p), 'user.comment', b'not from here')
            return self.expect(f'attribute of {role(p)}', self.all_names(p), 'tampered')

    def directory_mode(self):
        p = self.pick(lambda r: r == 'cyrus.header', lambda p: self.free(p.rsplit('/', 1)[0]))
        if p:
            d = os.path.dirname(self.at(p))
            os.chmod(d, stat.S_IMODE(os.stat(d).st_mode) ^ 0o011)
            return self.expect('mode of a directory', [p.rsplit('/', 1)[0]], 'tampered')

    def unlinked(self):
        """one of several names is a file of its own now, with the same content and times"""
        p = self.pick(lambda r: r == 'message', lambda p: len(self.all_names(p)) > 1)
        if p:
            there = self.at(p)
            shutil.copy2(there, there + 'x')
            self.owned(there + 'x')
            os.rename(there + 'x', there)
            return self.expect('broken link', [p], 'tampered', alike=self.all_names(p))

    def symlink(self):
        links = [p for p, (_, st) in sorted(self.tree.items()) if stat.S_ISLNK(st.st_mode) and self.free(p)]
        if links:
            p = self.rng.choice(links)
            self.taken.add(p)
            os.unlink(self.at(p))
            os.symlink('elsewhere', self.at(p))
            self.owned(self.at(p))
            return self.expect('target of a link', [p], 'tampered')

    def other_kind(self):
        p = self.pick(lambda r: r in ('message', 'plain', 'sieve', 'seen.db', 'sub.db'), single=True)
        if p:
            os.unlink(self.at(p))
            if self.rng.random() < .5:
                os.mkdir(self.at(p))
            else:
                os.symlink('/dev/null', self.at(p))
            self.owned(self.at(p))
            return self.expect(f'something else than {role(p)}', [p], 'tampered')

    # ---- on a primary
    def message_bit(self):
        """written by somebody, so that events tell of it: Cyrus's GUID says that it is no new message"""
        p = self.pick(lambda r: r == 'message', self.content)
        if p:
            self.write_bit(p)
            self.same_times(p)
            return self.expect('bit of message', self.all_names(p), 'rot', 'corrupt')

    def message_mapped(self):
        p = self.pick(lambda r: r == 'message', self.content)
        if p:
            self._map(p)
            return self.expect('mapped message', self.all_names(p), 'rot', 'corrupt')

    def mapped(self):
        """of a file that anybody may change: nothing is wrong with it but that nobody was told"""
        p = self.pick(lambda r: r == 'plain', self.content)
        if p:
            self._map(p)
            return self.expect('mapped file', self.all_names(p), 'missed')

    def _map(self, path):
        with open(self.at(path), 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
            at = self.rng.randrange(len(m))
            m[at] ^= 1 << self.rng.randrange(8)
            m.flush()

    def index_bit(self):
        """written by somebody, into a record: its checksum says so"""
        p = self.pick(lambda r: r == 'cyrus.index', lambda p: self.size(p) > 160 + 112)
        if p:
            self.kept[p] = f'{self.keep}/index{len(self.kept)}'
            shutil.copy2(self.at(p), self.kept[p])
            with open(self.at(p), 'r+b') as f:
                f.seek(160 + self.rng.randrange(100))
                b = f.read(1)[0]
                f.seek(-1, 1)
                f.write(bytes([b ^ 1]))
            return self.expect('bit of a record of an index', [p], 'corrupt')
