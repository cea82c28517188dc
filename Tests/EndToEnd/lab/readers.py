"""Readers of Cyrus's formats for check.py: strict, and independent of the writers in formats.py and twoskip.py."""
import struct
import zlib

crc = zlib.crc32
MAGIC = b'\xa1\x02\x8b\r'
HMAGIC = MAGIC + b'Cyrus mailbox header\n"The best thing about this system was that it had lots of goals."\n\t--Jim Morris on Andrew\n'


def U(b, at, bytes=4):
    return int.from_bytes(b[at:at + bytes], 'big')


class Bad(Exception):
    pass


def twoskip(b):
    """every record by its place, then the links; -> sorted [(key, value)]"""
    if b[:20] != MAGIC + b'twoskip file\0\0\0\0' or len(b) < 336:
        raise Bad('not a twoskip file')
    if crc(b[:60]) != U(b, 60):
        raise Bad('header crc')
    nrec, size, flags = U(b, 32, 8), U(b, 48, 8), U(b, 56)
    if flags & 1 or size != len(b):
        raise Bad('not clean: flags %d, committed %d of %d bytes' % (flags, size, len(b)))
    recs, o, last = {}, 64, None
    while o < size:
        if b[o:o + 8] == b' BLANK\x07\xa0':
            o += 8
            continue
        s, t, lvl, kl, vl, p = o, b[o:o + 1], b[o + 1], U(b, o + 2, 2), U(b, o + 4), o + 8
        if t not in (b'=', b'+', b'-', b'$') or lvl > 31:
            raise Bad('no record at %d' % o)
        if kl == 0xffff:
            kl, p = U(b, p, 8), p + 8
        if vl == 0xffffffff:
            vl, p = U(b, p, 8), p + 8
        e = p + 8 * (lvl + 1)
        end = e + 8 + (kl + vl + 7) // 8 * 8
        if end > size:
            raise Bad('record at %d reaches past the end' % s)
        if crc(b[s:e]) != U(b, e):
            raise Bad('head crc at %d' % s)
        if crc(b[e + 8:end]) != U(b, e + 4):
            raise Bad('tail crc at %d' % s)
        recs[s] = (t, lvl, struct.unpack_from('>%dQ' % (lvl + 1), b, p), b[e + 8:e + 8 + kl], b[e + 8 + kl:e + 8 + kl + vl])
        o, last = end, t
    if len(recs) > 1 and last != b'$':
        raise Bad('does not end in a commit')
    if 64 not in recs or recs[64][0] != b'=':
        raise Bad('no dummy record')
    zero = lambda p: p[1] if p[0] >= size else p[0] if p[1] >= size else max(p[0], p[1])
    step = lambda r, i: r[2][i + 1] if i else zero(r[2])
    cur = recs[64]
    fwd = [step(cur, i) for i in range(31)]
    out = []
    while fwd[0]:
        if fwd[0] not in recs:
            raise Bad('pointer to no record: %d' % fwd[0])
        at, r = fwd[0], recs[fwd[0]]
        if r[0] == b'-':
            fwd[0] = r[2][0]
            continue
        if r[0] != b'+':
            raise Bad('pointer to a %r record at %d' % (r[0], at))
        if out and r[3] <= out[-1][0]:
            raise Bad('keys out of order at %d' % at)
        for i in range(r[1]):
            if fwd[i] != at:
                raise Bad('broken link at %d level %d' % (at, i))
            fwd[i] = step(r, i)
        out.append((r[3], r[4]))
    if any(fwd):
        raise Bad('broken tail')
    if len(out) != nrec:
        raise Bad('%d records, header says %d' % (len(out), nrec))
    return out


def skiplist(b):
    """level-0 walk over a skiplist -> [(key, value)]"""
    if b[:20] != MAGIC + b'skiplist file\0\0\0' or len(b) < 144 or U(b, 20) != 1 or U(b, 24) != 2 or U(b, 28) != 20:
        raise Bad('not a skiplist file')
    curlevel, listsize, logstart = U(b, 32), U(b, 36), U(b, 40)
    if U(b, 48) != 257 or b[140:144] != b'\xff' * 4 or U(b, 52) or U(b, 56) or curlevel > 20 or logstart > len(b):
        raise Bad('damaged header')
    rec = lambda o: (U(b, o), U(b, o + 4))
    o, out, n = U(b, 60), [], 0
    while o:
        if o + 16 > len(b) or U(b, o) not in (1, 2):
            raise Bad('pointer to no record: %d' % o)
        kl = U(b, o + 4)
        p = o + 8 + (kl + 3) // 4 * 4
        vl = U(b, p)
        q = p + 4 + (vl + 3) // 4 * 4
        if q + 4 > len(b):
            raise Bad('record at %d reaches past the end' % o)
        k = b[o + 8:o + 8 + kl]
        if out and k <= out[-1][0]:
            raise Bad('keys out of order at %d' % o)
        out.append((k, b[p + 4:p + 4 + vl]))
        o, n = U(b, q), n + 1
        if n > 10_000_000:
            raise Bad('loop')
    if len(b) > 144 and U(b, len(b) - 4) not in (255, 0xffffffff):
        raise Bad('does not end in a commit')
    if len(b) == 144 and (any(b[60:140]) or listsize or logstart != 144):
        raise Bad('damaged empty list')
    return out


def dlist(b):
    v, p = _dl(b, 0)
    if b[p:].strip(b'\n'):
        raise Bad('rubbish after the value')
    return v


def _dl(b, p):
    try:
        while b[p] == 32:
            p += 1
        if b[p] == 37 or b[p] == 40:
            pairs = b[p] == 37
            p += 1 + pairs
            if pairs and b[p - 1] != 40:
                raise Bad('dlist')
            out = []
            while True:
                while b[p] == 32:
                    p += 1
                if b[p] == 41:
                    break
                v, p = _dl(b, p)
                out.append(v)
            if pairs:
                if len(out) % 2:
                    raise Bad('dlist: odd')
                return [(out[i], out[i + 1]) for i in range(0, len(out), 2)], p + 1
            return out, p + 1
        if b[p] == 34:
            out, p = bytearray(), p + 1
            while b[p] != 34:
                p += b[p] == 92
                out.append(b[p])
                p += 1
            return bytes(out), p + 1
        if b[p] == 123:
            e = b.index(b'}', p)
            n = int(b[p + 1:e].rstrip(b'+'))
            e += 3 if b[e + 1] == 13 else 2
            return b[e:e + n], e + n
        e = p
        while e < len(b) and b[e] not in b' ()\n':
            e += 1
        if e == p:
            raise Bad('dlist: nothing')
        return b[p:e], e
    except (IndexError, ValueError):
        raise Bad('dlist: cut short')


def unatom(v):
    return None if v == b'NIL' else v


def annotation(v):
    n = U(v, 0)
    if len(v) < 8 + n + 1 or v[8 + n:8 + n + 12] != b'\0text/plain\0':
        raise Bad('annotation value')
    deleted = len(v) > 8 + n + 12 + 16 and v[8 + n + 12 + 16] & 1
    return v[8:8 + n], deleted


def read(p):
    with open(p, 'rb') as f:
        return f.read()


def owner(name):
    p = name.split(b'\x1f')
    p = p[1:] if p[0] == b'DELETED' else p
    return p[1] if p[0] == b'user' and len(p) > 1 else b''
