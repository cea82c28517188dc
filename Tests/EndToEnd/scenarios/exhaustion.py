"""Something that both ends live on runs out, and is there again."""
import contextlib
import datetime
import os
import pwd
import signal
import subprocess
import time

from lab import imap, processes
from lab.clock import Clock
from pair import CONFIGURATION, TRY_AGAIN, UNAVAILABLE, Failure
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


def fill(path):
    """a file there that leaves no room; its name"""
    filler = f'{path}/filler'
    with open(filler, 'wb', buffering=0) as f, contextlib.suppress(OSError):    # what a buffer held would be written again at its end
        while True:
            f.write(bytes(1 << 16))
    return filler


def log_of(side):
    with open(side.log, errors='replace') as f:
        return f.read()


class Exhaustion(PairGroup):
    """exhaustion"""

    def is_paused(self, side, where):
        """status says so, and why: no room in `where`; of a replica on the primary too"""
        s = self.pair.status(side)
        why = (s.get('lastError') or {}).get('why', '')
        if s['state'] != 'paused' or 'No space left' not in why or where not in why:
            return False
        if side is self.pair.r:
            at_primary = self.pair.status('p')['replicas'][0]
            return at_primary['state'] == 'paused' and 'No space left' in at_primary.get('pausedBecause', '') and where in at_primary['pausedBecause']
        return True

    def until_paused(self, side, where):
        processes.until(lambda: self.is_paused(side, where), 40, f'{side.name}: a status that says that there is no room in {where}', every=.1)
        processes.until(lambda: 'paused: ' in log_of(side) and 'free some space' in log_of(side), 5, f'{side.name}: the same in its log')

    def full_and_freed(self, which, of='state'):
        pair = self.make(users=range(6))
        side = pair.side(which)
        if of == 'store':                                    # its state, and the log that is read here, are elsewhere
            side.state, side.log = f'{self.where}/state', f'{self.where}/log'
        where = side.state if of == 'state' else side.cyrus.dir
        with self.small_disk(side, where):
            pair.start()
            with pair.load(seed=self.rng.randrange(10**6), rate=0) as b:
                filler = fill(where)
                self.until_paused(side, where)
                self.stays_paused(side, where, self.quick_or(3, 20))
            # with room for the journal, but none in the store, it is flushed all the same
            done = pair.command(pair.p, 'wait', '--now', '--level', 'applied', '--timeout', '1', expect=(0, TRY_AGAIN))
            if done.returncode == 0 or of == 'state' and not pair.is_behind():
                raise Failure('wait --now succeeded on a full disk')
            if which == 'r' and not (pair.status('p')['replicas'][0]['unappliedBatches'] or pair.status('p')['lag']['batches']):
                raise Failure(f"the primary's status tells no lag: {pair.status('p')}")
            pid = side.daemon.pid
            os.unlink(filler)
            pair.wait_now(patience=90)
            self.judge()
            if not side.running or side.daemon.pid != pid:
                raise Failure(f'{side.name}: the daemon did not go on by itself')
            if which == 'r':
                processes.until(lambda: pair.status('p')['replicas'][0]['state'] == 'connected', 15, "the primary's status: the replica goes on")
            self.no_tries_left(side)
            return told(b)

    def stays_paused(self, side, where, secs):
        """also while it tries again, but for the moment in which it finds out once more"""
        deadline, last = time.monotonic() + secs, True
        while time.monotonic() < deadline:
            is_told = self.is_paused(side, where)
            if not is_told and not last:
                raise Failure(f"status says: {self.pair.status(side)}; of the replicas: {self.pair.status('p').get('replicas')}")
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

    @scenario("the disk under the replica's store is full, and freed again")
    def store_of_replica(self):
        return self.full_and_freed('r', 'store')

    @scenario('promote on a replica whose disk is full is answered, and can be asked again')
    def promote(self):
        pair = self.make(users=range(4))
        with self.small_disk(pair.r, pair.r.state):
            pair.start()
            with pair.load(seed=self.rng.randrange(10**6), rate=0):
                filler = fill(pair.r.state)
                self.until_paused(pair.r, pair.r.state)
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
        self.has_missed()
        self.judge()
        return told(b)

    def has_missed(self):
        if not self.pair.status('p')['watch']['missedEvents']:
            raise Failure('the sweep found it all, and status counts no missed event')

    def check_tells(self):
        with kernel_limit('max_user_watches', '1'):
            done = self.pair.command(self.pair.p, 'check', expect=(CONFIGURATION,))
        for word in ('fs.inotify.max_user_watches is ', 'sysctl -w fs.inotify.max_user_watches='):
            if word not in done.stderr:
                raise Failure(f'check does not say "{word}": {done.stderr}')

    def made_unwatched(self, users):
        """mailboxes made while there is no watch for their directories, and a message in each"""
        pair = self.pair
        with kernel_limit('max_user_watches', str(watches_of(self.run.run_as))):
            imap.make_users(pair.p.cyrus.port['imap'], users)
            processes.until(lambda: pair.status('p')['watch']['unwatchedDirectories'], 20, 'a status that tells of unwatched directories')
        self.deliver(users)

    def deliver(self, users):
        with imap.Lmtp(self.pair.p.cyrus.port['lmtp']) as l:
            for k in users:
                l.deliver([imap.user(k)], imap.message(self.rng, f'few-{time.time_ns()}'))

    @scenario('no watch is left for a mailbox that is made meanwhile: the sweep finds what comes there')
    def watches_meanwhile(self):
        pair = self.make(users=range(4), settings={'sweep_period': '2s'}).start()
        self.made_unwatched(range(4, 6))
        for _ in range(self.quick_or(2, 10)):                # also while the limit is raised again
            self.deliver(range(3, 6))
            processes.until(lambda: not pair.tree_differences(), 20, 'equal stores, by nothing but the sweep')
        self.has_missed()
        self.judge()
        pair.restart('p')                                    # which has watches for all
        pair.wait_now()
        if pair.status('p')['watch']['unwatchedDirectories']:
            raise Failure('unwatched directories after a restart')
        self.deliver(range(3, 6))
        self.judge()

    @scenario('no watch is left for a mailbox that is made meanwhile: check refuses, and wait --now covers what comes there')
    def watches_and_wait(self):
        pair = self.make(users=range(4), settings={'sweep_period': DAY}).start()
        self.check_tells()
        self.made_unwatched(range(4, 6))
        for _ in range(self.quick_or(3, 20)):
            self.judge()
            self.deliver(range(3, 6))
        self.judge()
        self.has_missed()

    @scenario('the queue of events overflows in a burst: a sweep finds what was lost')
    def queue(self):
        pair = self.make(users=range(6), settings={'sweep_period': DAY}).start()
        pair.stop_daemon('p')
        with kernel_limit('max_queued_events', '1'):         # counts for queues made now; with 0 nobody hears of anything
            pair.start_daemon('p')
        with pair.load(seed=self.rng.randrange(10**6), rate=0, clients=6) as b:
            processes.until(lambda: pair.status('p')['watch']['overflows'], 40, 'a status that tells of an overflow')
            self.watch(self.quick_or(1, 20))
        self.judge()
        return f"{pair.status('p')['watch']['overflows']} overflows, " + told(b)

    def few_descriptors(self, which):
        """no more than are open now, for a while"""
        pair = self.make(users=range(6)).start()
        side = pair.side(which)
        with pair.load(seed=self.rng.randrange(10**6)) as b:
            self.watch(.3)
            used = max(map(int, os.listdir(f'/proc/{side.daemon.pid}/fd'))) + 1
            self.limit_descriptors(side, used)
            if not processes.until(lambda: self.tells_of_descriptors(side), 15, quiet=True):
                raise Failure(f'{side.name}: its log does not tell of too many open files, and what to do')
            if which == 'r':                                 # its own status may find no descriptor to be answered with
                processes.until(lambda: 'Too many open files' in pair.status('p')['replicas'][0].get('pausedBecause', ''), 15, "the primary's status tells it")
            # at the worst moment: when it has begun anew, and its sweep has just passed over what it could not open
            processes.until(lambda: self.has_passed_over(side), self.quick_or(4, 20), quiet=True, every=.003)
            self.limit_descriptors(side, 1024)
        processes.until(lambda: not side.running or pair.status(side)['state'] not in ('paused', 'starting'), 40,
                        f'{side.name}: a status that says it goes on', every=.1)
        if not side.running:
            raise Failure(f'{side.name}: the daemon ended with {side.daemon.returncode}')
        pair.wait_now(patience=90)
        self.judge()
        return told(b)

    def limit_descriptors(self, side, count):
        # who is not the same user needs a capability that a container's root lacks
        done = subprocess.run(['prlimit', '--pid', str(side.daemon.pid), f'--nofile={count}:'], capture_output=True, text=True, **self.pair._account())
        if done.returncode:
            raise Skip(f'the limit of open files cannot be set: {done.stderr.strip()}')

    def has_passed_over(self, side):
        return 'error: mailsync: partition-default/uuid: openat2' in log_of(side).partition('paused: ')[2]

    def tells_of_descriptors(self, side):
        return any('paused: ' in x and 'Too many open files' in x and 'LimitNOFILE' in x for x in log_of(side).splitlines())

    @scenario('the primary has no descriptors left for a while')
    def descriptors_of_primary(self):
        return self.few_descriptors('p')

    @scenario('the replica has no descriptors left for a while')
    def descriptors_of_replica(self):
        return self.few_descriptors('r')

    @scenario('there is no room in the quarantine, and there is again')
    def quarantine(self):
        pair = self.make(users=range(4))
        with self.small_disk(pair.r, pair.r.state):
            pair.start()
            with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
                for k in range(4):
                    l.deliver(['u00000'], imap.message(self.rng, f'large-{k}', 1_500_000))
            pair.wait_now()
            filler = fill(pair.r.state)
            with open(filler, 'r+b') as f:                   # room for the journal, not for what is removed
                f.truncate(os.path.getsize(filler) - (4 << 20))
            with imap.Imap(pair.p.cyrus.port['imap'], 'u00000') as s:
                s.enter('INBOX')
                s.on('1:*', 'STORE', '+FLAGS.SILENT', '\\Deleted')
                s.say('EXPUNGE')
            pair.p.cyrus.tool('cyr_expire', '-X', '0', '-D', '0')
            self.until_paused(pair.r, f'{pair.r.state}/quarantine/')
            os.unlink(filler)
            self.judge()
            done = pair.command(pair.r, 'quarantine', 'list', '--config', pair.r.config, bare=True).stdout
        if not done.strip():
            raise Failure('the quarantine is empty')

    @scenario('the journal is full while the replica is away: whole files are sent, and no seed')
    def journal_full(self):
        text, result = self.away_for_too_long(keeping=False)
        if 'the log between was trimmed' not in text or 'comparing with the primary' in text:
            raise Failure('the replica did not go on by whole files: ' + text[-600:])
        return result

    @scenario('the journal is full while the replica is away, and what it lacks is more than a journal may hold: it is compared')
    def journal_too_full(self):
        text, result = self.away_for_too_long(keeping=True)
        if 'more than a log may hold: comparing with the primary' not in text:
            raise Failure('the replica was not compared with the primary: ' + text[-600:])
        return result

    def away_for_too_long(self, keeping):
        """60 MB of messages come, and go again unless `keeping`; the replica's log, when it has caught up"""
        pair = self.make(users=range(4), settings={'journal_max': '32M'}).start()
        pair.stop_daemon('r')
        was = pair.status('p')['oldest']
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            for k in range(30):
                l.deliver([f'u0000{k % 4}'], imap.message(self.rng, f'cap-{k}', 2_000_000))
        processes.until(lambda: pair.status('p')['capture']['batchBytes'] > 50 << 20, 30, 'a log that has them')
        if not keeping:
            for k in range(4):
                with imap.Imap(pair.p.cyrus.port['imap'], f'u0000{k}') as s:
                    s.enter('INBOX')
                    s.on('1:*', 'STORE', '+FLAGS.SILENT', '(\\Deleted)')
                    s.say('EXPUNGE')
            pair.p.cyrus.tool('cyr_expire', '-X', '0')
        with pair.load(seed=self.rng.randrange(10**6), rate=40) as b:
            processes.until(lambda: pair.status('p')['oldest'] != was, 60, 'a journal whose older part was dropped', every=.2)
            self.watch(1)
        pair.start_daemon('r')
        self.judge()
        if ' is away, and the journal is full: its log is dropped up to ' not in log_of(pair.p):
            raise Failure('the primary does not warn of it')
        return log_of(pair.r), told(b)

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
        pair = self.make(users=range(6), wired=True).start()
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
                pair.wire.cut()                              # a new link is told with its time
                self.watch(.5)
                pair.wire.restore()
                pair.wait_now()
                processes.until(lambda: self.clock_of(pair.status('p')['replicas'][0]['lastHeard']) == at_p, 10, f"the primary's times {at_p} hours off")
                processes.until(lambda: self.clock_of(pair.status('r')['since']) == at_r, 10, f"the replica's times {at_r} hours off")
        self.judge()
        return told(b)

    def clock_of(self, moment):
        """how many hours a time in a status is from now, rounded"""
        ahead = datetime.datetime.fromisoformat(moment.replace('Z', '+00:00')) - datetime.datetime.now(datetime.timezone.utc)
        return round(ahead.total_seconds() / 3600)
