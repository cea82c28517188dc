"""One mailbox directory: every checksum of index, records, cache and header, both sync CRCs, counts, and the messages."""
import collections
import hashlib
import os
import stat
import struct

from .readers import HMAGIC, U, Bad, annotation, crc, dlist, read, twoskip, unatom

SYSFLAGS = ((4, b'\\deleted'), (1, b'\\answered'), (2, b'\\flagged'), (8, b'\\draft'), (16, b'\\seen'))
VA = b' /vendor/cmu/cyrus-imapd/'


def check_mailbox(d, md, ent, o):
    """-> (findings, counts, facts) of one mailbox; `d` holds its messages, `md` the other files, `ent` is what mailboxes.db says"""
    F, n, fact = [], collections.Counter(), {}
    bad = lambda what: F.append((d, what))
    try:
        # beside a metadata partition the directory of the messages appears with the first of them
        files = {e.name: e.stat(follow_symlinks=False) for x in {d, md} if x == md or os.path.exists(x) for e in os.scandir(x)}
    except FileNotFoundError:
        return [(d, 'directory missing')], n, fact
    for f, st in files.items():
        if stat.S_ISREG(st.st_mode) and o['owner'] is not None and st.st_uid != o['owner']:
            bad('%s: owner %d' % (f, st.st_uid))
    try:
        hb = read(md + '/cyrus.header')
    except FileNotFoundError:
        bad('cyrus.header missing')
        hb = None
    flags = []
    if hb is not None:
        try:
            if not hb.startswith(HMAGIC) or not hb.endswith(b'\n'):
                raise Bad('magic')
            h = dict(dlist(hb[len(HMAGIC):]))
            flags = [unatom(x) for x in h.get(b'U', [])]
            fact['Q'] = h.get(b'Q')
            for k, want in ((b'I', ent['id']), (b'N', ent['name']), (b'T', ent['type']), (b'A', ent['acl'])):
                if h.get(k) != want and not (k == b'N' and ent['legacy']):     # a rename in the legacy layout leaves the old name there
                    bad('cyrus.header %s is %s, mailboxes.db has %s' % (k.decode(), h.get(k), want))
        except (Bad, ValueError, TypeError) as e:
            bad('cyrus.header: %s' % e)
    try:
        b = read(md + '/cyrus.index')
    except FileNotFoundError:
        bad('cyrus.index missing')
        return F, n, fact
    if len(b) < 160 or crc(b[:156]) != U(b, 156):
        bad('cyrus.index: header crc')
        return F, n, fact
    (gen, fmt, minor, start, rsz, nrec, appd, lastuid, quota, pop3, uidv, ndel, nans, nflg, opt, leak, hms, dms, exists, fexp, rep,
     hcrc, basic, ruid, rtime, p3, qannot, annot, unseen, cms, epoch) = struct.unpack_from('>8IQ7I2Q11IQI', b)
    if (minor, start, rsz, fmt) != (17, 160, 112, 0):
        bad('cyrus.index: version %d, header %d, record %d' % (minor, start, rsz))
        return F, n, fact
    if hb is not None and crc(hb) != hcrc:
        bad('cyrus.index: header_file_crc is of another cyrus.header')
    if uidv != ent['uidvalidity']:
        bad('uidvalidity %d, mailboxes.db has %d' % (uidv, ent['uidvalidity']))
    if len(b) < 160 + nrec * 112:
        bad('cyrus.index: %d bytes, %d records need %d' % (len(b), nrec, 160 + nrec * 112))
        nrec = (len(b) - 160) // 112
    n['index_surplus'] += len(b) > 160 + nrec * 112
    ann, asum = collections.defaultdict(list), ent['annot']
    if 'cyrus.annotations' in files:
        try:
            for k, v in twoskip(read(md + '/cyrus.annotations')):
                uid, entry, user = k.split(b'\0')[:3]
                if user == b'[.OwNeR.]':
                    user = ent['owner']
                val, gone = annotation(v)
                if not gone:
                    ann[int(uid)].append((entry, user, val))
        except (Bad, ValueError) as e:
            bad('cyrus.annotations: %s' % e)
    cache = None
    if 'cyrus.cache' in files:
        cache = read(md + '/cyrus.cache')
        if len(cache) < 4 or U(cache, 0) != gen:
            bad('cyrus.cache: generation %s, index has %d' % (U(cache, 0) if len(cache) > 3 else 'none', gen))
    elif nrec:
        bad('cyrus.cache missing')
    c = collections.Counter()
    xb, xa, prev, seen = 0, 12345678, 0, set()
    for i in range(nrec):
        r = b[160 + 112 * i:272 + 112 * i]
        if crc(r[:108]) != U(r, 108):
            bad('cyrus.index: record %d crc' % (i + 1))
            continue
        uid, idate, sent, size, hsz, gm, coff, upd, fl, uf, saved, cv, guid, ms, cid, cm, cc = struct.unpack_from('>9I16s2I20s3QI', r)
        if uid <= prev:
            bad('uid %d after %d' % (uid, prev))
        if uid > lastuid:
            bad('uid %d > last_uid %d' % (uid, lastuid))
        if ms > hms or cm > ms:
            bad('uid %d: modseq %d created %d, highest %d' % (uid, ms, cm, hms))
        prev = uid
        seen.add(uid)
        n['records'] += 1
        if cv & 0xffff != 11:
            bad('uid %d: cache version %d' % (uid, cv & 0xffff))
        coff |= (cv & 0xffff0000) << 16
        names = []
        if uf != bytes(16):
            for k in range(128):
                if uf[k // 32 * 4 + 3 - k % 32 // 8] >> k % 8 & 1:
                    if k >= len(flags) or not flags[k]:
                        bad('uid %d: user flag %d has no name' % (uid, k))
                    else:
                        names.append(flags[k])
        if fl & 1 << 30:
            n['unlinked'] += 1
        elif fl & 1 << 31:
            n['expunged_kept'] += 1
        if not fl & 1 << 31:
            c['exists'] += 1
            c['quota'] += size
            c['unseen'] += not fl & 16
            c['answered'] += fl & 1
            c['flagged'] += fl >> 1 & 1
            c['deleted'] += fl >> 2 & 1
            fc = 0
            for bit, nm in SYSFLAGS:
                if fl & bit:
                    fc ^= crc(nm)
            for nm in names:
                fc ^= crc(nm.lower())
            xb ^= crc(b'%d %d %d (%d) %d %s' % (uid, ms, upd, fc, idate, guid.hex().encode()))
            u = b'%d' % uid
            if cid:
                xa ^= crc(u + VA + b'thrid  %x' % cid)
            if saved:
                xa ^= crc(u + VA + b'savedate  %d' % saved)
            if cm:
                xa ^= crc(u + VA + b'createdmodseq  %d' % cm)
            for entry, user, val in ann.get(uid, ()):
                xa ^= crc(u + b' ' + entry + b' ' + user + b' ' + val)
                asum += len(val)
        name = '%d.' % uid
        st = files.get(name)
        if st is None:
            if not fl & 1 << 30:
                bad('uid %d: no message file' % uid)
        else:
            if st.st_size != size:
                bad('uid %d: file has %d bytes, record %d' % (uid, st.st_size, size))
            elif o['hash'] and not fl & 1 << 30:
                key = (st.st_dev, st.st_ino)
                g = o['memo'].get(key) if st.st_nlink > 1 else None
                if g is None:
                    g = hashlib.sha1(read(d + '/' + name)).digest()
                    if st.st_nlink > 1:
                        o['memo'][key] = g
                if g != guid:
                    bad('uid %d: message is not the one with this GUID' % uid)
            if int(st.st_mtime) != idate:
                bad('uid %d: mtime %d, internaldate %d' % (uid, st.st_mtime, idate))
            n['bytes'] += st.st_size
        if cache is not None and not fl & 1 << 30:
            if coff == 0:
                n['uncached'] += 1
            else:
                p = coff
                for _ in range(10):
                    if p + 4 > len(cache):
                        break
                    p += 4 + (U(cache, p) + 3) // 4 * 4
                if p > len(cache) or coff < 4:
                    bad('uid %d: cache record reaches past the end' % uid)
                elif crc(cache[coff:p]) != cc:
                    bad('uid %d: cache crc' % uid)
    for what, have, want in (('exists', exists, c['exists']), ('quota_mailbox_used', quota, c['quota']), ('unseen', unseen, c['unseen']),
                             ('answered', nans, c['answered']), ('flagged', nflg, c['flagged']), ('deleted', ndel, c['deleted']),
                             ('synccrc_basic', basic, xb), ('synccrc_annot', annot, xa), ('quota_annot_used', qannot, asum)):
        if have != want:
            bad('cyrus.index: %s is %d, records give %d' % (what, have, want))
    if ruid > lastuid:
        bad('recentuid %d > last_uid %d' % (ruid, lastuid))
    for f, st in files.items():
        if stat.S_ISDIR(st.st_mode) and ent['legacy']:
            continue                                        # a mailbox below this one
        if f.endswith('.') and f[:-1].isdigit():
            if int(f[:-1]) not in seen:
                n['orphan_message'] += 1
        elif f.endswith('.NEW'):
            n['leftover_NEW'] += 1
        elif f not in ('cyrus.header', 'cyrus.index', 'cyrus.cache', 'cyrus.annotations', 'cyrus.squat'):
            bad('unknown file ' + f)
    fact.update(used=quota, msgs=exists, annot=qannot, deleted=opt >> 31, modseq=hms)
    n['mailboxes'] += 1
    return F, n, fact
