"""A replica as a crash left it, promoted without disturbing the one that lives on: a copy of its directory, in a mount
namespace where it lies at the old place, and in a network namespace, where nobody can be reached."""
import contextlib
import hashlib
import os
import re
import signal
import subprocess

from . import check, processes
from .instance import BIN, OWNER, mailbox_name
from .readers import U, read, twoskip

# offsets in the header of cyrus.index, and in a record
LAST_UID, RECORDS = 28, (12, 16, 20)
SYSTEM_FLAGS, EXPUNGED, GUID = 32, 1 << 31, slice(60, 80)

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
    And sub.db and dav.db are made empty, before they get what belongs into them. None of these is a finding here."""
    halves = ('cyrus.header N is', 'cyrus.header A is', 'cyrus.index: quota_annot_used is', 'names a mailbox that mailboxes.db does not', 'empty, as it is made')
    return [f for f in check.check(roots)[0] if not f[1].startswith(halves) and not (quotas_behind and '/quota/' in f[0])]


def is_half(line):
    """whether this is how reconstruct -n tells of an annotations.db ahead of an index, by one annotation that was set, or of rights that
    mailboxes.db has and cyrus.header has not, or the other way round"""
    m = re.search(r'updating quota_annot_used: (\d+) => (\d+)', line)
    return bool(m) and int(m[1]) < int(m[2]) or ': update acl from header ' in line


def visible(roots):
    """the GUIDs of all messages that an index has and that are not expunged"""
    out = set()
    for place in (v for k, v in roots.items() if k.startswith('partition-')):
        for at, _, files in os.walk(place):
            if 'cyrus.index' in files:
                b = read(at + '/cyrus.index')
                start, size, count = (U(b, x) for x in RECORDS)
                records = (b[start + i * size:][:size] for i in range(count))
                out.update(r[GUID] for r in records if not U(r, SYSTEM_FLAGS) & EXPUNGED)
    return out


def unseen_deliveries(roots):
    """message ids that deliver.db has, so that who delivers them again is not believed, and that are in no index"""
    there, messages = visible(roots), {}
    for place in (v for k, v in roots.items() if k.startswith('partition-')):
        for at, _, files in os.walk(place):
            for name in files:
                if name[:-1].isdigit():
                    b = read(f'{at}/{name}')
                    messages[b.partition(b'\nMessage-ID: ')[2].partition(b'\r')[0]] = hashlib.sha1(b).digest()
    known = {k.partition(b'\0')[0] for k, _ in twoskip(read(roots['configdirectory'] + '/deliver.db'))}
    return [x.decode(errors='replace') for x in known if x.endswith(b'@lab>') and messages.get(x) not in there]


def ahead(roots):
    """line of reconstruct -n -> path of the message it is about, of those above the last UID of their index. As they never change they need
    not wait for it: they may come a batch before, as Cyrus writes them before, and whoever reads the store does not see them"""
    store, out = check.Store(roots), {}
    for e in store.entries().values():
        with contextlib.suppress(FileNotFoundError):
            last, directory = U(read(store.dir(e, store.meta) + '/cyrus.index'), LAST_UID), store.dir(e)
            uids = [int(f[:-1]) for f in os.listdir(directory) if f.endswith('.') and f[:-1].isdigit()]
            out.update((f"{e['name'].decode()} uid {uid} found - adding", f'{directory}/{uid}.') for uid in uids if uid > last)
    return out


@contextlib.contextmanager
def still(daemon):
    """one that lives stops meanwhile, with all its threads: what it writes is as at one moment"""
    if daemon is None or daemon.poll() is not None:
        yield
        return
    daemon.send_signal(signal.SIGSTOP)
    try:
        processes.until(lambda: processes.stopped(daemon.pid), 10, f'all threads of {daemon.pid} stopped', every=.001)
        yield
    finally:
        daemon.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def copied(side):
    """`side`'s directory as it is at this moment: the place of a copy, which goes at the end"""
    copy = side.cyrus.dir + '.after'
    subprocess.run(['rm', '-rf', copy], check=True)
    try:
        with still(side.daemon):
            subprocess.run(['cp', '-a', '--reflink=auto', side.cyrus.dir, copy], check=True)
        # of a copy the directories are others
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy + side.state[len(side.cyrus.dir):] + '/roots')
        yield copy
    finally:
        subprocess.run(['rm', '-rf', copy], check=True)


def roots_in(copy, side):
    return {k: copy + v[len(side.cyrus.dir):] for k, v in side.roots.items()}


def promote(pair, side, copy):
    """what promote said"""
    return run_at(copy, side.cyrus.dir, pair.argv(side, 'promote'), pair.environment(side), pair.run_as)


def findings(side, copy):
    """of the oracle, in a copy that was promoted"""
    roots = roots_in(copy, side)
    left = [f'{d}: left in the store' for d in (r + '/.mailsync' for r in roots.values()) if os.path.exists(d)]
    return unsound(roots) + [(x, 'nothing of ours may stay') for x in left]


def promoted(pair, side):
    """(what promote said, findings of the oracle) of a copy of `side`'s directory as it is at this moment"""
    with copied(side) as copy:
        return promote(pair, side, copy), findings(side, copy)


def reconstructed(side, copy):
    """what Cyrus's own reconstruct -n finds in a copy that was promoted, after the recovery with which every Cyrus starts"""
    tools = [BIN + 'ctl_cyrusdb', '-r'], [BIN + 'reconstruct', '-n', '-r', 'user']
    said = [run_at(copy, side.cyrus.dir, [tool, '-C', side.cyrus.imapd_conf, *arguments], os.environ, OWNER) for tool, *arguments in tools]
    lines = [x for done in said for x in (done.stdout + done.stderr).splitlines() if x.strip() and not mailbox_name(x) and not is_half(x)]
    if lines:
        known = ahead(roots_in(copy, side))
        lines = [x for x in lines if x not in known]
    return lines + [f'{tool}: exit {done.returncode}' for (tool, *_), done in zip(tools, said) if done.returncode]
