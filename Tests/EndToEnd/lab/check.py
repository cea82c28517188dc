#!/usr/bin/env python3
"""check.py DIR [--strict]: is this a state a Cyrus 3.6 could have left at rest? Exit 0: no finding. Exit 1: findings.

Reads the store of an instance without Cyrus and without locks (nothing may write meanwhile) and recomputes every
checksum and count it holds. What a crash may leave behind (message files that no index names, stage. files, *.NEW,
directories without a mailbox) is counted apart and is a finding only with --strict.

It says "could have been", not "is the latest". It cannot see an older file that is sound by itself (an index that
differs in flags only, an older deliver.db, seen.db, sub.db), nor changed bytes where Cyrus keeps no checksum (sub.db,
the limit in a quota file, cells of dav.db, sieve bytecode): those are for diff.py, against the primary.
"""
import argparse
import collections
import hashlib
import os
import sqlite3
import sys

if __name__ == '__main__':
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab.check_mailbox import check_mailbox                # noqa: E402
from lab.readers import U, Bad, annotation, crc, dlist, owner, read, skiplist, twoskip   # noqa: E402

REPLICATOR = '.mailsync'                # the replica's own bookkeeping, in each root
LEGAL = ('orphan_message', 'orphan_directory', 'orphan_user_directory', 'orphan_sieve_directory', 'leftover_NEW', 'stage_files', 'index_surplus',
         'unlinked', 'users_without_files', 'annotations_of_no_mailbox', 'seen_of_no_mailbox', 'uncached')


def letter(name):
    """the directory that hashimapspool puts a name in"""
    return name[0].lower() if name[:1].isalpha() and name[:1].isascii() else 'q'


class Store:
    """`roots` as in instance.py: imapd.conf's key of each -> its path"""

    def __init__(self, roots, hash=True):
        self.conf, self.sieve = roots['configdirectory'], roots['sievedir']
        self.roots = roots
        self.parts = {k[10:]: v for k, v in roots.items() if k.startswith('partition-')}
        self.meta = {k[14:]: v for k, v in roots.items() if k.startswith('metapartition-')}
        self.opt = dict(hash=hash, owner=None, memo={})
        self.F, self.n = [], collections.Counter()
        if os.path.exists(self.conf + '/mailboxes.db'):
            self.opt['owner'] = os.stat(self.conf + '/mailboxes.db').st_uid

    def bad(self, path, what):
        self.F.append((path, str(what)))

    def db(self, name, reader=twoskip, need=True):
        p = name if name.startswith('/') else self.conf + '/' + name
        try:
            r = reader(read(p))
            self.n['databases'] += 1
            return r
        except FileNotFoundError:
            if need:
                self.bad(p, 'missing')
        except Bad as e:
            self.bad(p, e)
        return []

    def check(self):
        E = self.entries()
        annots = self.annotations()
        facts = {}
        for id_, e in E.items():
            if e['part'] not in self.parts:
                self.bad('mailboxes.db', '%s: unknown partition %s' % (e['name'].decode(), e['part']))
                continue
            e['annot'] = annots.pop(id_, 0)
            f, n, facts[id_] = check_mailbox(self.dir(e), self.dir(e, self.meta), e, self.opt)
            self.F += f
            self.n += n
        for id_ in annots:
            if id_:
                self.n['annotations_of_no_mailbox'] += 1
        self.quotas(E, facts)
        self.directories(E)
        self.users(E)
        self.sieves(E)
        for k, v in self.db('deliver.db', need=False):
            if len(v) != 16 or k.count(b'\0') != 3:
                self.bad('deliver.db', 'entry %r' % k[:60])
        self.F = sorted({(self.short(p), what) for p, what in self.F})
        return self.F

    def short(self, path):
        """the path from its root, so that two stores can be compared"""
        for key, root in self.roots.items():
            if path.startswith(root + '/'):
                return key + path[len(root):]
        return path

    def dir(self, e, roots=None):
        """of the messages, or of the other files if they have a partition of their own"""
        root = (roots or {}).get(e['part'], self.parts[e['part']])
        if not e['legacy']:
            i = e['id'].decode()
            return f'{root}/uuid/{i[0]}/{i[1]}/{i}'
        p = os.fsdecode(e['name']).split('.')
        return '/'.join([root, letter(p[1] if len(p) > 1 else p[0])] + p)

    def entries(self):
        N, I = {}, {}
        for k, v in self.db('mailboxes.db'):
            try:
                if k == b'\x1fVER\x1f':
                    if v != b'2':
                        raise Bad('version %r' % v)
                    continue
                d = dict(dlist(v))
                for f in b'VCFM':
                    if bytes((f,)) in d:
                        int(d[bytes((f,))])
                (N if k[:1] == b'N' else I)[k[1:]] = d
                if k[:1] not in b'NI' or (k[:1] == b'N') != (b'I' in d):
                    raise Bad('unknown record')
            except (Bad, ValueError, TypeError) as e:
                self.bad('mailboxes.db', '%r: %s' % (k, e))
        E = {}
        for name, d in N.items():
            t, id_ = d.get(b'T', b''), d.get(b'I')
            if b'd' in t[1:] or b'i' in t[1:]:
                self.n['tombstones'] += 1
                continue
            if b'r' in t[1:]:
                self.bad('mailboxes.db', '%r: type %s is not covered' % (name, t.decode()))
                continue
            i = I.get(id_)
            if i is None or i.get(b'N') != name:
                self.bad('mailboxes.db', '%r: no I record %s with this name' % (name, id_))
                continue
            for f in (b'T', b'P', b'V', b'C', b'F', b'M', b'A'):
                # M is the time of writing, which Cyrus asks for twice (mboxlist_entry_dlist): a second may begin between
                later = f == b'M' and i.get(f) and d.get(f) and abs(int(i[f]) - int(d[f])) <= 1
                if i.get(f) != d.get(f) and not later:
                    self.bad('mailboxes.db', '%r: N and I records differ in %s' % (name, f.decode()))
            if id_ in E:
                self.bad('mailboxes.db', 'two names for %s' % id_.decode())
            E[id_] = dict(id=id_, legacy=b'l' in t[1:], name=name.replace(b'.', b'^').replace(b'\x1f', b'.'), type=t, part=d.get(b'P', b'').decode(),
                          acl=d.get(b'A'), owner=owner(name), uidvalidity=int(d.get(b'V', 0)))
        self.n['stale_I_records'] = sum(1 for i in I if i not in E)
        return E

    def annotations(self):
        s = collections.Counter()
        for k, v in self.db('annotations.db'):
            try:
                p = k.split(b'\0')
                if len(p) != 4 or p[3]:
                    raise Bad('key')
                val, gone = annotation(v)
                if not gone:
                    s[p[0]] += len(val)
            except Bad as e:
                self.bad('annotations.db', '%r: %s' % (k, e))
        return s

    def quotas(self, E, facts):
        S = {}
        for id_, e in E.items():
            f = facts.get(id_) or {}
            if f.get('Q') and 'used' in f:
                x = S.setdefault(f['Q'], [0, 0, 0, 0])
                for k, v in enumerate((f['used'], f['msgs'], f['annot'], 1)):
                    x[k] += v
        q = self.conf + '/quota'
        for d, _, fs in os.walk(q):
            for f in fs:
                if f.endswith('.NEW'):
                    self.n['leftover_NEW'] += 1
                    continue
                try:
                    v = dict(dlist(read(d + '/' + f)))
                    have = [int(v[k][0]) for k in (b'S', b'M', b'AS', b'NF')]
                    int(v.get(b'MODSEQ', 0))
                    want = S.pop(f.encode(), [0, 0, 0, 0])
                    if have != want:
                        self.bad(d + '/' + f, 'has %s, mailboxes give %s (bytes, messages, annotations, folders)' % (have, want))
                    self.n['quotas'] += 1
                except (Bad, KeyError, ValueError, TypeError, IndexError) as e:
                    self.bad(d + '/' + f, 'quota value: %r' % e)
        for root in S:
            self.bad('quota', 'no quota file for root %s' % root.decode())

    def directories(self, E):
        known = {self.dir(e, m) for e in E.values() if e['part'] in self.parts for m in ({}, self.meta)}
        for root in (*self.parts.values(), *self.meta.values()):
            for d, ds, fs in os.walk(root):
                top = d[len(root):].strip('/').split('/')[0]
                if top == REPLICATOR:
                    ds.clear()
                elif top in ('stage.', 'sync.'):
                    self.n['stage_files'] += len(fs)
                elif d not in known and ('cyrus.index' in fs or 'cyrus.header' in fs or d[len(root):].startswith('/uuid/') and d[len(root):].count('/') == 4):
                    self.n['orphan_directory'] += 1
                elif fs and d not in known:
                    self.bad(d, 'files where none belong: %s' % fs[:3])

    def users(self, E):
        inbox = {e['id'].decode(): e for e in E.values() if e['name'].count(b'.') == 1 and e['name'].startswith(b'user.')}
        have = set()
        for d, _, fs in os.walk(self.conf + '/user'):
            if not fs:
                continue
            uuid = '/user/uuid/' in d
            id_ = d.rsplit('/', 1)[1]
            have.add(id_)
            if uuid and id_ not in inbox:
                self.n['orphan_user_directory'] += 1
            for f in fs:
                p = d + '/' + f
                if not uuid:                                # user/u/u00000.seen
                    f = f.rsplit('.', 1)[-1] + ('' if f.endswith(('.NEW', '-journal')) else '.db')
                try:
                    if f in ('sub.db', 'dav.db') and not os.path.getsize(p):
                        raise Bad('empty, as it is made')
                    if f == 'conversations.db':
                        skiplist(read(p))
                    elif f == 'sub.db':
                        L = read(p).split(b'\n')
                        if L[0] != b'\x1fVER\x1f\t2' or L[-1] != b'' or L != sorted(L[:-1]) + [b''] or any(x[:1] != b'N' or x[-1:] != b'\t' for x in L[1:-1]):
                            raise Bad('not a subscription list')
                    elif f == 'seen.db':
                        for k, v in twoskip(read(p)):
                            w = v.split(b' ')
                            if len(w) != 5 or w[0] != b'1' or not all(x.isdigit() for x in w[1:4]) or w[4].strip(b'0123456789:,*'):
                                raise Bad('entry of %r' % k)
                            self.n['seen_of_no_mailbox'] += k not in E
                    elif f == 'counters.db':
                        b = read(p)
                        if len(b) != 296 or crc(b[:292]) != U(b, 292):
                            raise Bad('size or crc')
                    elif f == 'dav.db':
                        db = sqlite3.connect('file:%s?mode=ro&immutable=1' % p, uri=True)
                        try:
                            r = db.execute('pragma integrity_check').fetchone()[0]
                            if r != 'ok':
                                raise Bad(r)
                            # 0: just being made, as a crash may leave it; Cyrus writes the number last
                            if db.execute('pragma user_version').fetchone()[0] not in (0, 14):
                                raise Bad('schema version')
                            for m, uid, cid in db.execute('select mailbox, imap_uid, contentid from sieve_scripts where alive'):
                                if m.encode() not in E:
                                    raise Bad('names a mailbox that mailboxes.db does not')
                                try:
                                    text = read('%s/%d.' % (self.dir(E[m.encode()]), uid)).split(b'\r\n\r\n', 1)[1]
                                except (TypeError, KeyError, IndexError, FileNotFoundError):
                                    raise Bad('names script %d, that is not there' % uid)
                                if hashlib.sha1(text).hexdigest() != cid:
                                    raise Bad('script %d has another content' % uid)
                        except (sqlite3.Error, UnicodeDecodeError) as e:
                            raise Bad(e)
                        finally:
                            db.close()
                    elif f.endswith('.NEW') or f.endswith('-journal'):
                        self.n['leftover_NEW'] += 1
                    self.n['user_files'] += 1
                except Bad as e:
                    self.bad(p, e)
        for i, e in inbox.items():
            if i not in have and not e['legacy']:
                self.n['users_without_files'] += 1

    def sieves(self, E):
        ids = {e['id'].decode() for e in E.values()}
        for d, ds, fs in os.walk(self.sieve):
            if REPLICATOR in ds:
                ds.remove(REPLICATOR)
            for f in fs:
                p = d + '/' + f
                if os.path.islink(p):
                    t = os.readlink(p)
                    if f != 'defaultbc' or '/' in t or not os.path.exists(d + '/' + t):
                        self.bad(p, 'link to %s' % t)
                elif f.endswith('.bc'):
                    b = read(p)
                    if b[:12] != b'CyrSBytecode' or len(b) % 4 or not 1 <= U(b, 12) <= 0x40:
                        self.bad(p, 'not sieve bytecode')
                    self.n['scripts'] += 1
                else:
                    self.n['leftover_NEW'] += 1
            if fs and '/uuid/' in d and d.rsplit('/', 1)[1] not in ids:
                self.n['orphan_sieve_directory'] += 1


def check(roots, hash=True):
    """-> (findings, counts); a finding is (path from its root, sentence)"""
    s = Store(roots, hash)
    return s.check(), s.n


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('dir')
    ap.add_argument('--no-hash', action='store_true', help='do not read the messages')
    ap.add_argument('--strict', action='store_true')
    a = ap.parse_args()
    d = os.path.abspath(a.dir)
    roots = {'configdirectory': d + '/conf', 'partition-default': d + '/part1', 'partition-second': d + '/part2', 'sievedir': d + '/sieve'}
    if os.path.exists(d + '/meta1'):
        roots['metapartition-default'] = d + '/meta1'
    found, n = check(roots, not a.no_hash)
    if a.strict:
        found += [('store', '%d %s' % (n[k], k)) for k in LEGAL if n[k]]
    for path, what in found[:20]:
        print(f'{path}: {what}')
    print(('clean: ' if not found else f'DAMAGED, {len(found)} findings: ') + ', '.join('%d %s' % (v, k) for k, v in sorted(n.items()) if v))
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
