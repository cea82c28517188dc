"""Changes to a live store, made the way Cyrus makes them: the same file operations in the same order, under the same
fcntl locks (user lock, name lock, cyrus.index, quota, each database), with the same fsyncs unless those are left out.

Nothing is kept in memory between operations but names, so several workers, a Cyrus and a replicator may use the store
meanwhile. storm.py is the loop around it. Conversations are not kept up: a store that has them is refused.
"""
import collections
import errno
import fcntl
import hashlib
import math
import os
import random
import shutil
import struct
import time

from . import formats as F
from .mail import Mail
from .twoskip import EMPTY_TWOSKIP, TS_MINREWRITE, Twoskip

LEX, LSH = fcntl.LOCK_EX, fcntl.LOCK_SH


def lock_again(path, flags=os.O_RDWR, mode=LEX):
    """open and lock, and open again if the file was replaced meanwhile"""
    while True:
        fd = os.open(path, flags, 0o600)
        fcntl.lockf(fd, mode)
        try:
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return fd
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                os.close(fd)
                raise
        os.close(fd)


class Index:
    """cyrus.index of one mailbox under its lock; change(), append(), then commit() or close()"""

    def __init__(self, w, d, mode=LEX):
        self.w, self.d = w, d
        self.fd = lock_again(d + '/cyrus.index', mode=mode)
        self.h = F.unpack_index(os.pread(self.fd, 160, 0))
        self.todo, self._names, self._ann = [], None, None

    def rec(self, i):
        return F.unpack_record(os.pread(self.fd, 112, 160 + 112 * i))

    def pick(self, rng):
        for _ in range(12):
            if self.h['nrec']:
                i = int(rng.random() * self.h['nrec'])
                r = self.rec(i)
                if not r[F.FLAGS] & F.EXPUNGED:
                    return i, r
        return None, None

    def header(self):
        with open(self.d + '/cyrus.header', 'rb') as f:
            self.hd = dict(F.dlist(f.read(), len(F.HEADER_MAGIC))[0])
        return self.hd

    def names(self):
        if self._names is None:
            self._names = list(self.header().get(b'U', []))
        return self._names

    def annots(self, uid):
        """message annotations, which the annotation CRC covers; Cyrus's own, this program makes none"""
        if self._ann is None:
            self._ann = collections.defaultdict(list)
            p = self.d + '/cyrus.annotations'
            if os.path.exists(p) and os.stat(p).st_size > 336:
                t = Twoskip(p, self.w.rng)
                t.lock(LSH)
                owner = dict(F.dlist(open(self.d + '/cyrus.header', 'rb').read(), len(F.HEADER_MAGIC))[0])[b'N'].split(b'.')[1]
                for k, v in t.items():
                    u, e, who = k.split(b'\0')[:3]
                    n = int.from_bytes(v[:4], 'big')
                    if not v[-1] & 1:
                        self._ann[int(u)].append((e, owner if who == b'[.OwNeR.]' else who, v[8:8 + n]))
                t.close()
        return self._ann.get(uid, ())

    def count(self, r, sign):
        F.count(self.h, r, sign, self.names() if r[F.UFLAGS] != F.NOFLAGS else (), self.annots(r[F.UID]))

    def change(self, i, old, new, now):
        self.h['modseq'] += 1
        new[F.MODSEQ], new[F.UPDATED] = self.h['modseq'], now
        self.count(old, -1)
        self.count(new, 1)
        self.todo.append((i, new))

    def append(self, r):
        self.count(r, 1)
        self.todo.append((self.h['nrec'], r))
        self.h['nrec'] += 1

    def commit(self):
        for i, r in self.todo:
            os.lseek(self.fd, 160 + 112 * i, os.SEEK_SET)
            os.write(self.fd, F.pack_record(r))
        os.lseek(self.fd, 0, os.SEEK_SET)
        os.write(self.fd, F.pack_index(self.h))
        self.w.sync(self.fd)

    def close(self):
        os.close(self.fd)


class Box:
    __slots__ = ('user', 'name', 'id', 'part', 'dir')

    def __init__(self, w, user, name, id_, part):
        self.user, self.name, self.id, self.part = user, name, id_, part
        self.dir = f'{w.parts[part]}/uuid/{id_[0]}/{id_[1]}/{id_}'


class Worker:
    def __init__(self, a, number):
        self.a, self.fsync = a, a.fsync
        self.conf, self.parts = a.conf, a.parts
        self.lockroot = a.lockpath or a.conf + '/lock'
        self.rng = random.Random(f'{a.seed}/w{number}')
        self.mail = Mail(a.seed + 1000)
        self.mb = Twoskip(a.conf + '/mailboxes.db', self.rng, a.fsync)
        self.dl = Twoskip(a.conf + '/deliver.db', self.rng, a.fsync, create=True)
        self.an = Twoskip(a.conf + '/annotations.db', self.rng, a.fsync, create=True)
        self.users, self.deleted, self.readers = {}, collections.defaultdict(list), []
        self.serial = 0
        self.session = b'mutate-%d-%d-1-%d' % (a.start, number, a.seed)
        self.mb.lock(LSH)
        items = self.mb.items()
        self.mb.unlock()
        for k, v in items:
            if k[:1] != b'N':
                continue
            e = F.mbentry(v)
            p = k[1:].split(b'\x1f')
            if b'd' in e['T'][1:] or b'i' in e['T'][1:] or e['T'][:1] != b'e' or p[0] not in (b'user', b'DELETED'):
                continue
            gone = p[0] == b'DELETED'
            q = p[1:] if gone else p
            if q[0] != b'user' or len(q) < 2:
                continue
            u = q[1].decode()
            x = Box(self, u, k[1:], e['I'].decode(), e['P'].decode())
            if gone:
                self.deleted[u].append(x)
                continue
            self.users.setdefault(u, []).append(x)            # sorted keys: INBOX comes first
            if len(q) == 2:
                for who, rights in e['A'] if isinstance(e['A'], list) else ():
                    if who.decode() != u and b's' in rights and who not in (b'admin', b'anyone'):
                        self.readers.append((u, who.decode()))
        self.names = sorted(u for u in self.users if self.users[u][0].name.count(b'\x1f') == 1)
        self.made = self.fixed = 0

    # ---- small parts
    def sync(self, fd):
        if self.fsync:
            os.fsync(fd)

    def lockfile(self, name, mode):
        p = f'{self.lockroot}/{F.hashdir(name)}/{name}.lock'
        try:
            fd = os.open(p, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(p), 0o755, exist_ok=True)
            fd = os.open(p, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fcntl.lockf(fd, mode)
        except OSError:
            os.close(fd)
            raise
        return fd

    def userlock(self, u, mode=LEX):
        fd = self.lockfile('*U*' + u.replace('.', '^'), mode)
        self.mb.share()
        return fd

    def quota(self, u, used=0, msgs=0, annot=0, folders=0, limit=None):
        p = f'{self.conf}/quota/{F.hashdir(u)}/user.{u}'
        try:
            fd = lock_again(p)
        except FileNotFoundError:
            return
        q = F.quota_parse(os.pread(fd, 4096, 0))
        self.mb.share()
        new = os.open(p + '.NEW', os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        fcntl.lockf(new, LEX)
        b = F.quota_value(q['used'] + used, limit or q['limit'], q['msgs'] + msgs, q['annot'] + annot, q['folders'] + folders, q['modseq'] + 1)
        os.lseek(new, 0, os.SEEK_SET)
        os.write(new, b)
        os.ftruncate(new, len(b))
        self.sync(new)
        os.rename(p + '.NEW', p)
        os.close(new)
        os.close(fd)

    def annotations(self, d):
        """open (make) cyrus.annotations and hold it, as every append does"""
        p = d + '/cyrus.annotations'
        fd = os.open(p, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.lockf(fd, LEX)
        if os.fstat(fd).st_size == 0:
            os.lseek(fd, 64, os.SEEK_SET)
            os.write(fd, EMPTY_TWOSKIP[64:])
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, EMPTY_TWOSKIP[:64])
            self.sync(fd)
        return fd

    def cache(self, d, gen, record):
        """append a cache record -> its offset"""
        fd = os.open(d + '/cyrus.cache', os.O_RDWR | os.O_CREAT, 0o600)
        off = os.lseek(fd, 0, os.SEEK_END)
        if off == 0:
            os.write(fd, struct.pack('>I', gen))
            self.sync(fd)
            off = 4
        os.write(fd, record)
        return fd, off

    def cached(self, d, off):
        fd = os.open(d + '/cyrus.cache', os.O_RDONLY)
        b = os.pread(fd, 8192, off)
        p = 0
        for _ in range(10):
            if p + 4 > len(b):
                b = os.pread(fd, p + 65536, off)
            p += 4 + (int.from_bytes(b[p:p + 4], 'big') + 3) // 4 * 4
        if p > len(b):
            b = os.pread(fd, p, off)
        os.close(fd)
        return b[:p]

    def header_new(self, x, ix, **kw):
        """rewrite cyrus.header through .NEW; the index header must follow (it holds the file's CRC)"""
        hd = dict(ix.header())
        hd.update(kw.pop('set', {}))
        flags = kw.get('flags', list(hd.get(b'U', [])))
        b = F.header_file(hd[b'T'], hd[b'N'], hd[b'I'], hd.get(b'Q'), hd[b'A'], flags)
        F.replace(x.dir + '/cyrus.header', (b[:115], b[115:]), self.fsync)
        ix.h['headercrc'] = F.crc(b)

    def stage(self, part, m, now, sync):
        self.serial += 1
        p = f'{self.parts[part]}/stage./{os.getpid()}-{now}-{self.serial}'
        fd = os.open(p, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, m[:4096])
        if len(m) > 4096:
            os.write(fd, m[4096:])
        if sync:
            self.sync(fd)
        os.close(fd)
        return p

    def publish(self, ix, src, uid, when):
        p = '%s/%d.' % (ix.d, uid)
        try:
            os.unlink(p)                                        # left by a crash, if it is there at all
        except FileNotFoundError:
            pass
        try:
            os.link(src, p)
        except OSError as e:
            if e.errno != errno.EXDEV:
                raise
            shutil.copyfile(src, p)
        fd = os.open(p, os.O_RDWR)
        self.sync(fd)
        os.close(fd)
        self.mb.share()
        os.utime(p, (when, when))

    def put(self, x, ix, src, r, cb, now, annot=True):
        """the common end of deliver, append and copy: publish, cache, quota, index"""
        h = ix.h
        uid = h['lastuid'] + 1
        self.publish(ix, src, uid, r[F.IDATE])
        fd, off = self.cache(x.dir, h['gen'], cb)
        af = self.annotations(x.dir)
        self.sync(fd)
        os.close(fd)
        self.quota(x.user, r[F.SIZE], 1)
        os.close(af)
        h['modseq'] += 1
        r[F.UID], r[F.COFF], r[F.MODSEQ], r[F.CCRC], r[F.UPDATED], r[F.SAVED] = uid, off, h['modseq'], F.crc(cb), now, now
        if not r[F.CMODSEQ]:
            r[F.CMODSEQ] = h['modseq']
        ix.append(r)
        h['lastuid'], h['appenddate'] = uid, now
        self.mb.share()
        ix.commit()
        return uid

    def new_message(self, rng, now, lmtp, rcpt):
        a = self.a
        size = int(rng.lognormvariate(math.log(a.median), a.sigma))
        size = min(max(size, 600), 1_000_000)
        self.made += 1
        m, cb, hs, sent, gm, mid, date = self.mail.message(rng, b'm%d.%d.%d' % (a.start, os.getpid(), self.made), size, now, self.session, lmtp, rcpt.encode())
        r = [0, now, sent, len(m), hs, gm, 0, now, 0, F.NOFLAGS, now, 11, hashlib.sha1(m).digest(), 0, 0, 0, 0]
        return m, cb, r, mid, date

    def box(self, rng, u, inbox=.6):
        b = self.users[u]
        return b[0] if rng.random() < inbox or len(b) == 1 else b[1 + int(rng.random() * (len(b) - 1))]

    # ---- operations; each returns (box, uid) or None when there was nothing to do
    def deliver(self, rng, u, more=()):
        now = int(time.time())
        m, cb, r0, mid, date = self.new_message(rng, now, True, u)
        boxes = [self.users[x][0] for x in (u, *more)]
        for x in boxes:                                        # RCPT: quota check under read locks
            ul = self.userlock(x.user, LSH)
            nl = self.lockfile(x.id, LSH)
            Index(self, x.dir, LSH).close()
            os.close(ul)
            os.close(nl)
        stages = {boxes[0].part: self.stage(boxes[0].part, m, now, False)}
        first = None
        for x in boxes:
            if x.part not in stages:
                src = stages[boxes[0].part]
                p = self.parts[x.part] + '/stage./' + os.path.basename(src)
                try:
                    os.link(src, p)
                except OSError:
                    p = self.stage(x.part, m, now, False)
                stages[x.part] = p
            ul = self.userlock(x.user)
            cv = self.conversations(x.user)
            self.an.share()
            nl = self.lockfile(x.id, LSH)
            ix = Index(self, x.dir)
            self.dl.share()
            uid = self.put(x, ix, stages[x.part], list(r0), cb, now)
            self.dl.lock()
            self.dl.store(mid + b'\0' + x.id.encode() + b'\0' + date + b'\0', struct.pack('<QQ', now, uid))
            self.dl.commit(False)
            ix.close()
            os.close(nl)
            if cv is not None:
                os.close(cv)
            os.close(ul)
            first = first or (x, uid)
            if x is not boxes[0]:
                self.extra.append((x, uid))
        for p in stages.values():
            os.unlink(p)
        self.checkpoint(self.dl)
        return first

    def multi(self, rng, u):
        k = min(len(self.names) - 1, 1 + int(rng.random() * 2))
        return self.deliver(rng, u, rng.sample([x for x in rng.sample(self.names, min(len(self.names), k + 1)) if x != u], k))

    def conversations(self, u):
        i = self.users[u][0].id
        try:
            fd = os.open(f'{self.conf}/user/uuid/{i[0]}/{i[1]}/{i}/conversations.db', os.O_RDWR)
        except FileNotFoundError:
            return None
        fcntl.lockf(fd, LSH)
        fcntl.lockf(fd, LEX)
        return fd

    def checkpoint(self, t):
        """Cyrus does this once the client has its answer"""
        if t.size > TS_MINREWRITE and t.size > 2 * t.repack:
            t.lock()
            if t.size > 2 * t.repack:
                t.checkpoint()
            t.unlock()

    def append(self, rng, u):
        now = int(time.time())
        x = self.box(rng, u, .3)
        m, cb, r, _, _ = self.new_message(rng, now, False, u)
        r[F.FLAGS] = F.SEEN
        src = self.stage(x.part, m, now, True)
        ul = self.userlock(u)
        nl = self.lockfile(x.id, LSH)
        ix = Index(self, x.dir)
        uid = self.put(x, ix, src, r, cb, now)
        ix.close()
        os.close(ul)
        os.close(nl)
        os.unlink(src)
        return x, uid

    def opened(self, x):
        ul = self.userlock(x.user)
        nl = self.lockfile(x.id, LSH)
        self.mb.share()
        return ul, nl, Index(self, x.dir)

    def shut(self, ul, nl, ix):
        ix.close()
        os.close(ul)
        os.close(nl)

    def flag(self, rng, u):
        x = self.box(rng, u)
        o = self.opened(x)
        i, r = o[2].pick(rng)
        if r:
            new = list(r)
            new[F.FLAGS] ^= rng.choice((F.SEEN, F.SEEN, F.SEEN, F.ANSWERED, F.FLAGGED, F.DELETED))
            o[2].change(i, r, new, int(time.time()))
            o[2].commit()
        self.shut(*o)
        return r and (x, r[F.UID])

    def bit(self, x, ix, name):
        """the number of a user flag, written into cyrus.header if it is new"""
        n = ix.names()
        if name not in n:
            self.header_new(x, ix, flags=n + [name])
            n.append(name)
        return n.index(name)

    def keyword(self, rng, u):
        x = self.box(rng, u)
        o = self.opened(x)
        i, r = o[2].pick(rng)
        if r:
            k = self.bit(x, o[2], b'$Label%d' % rng.randrange(1, 9))
            new, f = list(r), bytearray(r[F.UFLAGS])
            f[k // 32 * 4 + 3 - k % 32 // 8] ^= 1 << k % 8
            new[F.UFLAGS] = bytes(f)
            o[2].change(i, r, new, int(time.time()))
            o[2].commit()
        self.shut(*o)
        return r and (x, r[F.UID])

    def select(self, rng, u):
        x = self.box(rng, u)
        o = self.opened(x)
        h = o[2].h
        did = h['recentuid'] != h['lastuid']
        if did:
            h['recentuid'], h['recenttime'] = h['lastuid'], int(time.time())
            o[2].commit()
        self.shut(*o)
        return did and (x, 0)

    def seen(self, rng, u):
        mine = [p for p in self.readers if p[0] == u and p[1] in self.users]
        if not mine:
            return None
        x, who = self.users[u][0], self.users[rng.choice(mine)[1]][0].id
        o = self.opened(x)
        i, r = o[2].pick(rng)
        if r:
            now = int(time.time())
            af = self.annotations(x.dir)
            t = Twoskip(f'{self.conf}/user/uuid/{who[0]}/{who[1]}/{who}/seen.db', self.rng, self.fsync, create=True)
            t.share()
            t.lock()
            t.store(x.id.encode(), b'1 %d %d %d 1:%d' % (now, o[2].h['lastuid'], now, r[F.UID]) if r[F.UID] > 1 else b'1 %d %d %d 1' % (now, o[2].h['lastuid'], now))
            t.commit()
            t.close()
            os.close(af)
            o[2].change(i, r, list(r), now)
            o[2].commit()
        self.shut(*o)
        return r and (x, r[F.UID])

    def expunge(self, rng, u):
        x = self.box(rng, u)
        o = self.opened(x)
        ix = o[2]
        now = int(time.time())
        i, r = ix.pick(rng)
        if r and not r[F.FLAGS] & F.DELETED:                   # STORE +FLAGS \Deleted
            new = list(r)
            new[F.FLAGS] |= F.DELETED
            ix.change(i, r, new, now)
            ix.commit()
            ix.todo = []
            r = new
        self.shut(*o)
        if not r:
            return None
        o = self.opened(x)                                      # EXPUNGE
        ix = o[2]
        old = ix.rec(i) if i < ix.h['nrec'] else None
        if old is None or old[F.UID] != r[F.UID] or old[F.FLAGS] & F.EXPUNGED:
            self.shut(*o)
            return None
        af = self.annotations(x.dir)
        new = list(old)
        new[F.FLAGS] |= F.EXPUNGED
        gone = sum(len(v) for _, _, v in ix.annots(old[F.UID]))
        self.quota(u, -old[F.SIZE], -1, -gone)
        ix.h['quotaannot'] -= gone
        ix.change(i, old, new, now)
        if not ix.h['firstexpunged'] or ix.h['firstexpunged'] > now:
            ix.h['firstexpunged'] = now
        os.close(af)
        ix.commit()
        self.shut(*o)
        return x, r[F.UID]

    def expire(self, rng, u):
        """cyr_expire -X on one mailbox: mark expunged records unlinked, then repack under the exclusive name lock"""
        x = self.box(rng, u, .8)
        o = self.opened(x)
        ix = o[2]
        h, dirty = ix.h, False
        recs = [ix.rec(i) for i in range(h['nrec'])]
        for i, r in enumerate(recs):
            if r[F.FLAGS] & F.EXPUNGED:
                dirty = True
                if not r[F.FLAGS] & F.UNLINKED:
                    r[F.FLAGS] |= F.UNLINKED
                    ix.todo.append((i, r))
        if dirty:
            h['options'] |= F.OPT_NEEDS_REPACK | F.OPT_NEEDS_UNLINK
            h['firstexpunged'] = 0
            ix.commit()
        self.shut(*o)
        if not dirty:
            return None
        ul = self.userlock(u)
        try:
            nl = self.lockfile(x.id, LEX | fcntl.LOCK_NB)
        except OSError:
            os.close(ul)                                        # somebody holds the name lock: the next expire repacks
            return x, 0
        ix = Index(self, x.dir)
        h = ix.h
        h['gen'] += 1
        keep = []
        fi = os.open(x.dir + '/cyrus.index.NEW', os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fi, F.pack_index(dict(h, nrec=0)))
        fc = os.open(x.dir + '/cyrus.cache.NEW', os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fc, struct.pack('>I', h['gen']))
        self.sync(fc)
        off = 4
        for i in range(h['nrec']):
            r = ix.rec(i)
            if r[F.FLAGS] & F.UNLINKED:
                try:
                    os.unlink('%s/%d.' % (x.dir, r[F.UID]))
                except FileNotFoundError:
                    pass
                if r[F.MODSEQ] > h['deletedmodseq']:
                    h['deletedmodseq'], h['epoch'] = r[F.MODSEQ], r[F.UPDATED]
                continue
            cb = self.cached(x.dir, r[F.COFF])
            os.write(fc, cb)
            r[F.COFF] = off
            off += len(cb)
            os.write(fi, F.pack_record(r))
            keep.append(r)
        h.update(nrec=len(keep), repacktime=int(time.time()), leaked=0)
        h['options'] &= ~(F.OPT_NEEDS_REPACK | F.OPT_NEEDS_UNLINK)
        os.lseek(fi, 0, os.SEEK_SET)
        os.write(fi, F.pack_index(h))
        self.sync(fi)
        self.sync(fc)
        os.rename(x.dir + '/cyrus.index.NEW', x.dir + '/cyrus.index')
        os.rename(x.dir + '/cyrus.cache.NEW', x.dir + '/cyrus.cache')
        d = os.open(x.dir, os.O_RDONLY | os.O_DIRECTORY)
        self.sync(d)
        for fd in (d, fi, fc):
            os.close(fd)
        self.shut(ul, nl, ix)
        return x, 0

    def copy(self, rng, u):
        b = self.users[u]
        if len(b) < 2:
            return None
        src, dst = rng.sample(b, 2)
        o = self.opened(src)
        i, r = o[2].pick(rng)
        if not r:
            self.shut(*o)
            return None
        cb = self.cached(src.dir, r[F.COFF])
        names = [n for k, n in enumerate(o[2].names()) if r[F.UFLAGS][k // 32 * 4 + 3 - k % 32 // 8] >> k % 8 & 1] if r[F.UFLAGS] != F.NOFLAGS else []
        os.close(o[0])
        o[2].close()                                            # the name lock of the source stays: its file cannot go
        ul = self.userlock(u)
        nl = self.lockfile(dst.id, LSH)
        ix = Index(self, dst.dir)
        f = bytearray(16)
        for n in names:
            k = self.bit(dst, ix, n)
            f[k // 32 * 4 + 3 - k % 32 // 8] |= 1 << k % 8
        r = list(r)
        r[F.UFLAGS], r[F.CID] = bytes(f), 0
        r[F.FLAGS] &= 0xffff
        # the copy keeps createdmodseq and internaldate; modseq of the mailbox must not stay behind
        ix.h['modseq'] = max(ix.h['modseq'], r[F.CMODSEQ])
        uid = self.put(dst, ix, '%s/%d.' % (src.dir, r[F.UID]), r, cb, int(time.time()))
        self.shut(ul, nl, ix)
        os.close(o[1])
        return dst, uid

    def ident(self):
        return ''.join(random.SystemRandom().choices(F.ALNUM, k=24))     # of no seed: a second run must not make them again

    def create(self, rng, u):
        now = int(time.time())
        b = self.users[u]
        self.fixed += 1
        leaf = b'n%x-%d-%d' % (self.a.start & 0xffffff, os.getpid(), self.fixed)
        x = Box(self, u, b[0].name + b'\x1f' + leaf, self.ident(), b[0].part)
        ul = self.userlock(u)
        self.mb.lock(LSH)
        e = F.mbentry(self.mb.get(b'N' + b[0].name))
        self.mb.unlock()
        nl = self.lockfile(x.id, LEX)
        for p in (os.path.dirname(os.path.dirname(x.dir)), os.path.dirname(x.dir), x.dir):
            try:
                os.mkdir(p, 0o700)
            except FileExistsError:
                pass
        fd = os.open(x.dir + '/cyrus.index', os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        fcntl.lockf(fd, LEX)
        self.quota(u, folders=1)
        h = F.new_index(now + 1, now)
        internal = b'user.' + u.encode() + b'.' + leaf
        hb = F.header_file(b'e', internal, x.id.encode(), b'user.' + u.encode(), e['A'])
        F.replace(x.dir + '/cyrus.header', (hb[:115], hb[115:]), self.fsync)
        h['headercrc'] = F.crc(hb)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, F.pack_index(h))
        self.sync(fd)
        n = dict(T=b'e', I=x.id.encode(), P=x.part.encode(), V=now + 1, C=1, F=1, M=now, A=e['A'])
        self.mb.lock()
        self.mb.store(b'N' + x.name, F.n_value(n))
        self.mb.store(b'I' + n['I'], F.i_value(n, x.name))
        self.mb.commit(False)
        os.close(fd)
        os.close(nl)
        os.close(ul)
        self.checkpoint(self.mb)
        b.append(x)
        return x, 0

    def leafbox(self, rng, u):
        b = self.users[u]
        c = [k for k in range(1, len(b)) if not any(y.name.startswith(b[k].name + b'\x1f') for y in b)]
        return c[int(rng.random() * len(c))] if c else None

    def moved(self, x, ix, new, now, quotaroot):
        """mailboxes.db, cyrus.header and index header of a rename (a delayed delete is one)"""
        old = x.name
        ix.h['modseq'] += 1
        f = ix.h['modseq']
        self.an.share()
        self.an.lock()
        self.an.unlock()
        self.mb.lock()
        e = F.mbentry(self.mb.get(b'N' + old))
        i = F.mbentry(self.mb.get(b'I' + x.id.encode()))
        tomb = dict(T=e['T'] + b'd', I=e['I'], V=e['V'], C=e['C'], F=f, M=now)
        self.mb.store(b'N' + old, F.n_value(tomb))
        self.mb.store(b'I' + e['I'], F.i_value(tomb, old))
        e.update(F=f, M=now)
        e['H'] = [(old, now, e['V'], e['C'], f, tomb['T'])] + list(i.get('H', ()))
        self.mb.store(b'N' + new, F.n_value(e))
        self.mb.store(b'I' + e['I'], F.i_value(e, new))
        self.mb.commit(False)
        internal = new.replace(b'.', b'^').replace(b'\x1f', b'.')
        self.header_new(x, ix, set={b'N': internal, b'Q': quotaroot})
        ix.commit()
        x.name = new

    def rename(self, rng, u):
        k = self.leafbox(rng, u)
        if k is None:
            return None
        x = self.users[u][k]
        self.fixed += 1
        new = self.users[u][0].name + b'\x1fr%x-%d-%d' % (self.a.start & 0xffffff, os.getpid(), self.fixed)
        o = self.opened(x)
        self.moved(x, o[2], new, int(time.time()), b'user.' + u.encode())
        self.shut(*o)
        self.checkpoint(self.mb)
        return x, 0

    def delete(self, rng, u):
        k = self.leafbox(rng, u)
        if k is None or len(self.users[u]) < 3:
            return None
        x = self.users[u].pop(k)
        now = int(time.time())
        self.an.share()
        o = self.opened(x)
        h = o[2].h
        self.quota(u, -h['quota'], -h['exists'], -h['quotaannot'], -1)
        self.moved(x, o[2], b'DELETED\x1f' + x.name + b'\x1f%08X' % now, now, None)
        self.shut(*o)
        self.checkpoint(self.mb)
        self.deleted[u].append(x)
        return x, 0

    def purge(self, rng, u):
        """cyr_expire -D: the mailboxes.db record goes first, then the files"""
        if not self.deleted[u]:
            return None
        x = self.deleted[u].pop(int(rng.random() * len(self.deleted[u])))
        ul = self.userlock(u)
        nl = self.lockfile(x.id, LEX)
        ix = Index(self, x.dir)
        key = x.id.encode() + b'\0/comment\0[.OwNeR.]\0'
        self.an.lock()
        self.an.delete(key)
        self.an.commit()
        self.mb.lock()
        self.mb.delete(b'N' + x.name)
        self.mb.commit(False)
        ix.h['options'] |= F.OPT_DELETED
        ix.commit()
        for f in os.listdir(x.dir):
            os.unlink(x.dir + '/' + f)
        d = x.dir
        for _ in range(3):
            try:
                os.rmdir(d)
            except OSError:
                break
            d = os.path.dirname(d)
        self.shut(ul, nl, ix)
        self.checkpoint(self.mb)
        return x, 0

    def subscribe(self, rng, u):
        x = self.box(rng, u, .2)
        i = self.users[u][0].id
        p = f'{self.conf}/user/uuid/{i[0]}/{i[1]}/{i}/sub.db'
        name = b'N' + b'INBOX' + x.name[len(self.users[u][0].name):] + b'\t'
        self.mb.share()
        while True:
            fd = lock_again(p, os.O_RDWR | os.O_CREAT)
            L = [y for y in os.pread(fd, 1 << 20, 0).split(b'\n') if y]
            fresh = not L
            if fresh:
                L = [b'\x1fVER\x1f\t2']
            elif name in L:
                L.remove(name)
            else:
                L.append(name)
            new = os.open(p + '.NEW', os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(new, b'\n'.join(sorted(L)) + b'\n')
            self.sync(new)
            os.rename(p + '.NEW', p)
            os.close(new)
            os.close(fd)
            if not fresh:
                return x, 0

    def setquota(self, rng, u):
        self.mb.share()
        self.quota(u, limit=4_000_000 + rng.randrange(1000000))
        return self.users[u][0], 0

    OPS = dict(deliver=deliver, multi=multi, append=append, flag=flag, keyword=keyword, select=select, seen=seen, expunge=expunge, expire=expire,
               copy=copy, create=create, rename=rename, delete=delete, purge=purge, subscribe=subscribe, quota=setquota)
