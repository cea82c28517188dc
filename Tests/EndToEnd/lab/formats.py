"""Formats of a Cyrus IMAP 3.6 store at the level of bytes: index v17, cyrus.header, mailboxes.db values, quota, flat files.

The writer's side, for store.py and mutate.py; check.py has readers of its own and does not import this.
All integers are big-endian; crc32 is zlib's. Offsets are in the struct comments.
"""
import fcntl
import os
import struct
import zlib

crc = zlib.crc32
MAGIC = b'\xa1\x02\x8b\r'
HEADER_MAGIC = MAGIC + b'Cyrus mailbox header\n"The best thing about this system was that it had lots of goals."\n\t--Jim Morris on Andrew\n'
ANSWERED, FLAGGED, DELETED, DRAFT, SEEN = 1, 2, 4, 8, 16
UNLINKED, EXPUNGED = 1 << 30, 1 << 31
OPT_POP3_NEW_UIDL, OPT_NEEDS_UNLINK, OPT_NEEDS_REPACK, OPT_DELETED = 1, 1 << 29, 1 << 30, 1 << 31
ANNOT_SEED = 12345678                                   # annotation sync CRC of an empty mailbox
ALNUM = '0123456789abcdefghijklmnopqrstuvwxyz'

# ---- cyrus.index
# header: 0 gen fmt minor start recsize nrec appenddate lastuid | 32 quota(8) | 40 pop3 uidvalidity deleted answered
# flagged options leaked | 68 highestmodseq(8) deletedmodseq(8) | 84 exists firstexpunged repacktime headercrc syncbasic
# recentuid recenttime pop3after quotaannot syncannot unseen | 128 createdmodseq(8) | 136 epoch | 140 zero | 156 crc
_IH = struct.Struct('>8IQ7I2Q11IQI16x')
IH_NAMES = ('gen', 'fmt', 'minor', 'start', 'recsize', 'nrec', 'appenddate', 'lastuid', 'quota', 'pop3', 'uidvalidity',
            'deleted', 'answered', 'flagged', 'options', 'leaked', 'modseq', 'deletedmodseq', 'exists', 'firstexpunged',
            'repacktime', 'headercrc', 'basic', 'recentuid', 'recenttime', 'pop3after', 'quotaannot', 'annot', 'unseen',
            'createdmodseq', 'epoch')
# record: 0 uid idate sentdate size hdrsize gmtime cacheoff lastupdated flags | 36 userflags(16) | 52 savedate cachever
# | 60 guid(20) | 80 modseq cid createdmodseq (8 each) | 104 cachecrc | 108 crc
_IR = struct.Struct('>9I16s2I20s3QI')
IH_SIZE, IR_SIZE = 160, 112
NOFLAGS = bytes(16)


def new_index(uidvalidity, now):
    h = dict.fromkeys(IH_NAMES, 0)
    h.update(minor=17, start=IH_SIZE, recsize=IR_SIZE, uidvalidity=uidvalidity, options=OPT_POP3_NEW_UIDL, modseq=1,
             createdmodseq=1, epoch=now, annot=ANNOT_SEED)
    return h


def pack_index(h):
    b = _IH.pack(*[h[k] for k in IH_NAMES])
    return b + struct.pack('>I', crc(b))


def unpack_index(b):
    if len(b) < IH_SIZE or crc(b[:156]) != int.from_bytes(b[156:160], 'big'):
        raise ValueError('index header crc')
    return dict(zip(IH_NAMES, _IH.unpack_from(b)))


def pack_record(r):
    b = _IR.pack(*r)
    return b + struct.pack('>I', crc(b))


def unpack_record(b):
    if crc(b[:108]) != int.from_bytes(b[108:112], 'big'):
        raise ValueError('index record crc')
    return list(_IR.unpack_from(b))


# positions in a record list
(UID, IDATE, SENT, SIZE, HSIZE, GMTIME, COFF, UPDATED, FLAGS, UFLAGS, SAVED, CVER, GUID, MODSEQ, CID, CMODSEQ, CCRC) = range(17)
FLAG_CRC = {DELETED: crc(b'\\deleted'), ANSWERED: crc(b'\\answered'), FLAGGED: crc(b'\\flagged'), DRAFT: crc(b'\\draft'), SEEN: crc(b'\\seen')}


def sync_basic(r, names=()):
    """contribution of one record (not EXPUNGED) to the basic sync CRC; names = user flags of cyrus.header"""
    f = 0
    for bit, c in FLAG_CRC.items():
        if r[FLAGS] & bit:
            f ^= c
    if r[UFLAGS] != NOFLAGS:
        for n, name in enumerate(names):
            if name and r[UFLAGS][(n // 32) * 4 + 3 - (n % 32) // 8] >> (n % 8) & 1:
                f ^= crc(name.lower())
    return crc(b'%d %d %d (%d) %d %s' % (r[UID], r[MODSEQ], r[UPDATED], f, r[IDATE], r[GUID].hex().encode()))


def sync_annot(r, annots=()):
    """contribution of one record to the annotation sync CRC; annots = (entry, userid, value) of cyrus.annotations"""
    u = b'%d ' % r[UID]
    c = 0
    if r[CID]:
        c ^= crc(u + b'/vendor/cmu/cyrus-imapd/thrid  %x' % r[CID])
    if r[SAVED]:
        c ^= crc(u + b'/vendor/cmu/cyrus-imapd/savedate  %d' % r[SAVED])
    if r[CMODSEQ]:
        c ^= crc(u + b'/vendor/cmu/cyrus-imapd/createdmodseq  %d' % r[CMODSEQ])
    for entry, userid, value in annots:
        c ^= crc(u + entry + b' ' + userid + b' ' + value)
    return c


def count(h, r, sign, names=(), annots=()):
    """add (1) or take away (-1) one record from the header's counts and sync CRCs"""
    if r[FLAGS] & EXPUNGED:
        return
    f = r[FLAGS]
    h['answered'] += sign * (f & ANSWERED != 0)
    h['flagged'] += sign * (f & FLAGGED != 0)
    h['deleted'] += sign * (f & DELETED != 0)
    h['unseen'] += sign * (f & SEEN == 0)
    h['exists'] += sign
    h['quota'] += sign * r[SIZE]
    h['basic'] ^= sync_basic(r, names)
    h['annot'] ^= sync_annot(r, annots)


def add_fresh(h, r):
    """count(h, r, 1) for a record without user flags or annotations, inlined for speed"""
    f = r[FLAGS]
    if f & SEEN == 0:
        h['unseen'] += 1
    if f & 15:
        h['answered'] += f & 1
        h['flagged'] += f >> 1 & 1
        h['deleted'] += f >> 2 & 1
    h['exists'] += 1
    h['quota'] += r[SIZE]
    h['basic'] ^= sync_basic(r)
    h['annot'] ^= crc(b'%d /vendor/cmu/cyrus-imapd/savedate  %d' % (r[UID], r[SAVED])) ^ crc(b'%d /vendor/cmu/cyrus-imapd/createdmodseq  %d' % (r[UID], r[CMODSEQ]))


# ---- dlist, cyrus.header, mailboxes.db values
_ATOM = frozenset(range(33, 127)) - frozenset(b'(){}"\\%*') | {0x1f, 0x5e, 0x1d}


def atom(s):
    if s and all(c in _ATOM for c in s) and s.upper() != b'NIL':
        return s
    return b'"' + s.replace(b'\\', b'\\\\').replace(b'"', b'\\"') + b'"'


def acl_text(acl):
    return b'%(' + b' '.join(atom(u) + b' ' + r for u, r in acl) + b')'


def header_file(mbtype, name, uid, quotaroot, acl, flags=()):
    b = b'%(T ' + mbtype + b' N ' + atom(name) + b' I ' + uid
    if quotaroot:
        b += b' Q ' + atom(quotaroot)
    b += b' A ' + acl_text(acl)
    if flags:
        b += b' U (' + b' '.join(flags) + b')'
    return HEADER_MAGIC + b + b')\n'


def dlist(b, p=0):
    """parse one dlist value at p -> (value, end); a %(k v ...) becomes a list of (key, value) pairs"""
    while b[p] == 32:
        p += 1
    if b[p:p + 2] == b'%(':
        out, p = [], p + 2
        while True:
            while b[p] == 32:
                p += 1
            if b[p] == 41:
                return out, p + 1
            k, p = dlist(b, p)
            v, p = dlist(b, p)
            out.append((k, v))
    if b[p] == 40:
        out, p = [], p + 1
        while True:
            while b[p] == 32:
                p += 1
            if b[p] == 41:
                return out, p + 1
            v, p = dlist(b, p)
            out.append(v)
    if b[p] == 34:
        out, p = bytearray(), p + 1
        while b[p] != 34:
            if b[p] == 92:
                p += 1
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
    return b[p:e], e


def n_value(e):
    """N record of mailboxes.db"""
    b = b'%(T ' + e['T'] + b' I ' + e['I']
    if e.get('P'):
        b += b' P ' + e['P']
    b += b' V %d C %d F %d M %d' % (e['V'], e['C'], e['F'], e['M'])
    if e.get('A') is not None:
        b += b' A ' + acl_text(e['A'])
    return b + b')'


def i_value(e, name):
    """I record: the same, named, with the mailbox's former names"""
    b = b'%(T ' + e['T'] + b' N ' + atom(name)
    if e.get('P'):
        b += b' P ' + e['P']
    b += b' V %d C %d F %d M %d' % (e['V'], e['C'], e['F'], e['M'])
    if e.get('A') is not None:
        b += b' A ' + acl_text(e['A'])
    return b + b' H (' + b' '.join(b'%%(N %s M %d V %d C %d F %d T %s)' % (atom(n), m, v, c, f, t) for n, m, v, c, f, t in e.get('H', ())) + b'))'


def mbentry(value):
    d = dict((k.decode(), v) for k, v in dlist(value)[0])
    for k in 'VCFM':
        d[k] = int(d.get(k, 0))
    if 'H' in d:
        h = []
        for item in d['H']:
            i = dict(item)
            h.append((i[b'N'], int(i[b'M']), int(i[b'V']), int(i[b'C']), int(i[b'F']), i[b'T']))
        d['H'] = h
    return d


def dbname(internal):
    """user.a.b^c -> user\\x1fa\\x1fb.c"""
    return internal.replace(b'.', b'\x1f').replace(b'^', b'.')


def quota_value(used, limit, msgs, annot, folders, modseq):
    s = b'%d %d' % (used, limit) if limit else b'%d' % used
    return b'%%(S (%s) M (%d) AS (%d) NF (%d) MODSEQ %d)\n' % (s, msgs, annot, folders, modseq)


def quota_parse(b):
    d = dict(dlist(b)[0])
    s = [int(x) for x in d[b'S']]
    return dict(used=s[0], limit=s[1] if len(s) > 1 else 0, msgs=int(d[b'M'][0]), annot=int(d[b'AS'][0]), folders=int(d[b'NF'][0]), modseq=int(d.get(b'MODSEQ', 0)))


def annot_value(v, modseq=0):
    return struct.pack('>I4x', len(v)) + v + b'\0text/plain\0' + bytes(8) + struct.pack('>Q', modseq) + b'\0'


def hashdir(name):
    return name[:1] if 'a' <= name[:1] <= 'z' else 'q'


# ---- skiplist, flat
def skiplist_empty(stamp):
    """the 144-byte conversations.db of a user without conversations"""
    return (MAGIC + b'skiplist file\0\0\0' + struct.pack('>7I', 1, 2, 20, 1, 0, 144, stamp) + struct.pack('>3I', 257, 0, 0) + bytes(80) + b'\xff' * 4)


def flat_sub(names):
    """sub.db: names relative to INBOX, e.g. b'INBOX\\x1fSent'"""
    return b'\x1fVER\x1f\t2\n' + b''.join(b'N' + n + b'\t\n' for n in sorted(names))


# ---- replace by rename, as Cyrus does it
def replace(path, parts, fsync=True, lock=False, truncate=False):
    """write PATH.NEW (one write per part), fsync, rename"""
    fd = os.open(path + '.NEW', os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        if lock:
            fcntl.lockf(fd, fcntl.LOCK_EX)
        for p in parts:
            os.write(fd, p)
        if truncate:
            os.ftruncate(fd, sum(map(len, parts)))
        if fsync:
            os.fsync(fd)
        os.rename(path + '.NEW', path)
    finally:
        os.close(fd)
