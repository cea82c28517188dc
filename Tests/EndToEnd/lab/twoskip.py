"""Twoskip, Cyrus's database format: written whole, and changed in place by Cyrus's own protocol."""
import fcntl
import os
import random
import struct

from .formats import MAGIC, crc

TS_MAGIC = MAGIC + b'twoskip file\0\0\0\0'
_TH = struct.Struct('>20sIQQQQI')
TS_MAXLEVEL, TS_BLANK, TS_MINREWRITE = 31, b' BLANK\x07\xa0', 16834


def ts_header(gen, nrec, repack, size, flags=0):
    b = _TH.pack(TS_MAGIC, 1, gen, nrec, repack, size, flags)
    return b + struct.pack('>I', crc(b))


def ts_pad(off, iolen):
    n = 0
    if iolen <= 504:
        while (off + n + 8) % 512 > (off + n - 8 + iolen) % 512:
            n += 8
    return n


def ts_level(rng):
    lvl = 1
    while lvl < TS_MAXLEVEL and rng.random() < .5:
        lvl += 1
    return lvl


def ts_head(typ, level, klen, vlen, ptrs, tail):
    if klen < 0xffff and vlen < 0xffffffff:
        b = struct.pack('>cBHI', typ, level, klen, vlen)
    else:
        b = struct.pack('>cBHI', typ, level, min(klen, 0xffff), min(vlen, 0xffffffff))
        if klen >= 0xffff:
            b += struct.pack('>Q', klen)
    b += struct.pack('>%dQ' % (level + 1), *ptrs)
    return b + struct.pack('>II', crc(b), tail)


def ts_build(items, rng, gen=1, write=None):
    """bytes of a freshly checkpointed twoskip; items = sorted [(key, value)]; write(chunk) streams instead of returning"""
    offs, lvls = [], []
    off = 336
    for k, v in items:
        lvl = ts_level(rng)
        iolen = 24 + 8 * lvl + (8 if len(k) >= 0xffff else 0)
        off += ts_pad(off, iolen)
        offs.append(off)
        lvls.append(lvl)
        off += iolen + (len(k) + len(v) + 7) // 8 * 8
    end = off
    cpad = ts_pad(end, 24)
    size = end + cpad + 24
    nxt = [0] * TS_MAXLEVEL
    heads = [None] * len(items)
    for i in range(len(items) - 1, -1, -1):
        lvl, (k, v) = lvls[i], items[i]
        tail = k + v
        tail += bytes(-len(tail) % 8)
        heads[i] = ts_head(b'+', lvl, len(k), len(v), [0] + nxt[:lvl], crc(tail))
        for j in range(lvl):
            nxt[j] = offs[i]
    out = []
    emit = write or out.append
    # an empty database was created by Cyrus without a transaction: no commit record
    if not items:
        emit(ts_header(gen, 0, 336, 336) + ts_head(b'=', TS_MAXLEVEL, 0, 0, [0] * 32, 0))
    else:
        emit(ts_header(gen, len(items), end, size) + ts_head(b'=', TS_MAXLEVEL, 0, 0, [0] + nxt, 0))
        pos, buf = 336, []
        for i, (k, v) in enumerate(items):
            if offs[i] > pos:
                buf.append(TS_BLANK * ((offs[i] - pos) // 8))
            t = k + v
            t += bytes(-len(t) % 8)
            buf += (heads[i], t)
            pos = offs[i] + len(heads[i]) + len(t)
            if len(buf) > 4096:
                emit(b''.join(buf))
                buf = []
        buf.append(TS_BLANK * (cpad // 8) + ts_head(b'$', 0, 0, 0, [336], 0))
        emit(b''.join(buf))
    return b''.join(out)


EMPTY_TWOSKIP = ts_build([], random.Random(0))


class Twoskip:
    """A live twoskip file, changed as Cyrus changes it: fcntl lock, DIRTY header + fdatasync, appends and in-place
    rewrites of predecessors' heads, commit record + fsync, clean header + fdatasync; checkpoint to .NEW + rename."""

    def __init__(self, path, rng, fsync=True, create=False):
        self.path, self.rng, self.fsync, self.create = path, rng, fsync, create
        self.fd = -1
        self.checkpoints = 0

    def _open(self):
        if self.fd >= 0:
            os.close(self.fd)
        new = self.create and not os.path.exists(self.path)
        self.fd = os.open(self.path, os.O_RDWR | (os.O_CREAT if self.create else 0), 0o600)
        if new:
            fcntl.lockf(self.fd, fcntl.LOCK_EX)
            if os.fstat(self.fd).st_size == 0:
                self._write(64, EMPTY_TWOSKIP[64:])
                self._write(0, EMPTY_TWOSKIP[:64])
                self._sync(True)
            fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write(self, off, b):
        os.lseek(self.fd, off, os.SEEK_SET)
        os.write(self.fd, b)

    def _sync(self, full=False):
        if self.fsync:
            (os.fsync if full else os.fdatasync)(self.fd)

    def lock(self, mode=fcntl.LOCK_EX):
        if self.fd < 0:
            self._open()
        while True:
            fcntl.lockf(self.fd, mode)
            s = os.fstat(self.fd)
            try:
                p = os.stat(self.path)
                if p.st_ino == s.st_ino:
                    break
            except FileNotFoundError:
                pass
            self._open()
        h = os.pread(self.fd, 64, 0)
        if crc(h[:60]) != int.from_bytes(h[60:64], 'big'):
            raise ValueError(self.path + ': header crc')
        _, _, self.gen, self.nrec, self.repack, self.size, self.flags = _TH.unpack_from(h)
        if self.flags & 1 or self.size != s.st_size:
            raise ValueError(self.path + ': not clean, Cyrus would recover it first')
        self.end, self.start, self.cache = self.size, self.size, {}

    def share(self):
        """a reader's lock and unlock, as Cyrus does before each look-up"""
        if self.fd < 0:
            self._open()
        fcntl.lockf(self.fd, fcntl.LOCK_SH)
        fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def unlock(self):
        fcntl.lockf(self.fd, fcntl.LOCK_UN)

    def _rec(self, off):
        r = self.cache.get(off)
        if r is None:
            b = os.pread(self.fd, 400, off)
            typ, lvl, kl, vl = struct.unpack_from('>cBHI', b)
            p = 8
            if kl == 0xffff:
                kl, = struct.unpack_from('>Q', b, p)
                p += 8
            ptrs = list(struct.unpack_from('>%dQ' % (lvl + 1), b, p))
            p += 8 * (lvl + 1)
            hcrc, tail = struct.unpack_from('>II', b, p)
            if crc(b[:p]) != hcrc:
                raise ValueError('%s: record crc at %d' % (self.path, off))
            p += 8
            if p + kl > len(b):
                b = os.pread(self.fd, p + kl, off)
            r = self.cache[off] = [off, typ, lvl, kl, vl, ptrs, tail, b[p:p + kl], p]
        return r

    def _next(self, r, level):
        p = r[5]
        if level:
            return p[level + 1]
        if p[0] >= self.end:
            return p[1]
        if p[1] >= self.end:
            return p[0]
        return max(p[0], p[1])

    def _live(self, off):
        if not off:
            return None
        r = self._rec(off)
        if r[1] == b'-':
            return self._live(r[5][0])
        return r

    def _find(self, key):
        back, fwd = [64] * TS_MAXLEVEL, [0] * TS_MAXLEVEL
        cur = self._rec(64)
        level, seen, hit, cand = TS_MAXLEVEL, 0, False, None
        while level:
            off = self._next(cur, level - 1)
            back[level - 1], fwd[level - 1] = cur[0], off
            if off != seen:
                seen = off
                cand = self._live(off)
                hit = False
                if cand:
                    if cand[7] < key:
                        cur = cand
                        continue
                    hit = cand[7] == key
            level -= 1
        if hit:
            for i in range(cand[2]):
                fwd[i] = self._next(cand, i)
            return cand, back, fwd
        return None, back, fwd

    def get(self, key):
        r, _, _ = self._find(key)
        return os.pread(self.fd, r[4], r[0] + r[8] + r[3]) if r else None

    def _dirty(self):
        if not self.flags & 1:
            self.flags |= 1
            self._write(0, ts_header(self.gen, self.nrec, self.repack, self.size, 1))
            self._sync()

    def _append(self, typ, level, key, val, ptrs):
        self._dirty()
        tailb = key + val
        tailb += bytes(-len(tailb) % 8)
        b = ts_head(typ, level, len(key), len(val), ptrs, crc(tailb))
        for _ in range(ts_pad(self.end, len(b)) // 8):
            self._write(self.end, TS_BLANK)
            self.end += 8
        off = self.end
        self._write(off, b + tailb)
        self.end += len(b) + len(tailb)
        self.cache[off] = [off, typ, level, len(key), len(val), list(ptrs), crc(tailb), key, len(b)]
        return off

    def _stitch(self, back, fwd, top):
        level = 0
        while level < top:
            r = self._rec(back[level])
            p = r[5]
            for i in range(level, min(top, r[2])):
                if i:
                    p[i + 1] = fwd[i]
                elif p[0] >= self.size:
                    p[0] = fwd[0]
                elif p[1] >= self.size:
                    p[1] = fwd[0]
                elif p[1] > p[0]:
                    p[0] = fwd[0]
                else:
                    p[1] = fwd[0]
            self._write(r[0], ts_head(r[1], r[2], r[3], r[4], p, r[6]))
            level = r[2]

    def store(self, key, val):
        old, back, fwd = self._find(key)
        top = 0
        if old:
            if os.pread(self.fd, old[4], old[0] + old[8] + old[3]) == val:
                return
            top = old[2]
            self.nrec -= 1
        lvl = ts_level(self.rng)
        off = self._append(b'+', lvl, key, val, [0] + fwd[:lvl])
        for i in range(lvl):
            fwd[i] = off
        self._stitch(back, fwd, max(lvl, top))
        self.nrec += 1

    def delete(self, key):
        old, back, fwd = self._find(key)
        if not old:
            return False
        self.nrec -= 1
        nxt = self._live(fwd[0])
        off = self._append(b'-', 0, b'', b'', [nxt[0] if nxt else 0])
        fwd[0] = off
        self._stitch(back, fwd, old[2])
        return True

    def commit(self, checkpoint=True):
        """commit, unlock, and checkpoint if the file has doubled"""
        if not self.flags & 1:
            self.unlock()
            return
        self._append(b'$', 0, b'', b'', [self.size])
        self._sync(True)
        self.size, self.flags = self.end, 0
        self._write(0, ts_header(self.gen, self.nrec, self.repack, self.size))
        self._sync()
        self.unlock()
        if checkpoint and self.size > TS_MINREWRITE and self.size > 2 * self.repack:
            self.lock()
            if self.size > 2 * self.repack:
                self.checkpoint()
            self.unlock()

    def items(self):
        data = os.pread(self.fd, self.size, 0)
        out, off = [], self._next(self._rec(64), 0)
        while off:
            lvl, = struct.unpack_from('B', data, off + 1)
            kl, vl = struct.unpack_from('>HI', data, off + 2)
            p = off + 8 + (8 if kl == 0xffff else 0)
            if kl == 0xffff:
                kl, = struct.unpack_from('>Q', data, off + 8)
            if data[off] == 45:
                off, = struct.unpack_from('>Q', data, p)
                continue
            a, b = struct.unpack_from('>QQ', data, p)
            p += 8 * (lvl + 2)
            out.append((data[p:p + kl], data[p + kl:p + kl + vl]))
            off = b if a >= self.end else a if b >= self.end else max(a, b)
        return out

    def checkpoint(self):
        new = self.path + '.NEW'
        items = self.items()
        try:
            os.unlink(new)
        except FileNotFoundError:
            pass
        fd = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        ts_build(items, self.rng, self.gen + 1, lambda b: os.write(fd, b))
        if self.fsync:
            os.fsync(fd)
        os.rename(new, self.path)
        if self.fsync:
            d = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(d)
            os.close(d)
        os.close(self.fd)
        self.fd = fd
        self.checkpoints += 1
