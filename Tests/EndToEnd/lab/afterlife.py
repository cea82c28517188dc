"""A replica as a crash left it, promoted without disturbing the one that lives on: a copy of its directory, in a mount
namespace where it lies at the old place, and in a network namespace, where nobody can be reached."""
import contextlib
import os
import re
import subprocess

from . import check, processes

INSIDE = 'set -e; PATH=$PATH:/usr/sbin:/sbin; mount {options} "$1" "$2"; shift 2; ip link set lo up; cd /; exec "$@"'
# A daemon, and promote once it answers; $0 is the program, the rest goes behind each subcommand.
PROMOTE_LIVE = """"$0" run "$@" & daemon=$!
until "$0" status "$@" > /dev/null 2>&1; do kill -0 $daemon || exit 99; sleep .02; done
"$0" promote "$@"; result=$?
kill $daemon; wait $daemon; exit $result
"""


def run_at(copy, place, argv, environment, user, mount_options='--bind', timeout=120):
    """runs `argv` as `user` where `copy` (a directory, or an image with `mount_options` '-o loop') lies at `place`"""
    drop = ['setpriv', '--reuid', user, '--regid', str(processes.account(user)['group']), '--init-groups'] if user != 'root' else []
    return subprocess.run(['unshare', '-mn', '--propagation', 'private', 'sh', '-c', INSIDE.format(options=mount_options), 'sh', copy, place, *drop, *argv],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace', timeout=timeout, env=environment)


def unsound(roots, quotas_behind=True):
    """what the oracle finds in a copy that ended anywhere in the log; without `quotas_behind` after a `quota -f`.

    A rename, or a change of rights, changes the mailbox's cyrus.header and mailboxes.db, which two locks cover: they may travel in two batches, as they
    are written by Cyrus in two steps. Between them one has the new name or rights and the other the old. A quota is a file of its own as well: ahead
    or behind, as `quota -f` mends. So is annotations.db, of which the index header keeps a sum: it may be ahead, as after a crash of Cyrus.
    And a mailbox that was made after mailboxes.db was read comes into that with the next batch, the user's databases that name it with this one.
    None of these is a finding here."""
    halves = ('cyrus.header N is', 'cyrus.header A is', 'cyrus.index: quota_annot_used is', 'names a mailbox that mailboxes.db does not')
    return [f for f in check.check(roots)[0] if not f[1].startswith(halves) and not (quotas_behind and '/quota/' in f[0])]


def is_half(line):
    """whether this is how reconstruct -n tells of an annotations.db ahead of an index, by one annotation that was set"""
    m = re.search(r'updating quota_annot_used: (\d+) => (\d+)', line)
    return bool(m) and int(m[1]) < int(m[2])


def promoted(pair, side):
    """(what promote said, findings of the oracle) of a copy of `side`'s directory; its daemon must be dead"""
    copy = side.cyrus.dir + '.after'
    subprocess.run(['rm', '-rf', copy], check=True)
    subprocess.run(['cp', '-a', '--reflink=auto', side.cyrus.dir, copy], check=True)
    # of a copy the directories are others
    with contextlib.suppress(FileNotFoundError):
        os.unlink(copy + side.state[len(side.cyrus.dir):] + '/roots')
    try:
        done = run_at(copy, side.cyrus.dir, pair.argv(side, 'promote'), pair.environment(side), pair.run_as)
        roots = {k: copy + v[len(side.cyrus.dir):] for k, v in side.roots.items()}
        findings = unsound(roots)
        left = [f'{d}: left in the store' for d in (r + '/.mailsync' for r in roots.values()) if os.path.exists(d)]
        return done, findings + [(x, 'nothing of ours may stay') for x in left]
    finally:
        subprocess.run(['rm', '-rf', copy], check=True)
