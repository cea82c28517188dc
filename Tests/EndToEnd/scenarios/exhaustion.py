"""Something that both ends live on runs out, and is there again."""
import contextlib
import os
import pwd
import signal
import subprocess
import time

from lab import imap, processes
from lab.clock import Clock
from pair import UNAVAILABLE, Failure
from runner import Skip, scenario

from .common import DAY, PairGroup, told


@contextlib.contextmanager
def kernel_limit(name, value):
    """for a moment only: it is everybody's"""
    path = f'/proc/sys/fs/inotify/{name}'
    with open(path) as f:
        before = f.read()
    try:
        with open(path, 'w') as f:
            f.write(value)
    except OSError:
        raise Skip(f'{name} cannot be set here')
    try:
        yield
    finally:
        with open(path, 'w') as f:
            f.write(before)


def watches_of(user):
    """how many watches the user's processes have by now: the limit is on their sum"""
    uid, count = pwd.getpwnam(user).pw_uid, 0
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError):                   # it has ended
            if os.stat(f'/proc/{pid}').st_uid != uid:
                continue
            for fd in os.listdir(f'/proc/{pid}/fd'):
                if os.readlink(f'/proc/{pid}/fd/{fd}') == 'anon_inode:inotify':
                    with open(f'/proc/{pid}/fdinfo/{fd}') as f:
                        count += sum(x.startswith('inotify ') for x in f)
    return count


def queues_of(pid):
    """how many queues of events a process has"""
    with contextlib.suppress(FileNotFoundError):             # one that was closed meanwhile
        return sum(os.readlink(f'/proc/{pid}/fd/{fd}') == 'anon_inode:inotify' for fd in os.listdir(f'/proc/{pid}/fd'))
    return 0


class Exhaustion(PairGroup):
    """exhaustion"""

    @contextlib.contextmanager
    def small_disk(self, side, megabytes):
        """the state directory of `side` on a file system of its own"""
        os.makedirs(side.state)
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={megabytes}M', 'tmpfs', side.state], capture_output=True).returncode:
            raise Skip('no tmpfs can be mounted')
        try:
            yield
        finally:
            self.pair.close()
            subprocess.run(['umount', '-l', side.state], check=True)

    def until_paused(self, side):
        def paused():
            s = self.pair.status(side)
            return 'No space left' in (s.get('lastError') or {}).get('why', '') or s['state'] == 'paused'
        processes.until(paused, 40, f'{side.name}: a status that says that the disk is full', every=.1)

    def full_and_freed(self, which):
        pair = self.make(users=range(6))
        side = pair.side(which)
        with self.small_disk(side, 1200):
            pair.start()
            filler = f'{side.state}/filler'
            with pair.load(seed=self.rng.randrange(10**6), rate=0) as b:
                with open(filler, 'wb', buffering=0) as f, contextlib.suppress(OSError):
                    while True:
                        f.write(bytes(1 << 16))
                self.until_paused(side)
                if which == 'p':
                    self.stays_paused(self.quick_or(5, 20))
                else:
                    self.watch(self.quick_or(5, 20))
            if not pair.is_behind():
                raise Failure('wait --now succeeded on a full disk')
            os.unlink(filler)
            pair.wait_now(patience=90)
            self.judge()
            self.no_tries_left(side)
            return told(b)

    def stays_paused(self, secs):
        """also while the primary tries again, but for the moment in which it finds out once more"""
        deadline, last = time.monotonic() + secs, True
        while time.monotonic() < deadline:
            s = self.pair.status('p')
            is_told = s['state'] == 'paused' and self.pair.p.state in s['lastError']['why']
            if not is_told and not last:
                raise Failure(f'status says: {s}')
            last = is_told

    def no_tries_left(self, side):
        """a daemon that began anew and anew, until there was room, keeps nothing of the tries before"""
        pid = side.daemon.pid
        queues, loops = queues_of(pid), 0
        for x in os.listdir(f'/proc/{pid}/task'):
            with contextlib.suppress(OSError), open(f'/proc/{pid}/task/{x}/comm') as f:
                loops += f.read().startswith('NIO')
        if queues > 2 or loops > 1:
            raise Failure(f'{side.name} has {queues} event queues of the kernel and {loops} event loops')

    @scenario("the disk under the primary's state is full, and freed again")
    def primary(self):
        return self.full_and_freed('p')

    @scenario("the disk under the replica's state is full, and freed again")
    def replica(self):
        return self.full_and_freed('r')

    @scenario('promote on a replica whose disk is full is answered, and can be asked again')
    def promote(self):
        pair = self.make(users=range(4))
        with self.small_disk(pair.r, 1200):
            pair.start()
            filler = f'{pair.r.state}/filler'
            with pair.load(seed=self.rng.randrange(10**6), rate=0):
                with open(filler, 'wb', buffering=0) as f, contextlib.suppress(OSError):
                    while True:
                        f.write(bytes(1 << 16))
                self.until_paused(pair.r)
            done = pair.command(pair.r, 'promote', expect=(0, UNAVAILABLE))
            os.unlink(filler)
            if done.returncode:                              # there may be room for the little that it writes
                if 'No space left' not in done.stderr:
                    raise Failure(done.stderr)
                pair.wait_now(patience=90)
                pair.promote()
            else:
                pair.primary, pair.replica = pair.replica, pair.primary
            pair.start_promoted_cyrus()
            pair.accepts_mail()

    @scenario('the replica is stopped for a while, and goes on')
    def stopped(self):
        pair = self.make(users=range(6)).start()
        with pair.load(seed=self.rng.randrange(10**6)) as b:
            pair.r.daemon.send_signal(signal.SIGSTOP)
            try:
                self.watch(self.quick_or(3, 30))
                if not pair.is_behind():
                    raise Failure('wait --now succeeded while the replica was stopped')
            finally:
                pair.r.daemon.send_signal(signal.SIGCONT)
        pair.wait_now(patience=90)
        self.judge()
        return told(b)

    @scenario('few watches: what cannot be watched is found by the sweep')
    def watches(self):
        pair = self.make(users=range(6), settings={'sweep_period': '2s'}).start()
        pair.stop_daemon('p')
        with kernel_limit('max_user_watches', str(watches_of(self.run.run_as) + 60)):
            pair.start_daemon('p')
            processes.until(lambda: pair.status('p')['watch']['sweeps'], 20, 'the end of the first sweep')
        if not pair.status('p')['watch']['unwatchedDirectories']:
            raise Failure('status tells of no unwatched directory')
        with pair.load(seed=self.rng.randrange(10**6)) as b:
            self.watch(self.quick_or(3, 20))
        # no barrier covers what no event tells of; the sweep does
        processes.until(lambda: not pair.tree_differences(lambda d: False), 40, 'equal stores')
        if not pair.status('p')['watch']['missedEvents']:
            raise Failure('the sweep found it all, and status counts no missed event')
        self.judge()
        return told(b)

    @scenario('the queue of events overflows in a burst: a sweep finds what was lost')
    def queue(self):
        pair = self.make(users=range(6), settings={'sweep_period': DAY}).start()
        pair.stop_daemon('p')
        with kernel_limit('max_queued_events', '16'):        # counts for queues made now
            pair.start_daemon('p')
        with pair.load(seed=self.rng.randrange(10**6), rate=0, clients=6) as b:
            processes.until(lambda: pair.status('p')['watch']['overflows'], 40, 'a status that tells of an overflow')
            self.watch(self.quick_or(1, 20))
        self.judge()
        return f"{pair.status('p')['watch']['overflows']} overflows, " + told(b)

    def few_descriptors(self, which):
        """no more than are open now, for a while; the daemon may end if it says why"""
        pair = self.make(users=range(6)).start()
        side = pair.side(which)
        with pair.load(seed=self.rng.randrange(10**6)) as b:
            self.watch(.3)
            used = max(map(int, os.listdir(f'/proc/{side.daemon.pid}/fd'))) + 1
            self.limit_descriptors(side, used)
            if not processes.until(lambda: self.tells_of_descriptors(side), 15, quiet=True):
                raise Failure(f'{side.name}: neither its log nor its status tells of too many open files')
            if side.running:
                self.limit_descriptors(side, 1024)
        if side.running:
            ended = 'it went on'
        else:
            ended = f'it ended with {side.daemon.returncode}'
            if side.daemon.returncode < 0:
                raise Failure(f'{side.name}: the daemon crashed: signal {-side.daemon.returncode}')
            pair.start_daemon(side)
        processes.until(lambda: pair.status(side)['state'] not in ('paused', 'starting'), 40, f'{side.name}: a status that says it goes on', every=.1)
        pair.wait_now(patience=90)
        self.judge()
        return f'{ended}; ' + told(b)

    def limit_descriptors(self, side, count):
        # who is not the same user needs a capability that a container's root lacks
        done = subprocess.run(['prlimit', '--pid', str(side.daemon.pid), f'--nofile={count}:'], capture_output=True, text=True, **self.pair._account())
        if done.returncode:
            raise Skip(f'the limit of open files cannot be set: {done.stderr.strip()}')

    def tells_of_descriptors(self, side):
        return any('Too many open files' in x for x in side.log_tail(40))

    @scenario('the primary has no descriptors left for a while')
    def descriptors_of_primary(self):
        return self.few_descriptors('p')

    @scenario('the replica has no descriptors left for a while')
    def descriptors_of_replica(self):
        return self.few_descriptors('r')

    @scenario('there is no room in the quarantine, and there is again')
    def quarantine(self):
        pair = self.make(users=range(4))
        with self.small_disk(pair.r, 1200):
            pair.start()
            with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
                for k in range(4):
                    l.deliver(['u00000'], imap.message(self.rng, f'large-{k}', 1_500_000))
            pair.wait_now()
            filler = f'{pair.r.state}/filler'
            with open(filler, 'wb', buffering=0) as f, contextlib.suppress(OSError):    # what a buffer held would be written again at its end
                while True:
                    f.write(bytes(1 << 16))
            with open(filler, 'r+b') as f:                   # room for the journal, not for what is removed
                f.truncate(os.path.getsize(filler) - (4 << 20))
            with imap.Imap(pair.p.cyrus.port['imap'], 'u00000') as s:
                s.enter('INBOX')
                s.on('1:*', 'STORE', '+FLAGS.SILENT', '\\Deleted')
                s.say('EXPUNGE')
            pair.p.cyrus.tool('cyr_expire', '-X', '0', '-D', '0')
            self.until_paused(pair.r)
            os.unlink(filler)
            self.judge()
            done = pair.command(pair.r, 'quarantine', 'list', '--config', pair.r.config, bare=True).stdout
        if not done.strip():
            raise Failure('the quarantine is empty')

    @scenario('the journal is full while the replica is away: whole files are sent, and no seed')
    def journal_full(self):
        pair = self.make(users=range(4), settings={'journal_max': '32M'}).start()
        pair.stop_daemon('r')
        was = pair.status('p')['oldest']
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            for k in range(30):
                l.deliver([f'u0000{k % 4}'], imap.message(self.rng, f'cap-{k}', 2_000_000))
        with pair.load(seed=self.rng.randrange(10**6)) as b:
            processes.until(lambda: pair.status('p')['oldest'] != was, 60, 'a journal whose older part was dropped', every=.2)
            self.watch(1)
        pair.start_daemon('r')
        self.judge()
        with open(pair.r.log, errors='replace') as f:
            text = f.read()
        if 'the log between was trimmed' not in text or 'comparing with the primary' in text:
            raise Failure('the replica did not go on by whole files: ' + text[-600:])
        return told(b)

    @scenario('a slow link: what is behind is told, and caught up')
    def slow(self):
        pair = self.make(users=range(6), wired=True).start()
        pair.wire.slow(20_000)
        with pair.load(seed=self.rng.randrange(10**6), rate=0) as b:
            processes.until(lambda: pair.status('p')['lag']['bytes'] > 100_000, 40, 'a status that tells how far it is behind')
            if not pair.is_behind():
                raise Failure('wait --now succeeded over a link that is too slow')
            self.watch(self.quick_or(1, 20))
        pair.wire.slow(None)
        pair.wait_now(patience=90)
        self.judge()
        return told(b)

    @scenario('the clocks are set by hours, forth and back')
    def clocks(self):
        pair = self.make(users=range(6)).start()
        try:
            clocks = [Clock(s.cyrus.dir) for s in (pair.p, pair.r)]
        except OSError as e:
            raise Skip(f'no clock can be set: {e}')
        for s, c in zip('pr', clocks):
            pair.stop_daemon(s)
            pair.start_daemon(s, under=c.under)
        with pair.load(seed=self.rng.randrange(10**6)) as b:
            for at_p, at_r in ((6, 0), (6, -20), (-30, 40), (-30, 0), (0, 0)):
                for c, hours in zip(clocks, (at_p, at_r)):
                    c.step(hours * 3600)
                self.watch(.5)
                pair.wait_now()
        self.judge()
        return told(b)
