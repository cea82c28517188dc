#!/usr/bin/env python3
"""store.py DIR [options]: fills the empty store of an instance, as a Debian Cyrus would have left it at rest.

DIR holds conf, part1 (partition default), part2 (partition second) and sieve, as instance.py makes them. The same
options and seed give the same bytes, about 10 000 small messages a second. Users are u00000...; every fifth lives on
the second partition, Drafts stays empty, some INBOXes are shared with the previous user, some users have a script.
Names with a blank, with a dot and in modified UTF-7 occur; so do hard links, expunged but kept messages, gaps in UIDs.
"""
import argparse
import collections
import hashlib
import json
import math
import os
import random
import shutil
import sqlite3
import struct
import sys
import time

if __name__ == '__main__':
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import formats as F, processes                    # noqa: E402
from lab.mail import Mail, sieve_message                   # noqa: E402
from lab.twoskip import EMPTY_TWOSKIP, ts_build            # noqa: E402

BASE = 1790000000                      # first second of the store's history (2026-09-21); a constant keeps runs equal
BLOCK = 20                             # users that share a random stream and a pool of linkable messages
NAMES = [b'Sent', b'Drafts', b'Archive', b'Trash', b'Old mail', b'M&APY-bel', b'Lists', b'Work', b'Spam', b'Archive.2025']
UFLAGS = (b'$Forwarded', b'$MDNSent', b'NonJunk', b'$Label1')
SCRIPT = b'require ["fileinto"];\nif header :contains "subject" "zz" { fileinto "INBOX"; }\n'
SCRIPT_BC = bytes.fromhex(             # what sievec makes of SCRIPT
    '437972534279746563 6f6465 0000001f 00000000 00000006 00000015 0000000e 00000000 00000025 ffffffff 0000001d 00000001 00000044'
    '00000007 7375626a65637400 00000001 00000054 00000002 7a7a0000 00000010 00000021 00000028 ffffffff ffffffff 00000000 00000000'
    '00000074 00000000 00000005 494e424f58000000'.replace(' ', ''))
DAV = """CREATE TABLE ical_objs ( rowid INTEGER PRIMARY KEY, creationdate INTEGER, mailbox TEXT NOT NULL, resource TEXT NOT NULL, imap_uid INTEGER, modseq INTEGER, createdmodseq INTEGER, lock_token TEXT, lock_owner TEXT, lock_ownerid TEXT, lock_expire INTEGER, comp_type INTEGER, ical_uid TEXT, organizer TEXT, dtstart TEXT, dtend TEXT, comp_flags INTEGER, sched_tag TEXT, alive INTEGER, UNIQUE( mailbox, imap_uid ), UNIQUE( mailbox, resource ) );
CREATE INDEX idx_ical_uid ON ical_objs ( ical_uid );
CREATE TABLE vcard_objs ( rowid INTEGER PRIMARY KEY, creationdate INTEGER, mailbox TEXT NOT NULL, resource TEXT NOT NULL, imap_uid INTEGER, modseq INTEGER, createdmodseq INTEGER, lock_token TEXT, lock_owner TEXT, lock_ownerid TEXT, lock_expire INTEGER, version INTEGER, vcard_uid TEXT, kind INTEGER, fullname TEXT, name TEXT, nickname TEXT, alive INTEGER, UNIQUE( mailbox, imap_uid ), UNIQUE( mailbox, resource ) );
CREATE INDEX idx_vcard_fn ON vcard_objs ( fullname );
CREATE INDEX idx_vcard_uid ON vcard_objs ( vcard_uid );
CREATE TABLE vcard_emails ( rowid INTEGER PRIMARY KEY, objid INTEGER, pos INTEGER NOT NULL, email TEXT NOT NULL COLLATE NOCASE, ispref INTEGER NOT NULL DEFAULT 0, ispinned INTEGER NOT NULL DEFAULT 0, FOREIGN KEY (objid) REFERENCES vcard_objs (rowid) ON DELETE CASCADE );
CREATE INDEX idx_vcard_email ON vcard_emails ( email COLLATE NOCASE );
CREATE TABLE vcard_groups ( rowid INTEGER PRIMARY KEY, objid INTEGER, pos INTEGER NOT NULL, member_uid TEXT NOT NULL, otheruser TEXT NOT NULL DEFAULT "", FOREIGN KEY (objid) REFERENCES vcard_objs (rowid) ON DELETE CASCADE );
CREATE TABLE dav_objs ( rowid INTEGER PRIMARY KEY, creationdate INTEGER, mailbox TEXT NOT NULL, resource TEXT NOT NULL, imap_uid INTEGER, modseq INTEGER, createdmodseq INTEGER, lock_token TEXT, lock_owner TEXT, lock_ownerid TEXT, lock_expire INTEGER, filename TEXT, type TEXT, subtype TEXT, res_uid TEXT, ref_count INTEGER, alive INTEGER, UNIQUE( mailbox, imap_uid ), UNIQUE( mailbox, resource ) );
CREATE TABLE ical_jmapcache ( rowid INTEGER NOT NULL, userid TEXT NOT NULL, jmapversion INTEGER NOT NULL, jmapdata TEXT NOT NULL, PRIMARY KEY (rowid, userid) FOREIGN KEY (rowid) REFERENCES ical_objs (rowid) ON DELETE CASCADE );
CREATE TABLE vcard_jmapcache ( rowid INTEGER NOT NULL PRIMARY KEY, jmapversion INTEGER NOT NULL, jmapdata TEXT NOT NULL, FOREIGN KEY (rowid) REFERENCES vcard_objs (rowid) ON DELETE CASCADE );
CREATE TABLE sieve_scripts ( rowid INTEGER PRIMARY KEY, creationdate INTEGER, lastupdated INTEGER, mailbox TEXT NOT NULL, imap_uid INTEGER, modseq INTEGER, createdmodseq INTEGER, id TEXT NOT NULL, name TEXT NOT NULL, contentid TEXT NOT NULL, isactive INTEGER, alive INTEGER, UNIQUE( mailbox, imap_uid ), UNIQUE( id ) );
CREATE INDEX idx_sieve_name ON sieve_scripts ( name );
PRAGMA user_version = 14;
"""


def put(path, data, mode=0o600):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    while data:
        data = data[os.write(fd, data):]
    os.close(fd)


def ident(rng):
    return ''.join(rng.choices(F.ALNUM, k=24))


class Block:
    """BLOCK users, written one mailbox at a time; what the global databases need is kept in .out"""

    def __init__(self, a, number):
        self.a, self.n = a, number
        self.rng = random.Random(f'{a.seed}/{number}')
        self.mail = a.mail
        self.pool = {'default': [], 'second': []}
        self.out = dict(mb=[], annot=[], deliver=[], quota=[], msgs=0, bytes=0, links=0)
        self.conf = a.conf

    def run(self):
        for u in range(self.n * BLOCK, min(self.a.users, (self.n + 1) * BLOCK)):
            self.user(u)
        return self.out

    def user(self, u):
        a, rng = self.a, self.rng
        user = b'u%05d' % u
        part = 'second' if u % 5 == 4 else 'default'
        lo, hi = a.messages * u // a.users, a.messages * (u + 1) // a.users
        names = [b''] + [NAMES[i] if i < len(NAMES) else b'f%04d' % i for i in range(a.mailboxes_per_user - 1)]
        # a third of the mail is in INBOX, some mailboxes stay empty
        w = [max(1, len(names) / 2)] + [0 if n == b'Drafts' else rng.random() + .1 for n in names[1:]]
        tot, counts, acc = sum(w), [], 0.0
        for x in w:
            before = int(acc / tot * (hi - lo) + .5)
            acc += x
            counts.append(int(acc / tot * (hi - lo) + .5) - before)
        counts[0] += (hi - lo) - sum(counts)
        born = BASE + u
        acl = [(user, b'lrswipkxtecdan'), (b'admin', b'lrswipkxtecdan')]
        share = b'u%05d' % (u - 1) if u % 10 == 5 else None
        used = msgs = annot = folders = modseq = 0
        inbox = None
        for k, n in enumerate(names):
            box = b'user.' + user + (b'.' + n if n else b'')
            mid = ident(rng)
            acl2 = acl + [(share, b'lrs')] if share and not n else acl
            if k == 0:
                inbox = mid
                self.umeta = f'{self.conf}/user/uuid/{mid[0]}/{mid[1]}/{mid}'
                os.makedirs(self.umeta, 0o700)
            note = b'note %d' % rng.randrange(10 ** rng.randrange(1, 6)) if rng.random() < .1 else b''
            h = self.mailbox(box, mid, part, acl2, user, counts[k], born + k, len(note))
            used, msgs, folders, modseq = used + h['quota'], msgs + h['exists'], folders + 1, max(modseq, h['modseq'])
            if note:
                annot += len(note)
                self.out['annot'].append((mid.encode() + b'\0/comment\0[.OwNeR.]\0', F.annot_value(note)))
            if share and not n:
                self.share = (int(share[1:]), mid, h['lastuid'], born)
        if rng.random() < a.sieve_ratio:
            h = self.sieve(user, inbox, part, acl, born + 100)
            used, msgs, folders = used + h['quota'], msgs + h['exists'], folders + 1
        put(self.umeta + '/conversations.db', F.skiplist_empty(BASE))
        if rng.random() < .8:
            put(self.umeta + '/sub.db', F.flat_sub([b'INBOX' + (b'\x1f' + n.replace(b'.', b'\x1f') if n else b'') for n in names]))
        if u % 10 == 5 and u % BLOCK > 0:      # the previous user has read some of this INBOX
            who, mid, last, t = self.share
            put(self.prev + '/seen.db', ts_build([(mid.encode(), b'1 %d %d %d %s' % (t + 50, last, t + 40, b'1:%d' % (last // 2) if last > 3 else b''))], rng))
        self.prev = self.umeta
        limit = max(4_000_000, used // 512)
        self.out['quota'].append((user, F.quota_value(used, limit, msgs, annot, folders, modseq + folders)))

    def entry(self, box, mid, part, acl, mbtype, uidv, modseq, mtime):
        e = dict(T=mbtype, I=mid.encode(), P=part.encode(), V=uidv, C=1, F=1, M=mtime, A=acl)
        d = F.dbname(box)
        self.out['mb'] += ((b'N' + d, b'%(T ' + mbtype + F.n_value(e)[4 + len(mbtype):]), (b'I' + e['I'], F.i_value(e, d)))

    def mailbox(self, box, mid, part, acl, user, n, born, annot):
        a, rng, mail, out = self.a, self.rng, self.mail, self.out
        d = f"{a.parts[part]}/uuid/{mid[0]}/{mid[1]}/{mid}"
        os.makedirs(d, 0o700)
        self.entry(box, mid, part, acl, b'e', born + 1, 1, born)
        h = F.new_index(born + 1, born)
        h['quotaannot'] = annot
        rnd = rng.random
        repacked = n > 0 and rnd() < .3
        if repacked:
            h['gen'], h['repacktime'] = rng.randrange(1, 4), born + 1000
        inbox = box.count(b'.') == 1
        pool, mu, sigma = self.pool[part], math.log(a.median), a.sigma
        recs, uid, modseq, t, coff = [], 0, 1, born + 60, 4
        nul, idb, names = F.NOFLAGS, mid.encode(), ()
        changed = []
        cache = open(d + '/cyrus.cache', 'wb', 1 << 18) if n else None
        if n:
            cache.write(struct.pack('>I', h['gen']))
        dl = max(1, a.deliver_records // a.users) if inbox else 0
        recent = collections.deque(maxlen=dl) if dl else None
        session = b'lab-%d-%d-1-%d' % (born, 4000 + self.n, rng.getrandbits(60))
        sticky = []                                        # pool entries used here: one mailbox holds an inode once
        for i in range(n):
            uid += 1
            modseq += 1
            if repacked and rnd() < .03:
                uid += 1 + int(rnd() * 3)
                h['deletedmodseq'] = modseq
                modseq += 1
            t += int(rnd() * 40)
            path = '%s/%d.' % (d, uid)
            src = None
            if pool and rnd() < a.hardlink_ratio:
                j = int(rnd() * len(pool))
                src = pool[j]
                if src[0] == d:
                    src = None
            if src:
                os.link(src[1], path)
                _, _, size, hs, sent, gm, guid, idate, cb, cc, msgid, date = src
                out['links'] += 1
                src[0] = d                                 # not twice in this mailbox
            else:
                size = int(rng.lognormvariate(mu, sigma))
                size = a.min if size < a.min else a.max if size > a.max else size
                m, cb, hs, sent, gm, msgid, date = mail.message(rng, b'%d.%d.%d' % (a.seed, born - BASE, self.count()), size, t, session, inbox, user)
                size, idate = len(m), t
                guid = hashlib.sha1(m).digest()
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                os.write(fd, m)
                os.utime(fd, (t, t))
                os.close(fd)
                cc = F.crc(cb)
                out['bytes'] += size
                if a.hardlink_ratio and rnd() < .3:
                    x = [d, path, size, hs, sent, gm, guid, t, cb, cc, msgid, date]
                    if len(pool) < 500:
                        pool.append(x)
                    else:
                        pool[int(rnd() * 500)] = x
            out['msgs'] += 1
            cache.write(cb)
            recs.append([uid, idate, sent, size, hs, gm, coff, t, 0, nul, t, 11, guid, modseq, 0, modseq, cc])
            coff += len(cb)
            if rnd() < .7:
                changed.append(i)
            if recent is not None:
                recent.append((msgid + b'\0' + idb + b'\0' + date + b'\0', struct.pack('<QQ', t, uid)))
        if recent:
            out['deliver'] += recent
        rng.shuffle(changed)
        for i in changed:
            r = recs[i]
            t += int(rnd() * 3)
            modseq += 1
            x = rnd()
            f = F.SEEN
            if x < .15:
                f |= F.ANSWERED
            elif x < .2:
                f |= F.FLAGGED
            elif x < .22:
                f |= F.DRAFT
            elif x < .25:
                f = F.DELETED
            elif x < .3:
                k = int(rnd() * 4)
                r[F.UFLAGS] = bytes((0, 0, 0, 1 << k)) + bytes(12)
                names = UFLAGS
            if rnd() < a.expunged_ratio / .7:
                f |= F.DELETED | F.EXPUNGED
            r[F.FLAGS], r[F.MODSEQ], r[F.UPDATED] = f, modseq, t
            if f & F.EXPUNGED and not h['firstexpunged']:
                h['firstexpunged'] = t
        hb = F.header_file(b'e', box, idb, b'user.' + user, acl, names)
        put(d + '/cyrus.header', hb)
        body = []
        for r in recs:
            if r[F.FLAGS] & F.EXPUNGED == 0:
                if r[F.UFLAGS] is nul:
                    F.add_fresh(h, r)
                else:
                    F.count(h, r, 1, names)
            body.append(F.pack_record(r))
        if n:
            cache.close()
            put(d + '/cyrus.annotations', EMPTY_TWOSKIP)
            h.update(nrec=n, lastuid=uid, appenddate=recs[-1][F.SAVED], modseq=modseq)
            if rnd() < .8:
                h.update(recentuid=uid if rnd() < .5 else max(1, uid - 3), recenttime=t)
        h['headercrc'] = F.crc(hb)
        put(d + '/cyrus.index', F.pack_index(h) + b''.join(body))
        return h

    def count(self):
        self.serial = getattr(self, 'serial', 0) + 1
        return self.serial

    def sieve(self, user, inbox, part, acl, t):
        a, mid, sid = self.a, ident(self.rng), ident(self.rng)
        box = b'user.' + user + b'.#sieve'
        d = f"{a.parts[part]}/uuid/{mid[0]}/{mid[1]}/{mid}"
        os.makedirs(d, 0o700)
        self.entry(box, mid, part, acl, b'f', t + 1, 1, t)
        m, cb, hs = sieve_message(user, b'lab', b'main', sid.encode(), SCRIPT, t)
        put(d + '/1.', m)
        os.utime(d + '/1.', (t, t))
        h = F.new_index(t + 1, t)
        r = [1, t, t // 86400 * 86400, len(m), hs, t, 4, t + 1, F.FLAGGED, F.NOFLAGS, t, 11, hashlib.sha1(m).digest(), 3, 0, 2, F.crc(cb)]
        F.count(h, r, 1)
        hb = F.header_file(b'f', box, mid.encode(), b'user.' + user, acl)
        h.update(nrec=1, lastuid=1, appenddate=t, modseq=3, headercrc=F.crc(hb))
        put(d + '/cyrus.header', hb)
        put(d + '/cyrus.cache', bytes(4) + cb)
        put(d + '/cyrus.annotations', EMPTY_TWOSKIP)
        put(d + '/cyrus.index', F.pack_index(h) + F.pack_record(r))
        sd = f'{a.sieve}/uuid/{inbox[0]}/{inbox[1]}/{inbox}'
        os.makedirs(sd, 0o700)
        put(sd + '/main.bc', SCRIPT_BC)
        os.symlink('main.bc', sd + '/defaultbc')
        shutil.copyfile(a.conf + '/.dav', self.umeta + '/dav.db')
        db = sqlite3.connect(self.umeta + '/dav.db')
        db.execute('PRAGMA synchronous = OFF')
        db.execute('INSERT INTO sieve_scripts VALUES(1,?,?,?,1,3,2,?,?,?,1,1)', (t, t, mid, sid, 'main', hashlib.sha1(SCRIPT).hexdigest()))
        db.commit()
        db.close()
        return h


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('dir')
    ap.add_argument('--users', type=int, default=20)
    ap.add_argument('--mailboxes-per-user', type=int, default=5)
    ap.add_argument('--messages', type=int, default=2000)
    ap.add_argument('--median', type=float, default=4000, help='bytes; sizes are lognormal')
    ap.add_argument('--sigma', type=float, default=1.4)
    ap.add_argument('--min', type=int, default=600)
    ap.add_argument('--max', type=int, default=1_000_000)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--hardlink-ratio', type=float, default=.1, help='share of messages that are one more link to an earlier one')
    ap.add_argument('--expunged-ratio', type=float, default=.03, help='share of records expunged but kept')
    ap.add_argument('--sieve-ratio', type=float, default=.1, help='share of users with a script, #sieve mailbox and dav.db')
    ap.add_argument('--deliver-records', type=int, default=5000, help='newest deliveries remembered in deliver.db')
    a = ap.parse_args()
    d, t0 = os.path.abspath(a.dir), time.time()
    a.conf, a.sieve, a.parts = d + '/conf', d + '/sieve', dict(default=d + '/part1', second=d + '/part2')
    for x in (a.conf, a.sieve, *a.parts.values()):
        os.makedirs(x, exist_ok=True)
        if os.geteuid() == 0:
            u = processes.account()
            os.chown(x, u['user'], u['group'])
    processes.become('cyrus')
    os.umask(0o077)
    for x in (a.conf + '/db', *(p + '/stage.' for p in a.parts.values())):
        os.makedirs(x, 0o700, exist_ok=True)
    db = sqlite3.connect(a.conf + '/.dav')
    db.executescript(DAV)
    db.close()
    a.mail = Mail(a.seed)
    outs = [Block(a, b).run() for b in range((a.users + BLOCK - 1) // BLOCK)]
    rng = random.Random(f'{a.seed}/db')
    all = lambda k: [x for o in outs for x in o[k]]
    put(a.conf + '/mailboxes.db', ts_build(sorted(all('mb')), rng))
    put(a.conf + '/annotations.db', ts_build(sorted(all('annot') + [(b'\0/comment\0\0', F.annot_value(b'lab'))]), rng))
    put(a.conf + '/deliver.db', ts_build(sorted(dict(all('deliver')).items()), rng))
    os.makedirs(a.conf + '/quota/u', 0o700)
    for user, v in all('quota'):
        put(f'{a.conf}/quota/u/user.{user.decode()}', v)
    put(a.conf + '/db/skipstamp', struct.pack('>I', BASE - 1))
    os.unlink(a.conf + '/.dav')
    n, size, links = (sum(o[k] for o in outs) for k in ('msgs', 'bytes', 'links'))
    print(json.dumps(dict(users=a.users, mailboxes=len(all('mb')) // 2, messages=n, hard_links=links, message_bytes=size, secs=round(time.time() - t0, 2))))


if __name__ == '__main__':
    main()
