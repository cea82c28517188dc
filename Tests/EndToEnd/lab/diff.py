#!/usr/bin/env python3
"""diff.py DIR DIR: exact comparison of two stores, as far as they are to be equal. Exit 0 equal, 1 different.

Compared: which paths there are; type, mode and owner of each; content of files and targets of symbolic links; times of
messages, to the nanosecond (Cyrus keeps the internal date there); which messages are one file under several names.
Left out: what a running Cyrus makes for itself (sockets, locks, stage., *.NEW, ...), indexes of full-text search, and
the replica's own bookkeeping, `.mailsync` in each root. Paths start with imapd.conf's key of their root.
"""
import collections
import os
import stat
import sys

RUNTIME_OF_CONF = {'backup', 'db', 'db.backup1', 'db.backup2', 'lock', 'log', 'msg', 'proc', 'ptclient', 'socket', 'sync',
                   'statuscache.db', 'tls_sessions.db'}
RUNTIME_OF_PARTITION = {'stage.', 'sync.'}
REPLICATOR = '.mailsync'

Difference = collections.namedtuple('Difference', 'kind path first second')


def shipped(key, rel):
    top, _, _ = rel.partition('/')
    name = rel.rsplit('/', 1)[-1]
    if top == REPLICATOR or name.endswith(('.NEW', '-journal')) or name.startswith('cyrus.squat'):
        return False
    return top not in (RUNTIME_OF_CONF if key == 'configdirectory' else RUNTIME_OF_PARTITION)


def scan(roots):
    """key/path -> (absolute path, lstat) of all that is to be equal; what vanishes meanwhile is left out"""
    out = {}
    for key, root in roots.items():
        todo = ['']
        while todo:
            rel = todo.pop()
            try:
                entries = list(os.scandir(os.path.join(root, rel)))
            except FileNotFoundError:
                continue
            for e in entries:
                p = f'{rel}/{e.name}' if rel else e.name
                if not shipped(key, p):
                    continue
                try:
                    st = e.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                out[f'{key}/{p}'] = (e.path, st)
                if stat.S_ISDIR(st.st_mode):
                    todo.append(p)
    return out


def signature(roots):
    """changes whenever anything in the store does"""
    return hash(frozenset((p, s.st_ino, s.st_size, s.st_mode, s.st_mtime_ns, s.st_ctime_ns) for p, (_, s) in scan(roots).items()))


def is_message(path):
    return path.endswith('.') and path.rsplit('/', 1)[-1][:-1].isdigit()


def links(tree):
    """path -> all names of that file in the same root, for files with more than one

    Partitions may be file systems of their own on the other machine, so a link across roots is not asked for."""
    by_inode = collections.defaultdict(list)
    for p, (_, s) in tree.items():
        if s.st_nlink > 1 and stat.S_ISREG(s.st_mode):
            by_inode[p.split('/', 1)[0], s.st_dev, s.st_ino].append(p)
    return {p: tuple(sorted(names)) for names in by_inode.values() if len(names) > 1 for p in names}


def same(a, b):
    with open(a, 'rb', 0) as f, open(b, 'rb', 0) as g:
        while True:
            x, y = f.read(1 << 18), g.read(1 << 18)
            if x != y:
                return False
            if not x:
                return True


def differences(first, second):
    """[Difference] between two stores, each a dictionary of roots as in instance.py"""
    a, b = scan(first), scan(second)
    out = [Difference('only in the first', p, '', '') for p in sorted(a.keys() - b.keys())]
    out += [Difference('only in the second', p, '', '') for p in sorted(b.keys() - a.keys())]
    links_a, links_b, compared = links(a), links(b), {}
    for p in sorted(a.keys() & b.keys()):
        (pa, x), (pb, y) = a[p], b[p]

        def differ(kind, m, n):
            if m != n:
                out.append(Difference(kind, p, m, n))
            return m != n

        if differ('type', stat.S_IFMT(x.st_mode), stat.S_IFMT(y.st_mode)):
            continue
        differ('owner', (x.st_uid, x.st_gid), (y.st_uid, y.st_gid))
        if stat.S_ISLNK(x.st_mode):
            try:
                differ('target', os.readlink(pa), os.readlink(pb))
            except OSError:
                out.append(Difference('gone while it was compared', p, '', ''))
            continue
        differ('mode', oct(stat.S_IMODE(x.st_mode)), oct(stat.S_IMODE(y.st_mode)))
        if not stat.S_ISREG(x.st_mode):
            continue
        if is_message(p):
            differ('time', x.st_mtime_ns, y.st_mtime_ns)
            differ('hard links', links_a.get(p, ()), links_b.get(p, ()))
        if not differ('size', x.st_size, y.st_size) and x.st_size:
            k = x.st_ino, y.st_ino, x.st_dev, y.st_dev
            if k not in compared:
                try:
                    compared[k] = same(pa, pb)
                except FileNotFoundError:
                    out.append(Difference('gone while it was compared', p, '', ''))
                    continue
            if not compared[k]:
                out.append(Difference('content', p, '', ''))
    return out


def sentence(d):
    return f'{d.path}: {d.kind}' + (f': {d.first} / {d.second}' if d.first != '' or d.second != '' else '')


def roots_of(directory):
    d = os.path.abspath(directory)
    all = {'configdirectory': 'conf', 'partition-default': 'part1', 'partition-second': 'part2', 'sievedir': 'sieve', 'metapartition-default': 'meta1'}
    return {k: f'{d}/{v}' for k, v in all.items() if os.path.exists(f'{d}/{v}')}


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    found = differences(roots_of(sys.argv[1]), roots_of(sys.argv[2]))
    for d in found[:50]:
        print(sentence(d))
    print('equal' if not found else f'{len(found)} differences')
    sys.exit(1 if found else 0)
