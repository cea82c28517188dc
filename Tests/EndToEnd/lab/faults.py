#!/usr/bin/env python3
"""faults.py [SEED]: puts faults into a store and sees whether check.py finds each. Exit 0 if it does.

A small store is written, copied (the earlier state), and changed by storm.py (the later state). Both must be clean.
Then each fault goes into a copy of the later state, at several random places; every one must be found.
"""
import glob
import os
import random
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import check, formats as F, processes              # noqa: E402
from lab.background import HERE, Background                 # noqa: E402
from lab.diff import roots_of                               # noqa: E402

FLIPS = 12                                          # places tried for each kind of file


def findings(d):
    return check.check(roots_of(d))


class Lab:
    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.top = tempfile.mkdtemp(prefix='faults.')
        self.old, self.new, self.work = (self.top + '/' + x for x in ('old', 'new', 'work'))
        os.chmod(self.top, 0o755)
        subprocess.run([sys.executable, '-B', HERE + '/store.py', self.old, '--users', '7', '--messages', '400', '--mailboxes-per-user', '4', '--seed', str(seed),
                        '--sieve-ratio', '.5', '--median', '1500'], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(['cp', '-a', self.old, self.new], check=True)
        with Background('storm.py', self.new, '--rate', 150, '--secs', 3, '--seed', seed, '--no-fsync', '--workers', 1) as b:
            processes.until(lambda: not b.running, 60, 'the end of the storm')
            b.stop()
        subprocess.run(['cp', '-a', self.new, self.work], check=True)
        self.failed = self.tried = 0

    def restore(self, paths):
        for p in paths:
            q = self.new + p[len(self.work):]
            plain = lambda x: os.path.isfile(x) and not os.path.islink(x)
            if plain(p) and plain(q):
                st = os.stat(q)                         # in place: a message may have other names
                with open(p, 'r+b') as f, open(q, 'rb') as g:
                    f.truncate(0)
                    f.write(g.read())
                os.utime(p, ns=(st.st_atime_ns, st.st_mtime_ns))
                self.owner(q, p)
                continue
            if os.path.isdir(p) and not os.path.islink(p):
                shutil.rmtree(p)
            elif os.path.lexists(p):
                os.unlink(p)
            if os.path.isdir(q) and not os.path.islink(q):
                subprocess.run(['cp', '-a', q, p], check=True)
            elif os.path.lexists(q):
                shutil.copy2(q, p, follow_symlinks=False)
                self.owner(q, p)

    def owner(self, q, p):
        st = os.lstat(q)
        os.chown(p, st.st_uid, st.st_gid, follow_symlinks=False)

    def files(self, pattern, root=None):
        return sorted(glob.glob((root or self.work) + '/' + pattern))

    def expect(self, name, tries, must=True):
        """tries = iterable of (touched paths, function that makes the fault)"""
        hit = n = 0
        miss = []
        for paths, fault in tries:
            fault()
            f, _ = findings(self.work)
            n, hit = n + 1, hit + bool(f)
            if not f:
                miss.append(paths[0][len(self.work):])
            self.restore(paths)
        if findings(self.work)[0]:                      # or every later fault would seem found
            raise SystemExit('%s: the store was not restored: %s' % (name, findings(self.work)[0][:3]))
        ok = n and (hit == n or not must)
        self.tried += n
        self.failed += not ok
        print('%-4s %-58s %d of %d found%s' % ('ok' if ok else 'FAIL', name, hit, n, '' if hit == n else '  missed: ' + os.path.basename(miss[0])))

    def flips(self, pattern, lo=0, hi=None):
        fs = [f for f in self.files(pattern) if os.path.getsize(f) > lo and not os.path.islink(f)]
        for _ in range(FLIPS if fs else 0):
            p = self.rng.choice(fs)
            off = self.rng.randrange(lo, min(hi or 1 << 60, os.path.getsize(p)))
            bit = 1 << self.rng.randrange(8)

            def fault():
                b = bytearray(open(p, 'rb').read())
                b[off] ^= bit
                st = os.stat(p)
                with open(p, 'r+b') as f:
                    f.write(b)
                os.utime(p, ns=(st.st_atime_ns, st.st_mtime_ns))
            yield [p], fault

    def cuts(self, pattern, keep):
        fs = [f for f in self.files(pattern) if os.path.getsize(f) > 400]
        for p in self.rng.sample(fs, min(4, len(fs))):
            yield [p], lambda p=p: os.truncate(p, keep(os.path.getsize(p)))

    def gone(self, pattern):
        fs = self.files(pattern)
        for p in self.rng.sample(fs, min(4, len(fs))):
            yield [p], lambda p=p: shutil.rmtree(p) if os.path.isdir(p) else os.unlink(p)

    def older(self, pattern, want=lambda p, q: True):
        """the file as it was in the earlier state, where that differs"""
        for q in self.files(pattern, self.old):
            p = self.work + q[len(self.old):]
            if os.path.exists(p) and open(p, 'rb').read() != open(q, 'rb').read() and want(p, q):
                yield [p], lambda p=p, q=q: (os.unlink(p), shutil.copy2(q, p), self.owner(q, p))


def resealed(p, change):
    """change an index header and give it a good crc again: only the cross-checks can see it"""
    b = bytearray(open(p, 'rb').read())
    h = F.unpack_index(bytes(b[:160]))
    change(h, b)
    b[:160] = F.pack_index(h)
    with open(p, 'r+b') as f:
        f.write(b)


def main(seed=1):
    L = Lab(seed)
    try:
        for s in (L.old, L.new, L.work):
            f, n = findings(s)
            if f:
                print('FAIL a sound store has findings:', f[:5])
                return 1
        print('ok   sound stores are clean (%d mailboxes, %d messages)' % (n['mailboxes'], n['records']))
        mb = 'part?/uuid/*/*/*/'
        busy = [f for f in L.files(mb + 'cyrus.index') if os.path.getsize(f) > 160 + 3 * 112]
        for name, pat, lo, hi in (('cyrus.index, header', mb + 'cyrus.index', 0, 160), ('cyrus.index, records', mb + 'cyrus.index', 160, None),
                                  ('cyrus.header', mb + 'cyrus.header', 0, None), ('cyrus.annotations', mb + 'cyrus.annotations', 0, None), ('a message', mb + '*.', 0, None),
                                  ('mailboxes.db', 'conf/mailboxes.db', 0, None), ('annotations.db', 'conf/annotations.db', 0, None), ('deliver.db', 'conf/deliver.db', 0, None),
                                  ('seen.db', 'conf/user/uuid/*/*/*/seen.db', 0, None)):
            L.expect('one bit flipped: ' + name, L.flips(pat, lo, hi))
        live = lambda: ((p, f) for p, f in L.flips(mb + 'cyrus.cache') if True)
        L.expect('one bit flipped: cyrus.cache (expired records may hide it)', live(), must=False)
        for name, pat in (('quota', 'conf/quota/*/*'), ('conversations.db (its time stamp is free)', 'conf/user/uuid/*/*/*/conversations.db'),
                          ('sub.db (no checksum: names may change)', 'conf/user/uuid/*/*/*/sub.db'), ('dav.db (no checksum)', 'conf/user/uuid/*/*/*/dav.db'),
                          ('sieve bytecode (no checksum)', 'sieve/uuid/*/*/*/main.bc')):
            L.expect('one bit flipped: ' + name, L.flips(pat), must=False)
        for name, pat in (('message', mb + '*.'), ('cyrus.index', mb + 'cyrus.index'), ('cyrus.header', mb + 'cyrus.header'), ('mailbox directory', mb),
                          ('mailboxes.db', 'conf/mailboxes.db'), ('quota file', 'conf/quota/*/*'), ('main.bc under defaultbc', 'sieve/uuid/*/*/*/main.bc')):
            L.expect('missing: ' + name, ((p, f) for p, f in L.gone(pat) if not p[0].endswith('cyrus.cache')))
        L.expect('missing: cyrus.cache', (t for t in L.gone(mb + 'cyrus.cache') if os.path.getsize(os.path.dirname(t[0][0]) + '/cyrus.index') > 160))
        for name, pat, keep in (('message', mb + '*.', lambda n: n // 2), ('message to nothing', mb + '*.', lambda n: 0), ('cyrus.cache by one byte', mb + 'cyrus.cache', lambda n: n - 1),
                                ('cyrus.cache by half', mb + 'cyrus.cache', lambda n: n // 2), ('cyrus.index by one record', mb + 'cyrus.index', lambda n: n - 112),
                                ('cyrus.index inside a record', mb + 'cyrus.index', lambda n: n - 50), ('mailboxes.db by its commit', 'conf/mailboxes.db', lambda n: n - 24),
                                ('deliver.db by half', 'conf/deliver.db', lambda n: n // 2)):
            L.expect('truncated: ' + name, L.cuts(pat, keep))
        def bound(p, q):
            """do other files know of the difference?"""
            a, b = (F.unpack_index(open(x, 'rb').read(160)) for x in (p, q))
            return any(a[k] != b[k] for k in ('gen', 'exists', 'quota', 'headercrc'))
        L.expect('from an earlier time: cyrus.index, other messages or names', L.older(mb + 'cyrus.index', bound))
        L.expect('from an earlier time: cyrus.index, other flags (is sound)', L.older(mb + 'cyrus.index', lambda p, q: not bound(p, q)), must=False)
        for name, pat in (('cyrus.header', mb + 'cyrus.header'), ('cyrus.cache', mb + 'cyrus.cache'), ('quota file', 'conf/quota/*/*'),
                          ('mailboxes.db', 'conf/mailboxes.db')):
            L.expect('from an earlier time: ' + name, L.older(pat))

        def swap(a, b):
            x, y = open(a, 'rb').read(), open(b, 'rb').read()
            for p, v in ((a, y), (b, x)):
                with open(p, 'r+b') as f:
                    f.truncate(0)
                    f.write(v)
        pairs = []
        for _ in range(4):
            a, b = L.rng.sample(busy, 2)
            da, db = os.path.dirname(a), os.path.dirname(b)
            pairs.append(([a, b], lambda a=a, b=b: swap(a, b)))
            ms = [m for m in L.files(da[len(L.work) + 1:] + '/*.')]
            if len(ms) > 1:
                m1, m2 = L.rng.sample(ms, 2)
                pairs.append(([m1, m2], lambda a=m1, b=m2: swap(a, b)))
            pairs.append(([da + '/cyrus.cache', db + '/cyrus.cache'], lambda a=da, b=db: swap(a + '/cyrus.cache', b + '/cyrus.cache')))
        L.expect('swapped: two indexes, two messages, two caches', pairs)
        p = L.rng.choice(busy)
        for k in ('exists', 'quota', 'unseen', 'flagged', 'answered', 'deleted', 'basic', 'annot', 'uidvalidity', 'headercrc', 'gen', 'quotaannot'):
            L.expect('good header crc, wrong ' + k, [([p], lambda: resealed(p, lambda h, b: h.update({k: h[k] + 1})))])
        L.expect('good header crc, last_uid too small', [([p], lambda: resealed(p, lambda h, b: h.update(lastuid=1)))])
        L.expect('good header crc, highestmodseq too small', [([p], lambda: resealed(p, lambda h, b: h.update(modseq=1)))])

        def drop(h, b):
            n = h['nrec']
            while F.unpack_record(bytes(b[48 + 112 * n:160 + 112 * n]))[F.FLAGS] & F.EXPUNGED:
                n -= 1
            h['nrec'] = n - 1
        L.expect('good header crc, last records not counted', [([p], lambda: resealed(p, drop))])

        def flag(h, b):
            r = F.unpack_record(bytes(b[160:272]))
            r[F.FLAGS] ^= F.DRAFT
            b[160:272] = F.pack_record(r)
        L.expect('good record crc, another flag', [([x], lambda x=x: resealed(x, flag)) for x in busy[:4] if not F.unpack_record(open(x, 'rb').read()[160:272])[F.FLAGS] & F.EXPUNGED])
        m = L.files(mb + '*.')[0]
        L.expect('a message one second older', [([m], lambda: os.utime(m, (1, os.stat(m).st_mtime - 1)))])
        x = L.files('conf/user/uuid/*/*/*/')[0].rstrip('/')

        def put(path, data=b'x'):
            with open(path, 'wb') as f:
                f.write(data)
        d = os.path.dirname(p)
        legal = [([d + '/999999.'], lambda: put(d + '/999999.'), 'orphan_message'), ([d + '/cyrus.index.NEW'], lambda: put(d + '/cyrus.index.NEW'), 'leftover_NEW'),
                 ([L.work + '/part1/stage./1-2-3'], lambda: put(L.work + '/part1/stage./1-2-3'), 'stage_files'),
                 ([L.work + '/part1/uuid/q/q/qqlost'], lambda: os.makedirs(L.work + '/part1/uuid/q/q/qqlost'), 'orphan_directory'),
                 ([p], lambda: open(p, 'ab').write(bytes(112)), 'index_surplus')]
        for paths, fault, key in legal:
            fault()
            if os.path.isfile(paths[0]):
                os.chown(paths[0], os.stat(d).st_uid, os.stat(d).st_gid)
            f, n = findings(L.work)
            ok = not f and n[key] > 0
            L.failed += not ok
            L.tried += 1
            print('%-4s a crash may leave this: %s (%s)' % ('ok' if ok else 'FAIL', key, 'counted apart' if ok else f[:2] or n))
            L.restore(paths)
        f, _ = findings(L.work)
        if f:
            print('FAIL restore left', f[:3])
            L.failed += 1
        print('%d faults tried, %d kinds failed' % (L.tried, L.failed))
        return 1 if L.failed else 0
    finally:
        shutil.rmtree(L.top)


if __name__ == '__main__':
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
