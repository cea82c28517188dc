"""Every system call that changes or flushes something, at either end: killed there, and failing there."""
import collections
import glob
import os
import time

from lab import afterlife, faulty, imap, processes
from pair import Failure
from runner import Skip, scenario

from .common import DAY, PairGroup

PATIENCE = 40


class Faults(PairGroup):
    """faults of system calls"""

    def begin(self):
        if not faulty.works():
            raise Skip('needs strace, and the right to trace')
        self.turn, self.lacking = 0, 0
        pair = self.make(users=range(2), settings={'sweep_period': DAY}).start()
        self.session()
        self.judge()
        return pair

    # ---- what goes on while the fault waits
    def session(self):
        """one of each kind of change, by clients who are gone at its end"""
        self.turn += 1
        port = self.pair.p.cyrus.port
        with imap.Lmtp(port['lmtp']) as l:
            for k, bytes in enumerate((None, None, 40_000)):
                l.deliver(['u00000', 'u00001'], imap.message(self.rng, f'fault-{self.turn}-{k}', bytes))
        with imap.Imap(port['imap'], 'u00000') as s:
            new, name = f'INBOX/n{self.turn}', f'INBOX/f{self.turn}'
            s.say('CREATE', imap.quoted(new))
            s.enter('INBOX')
            uids = s.uids()
            s.on(uids[-1], 'COPY', imap.quoted(new))
            s.on(uids[-2], 'STORE', '+FLAGS', '\\Flagged')
            s.on(uids[-3], 'STORE', '+FLAGS.SILENT', '\\Deleted')
            s.say('EXPUNGE')
            s.say('RENAME', imap.quoted(new), imap.quoted(name))
            if self.turn > 1:
                s.say('DELETE', imap.quoted(f'INBOX/f{self.turn - 1}'))
        # not -D: a mailbox that goes for good may leave its directory a batch after mailboxes.db, as after a crash of Cyrus
        self.pair.p.cyrus.tool('cyr_expire', '-X', '0')

    def traced(self, side, under):
        """restarts the daemon of `side` under strace, has a session, ends the daemon; returns its exit code: -9 if it was killed, 0 if
        it was ended by SIGTERM"""
        pair, s = self.pair, self.pair.side(side)
        if s.running:
            pair.stop_daemon(s)
        with open(self.trace, 'w'):
            pass
        s.cyrus.own(self.trace)
        s.daemon = pair.background(s, 'run', under=under)

        def dead():
            return s.daemon.poll() is not None
        if not processes.until(lambda: dead() or pair.command(s, 'status', expect=None).returncode == 0, PATIENCE, quiet=True):
            raise Failure(f'{s.name}: no answer to status: {under}')
        self.session()
        deadline = time.monotonic() + PATIENCE
        while not dead() and pair.command(pair.p, 'wait', '--now', '--timeout', '1', expect=None).returncode:
            if time.monotonic() > deadline:
                return None                                  # it neither goes on nor ends
        if not dead():
            s.daemon.terminate()
        code = s.daemon.wait(PATIENCE)
        s.daemon = None
        return code

    @property
    def trace(self):
        return self.where + '/trace'

    def points(self, side):
        """of one session at `side`, from the daemon's start to its end"""
        code = self.traced(side, faulty.counting(self.trace))
        if code != 0:
            raise Failure(f'{side}: without a fault the daemon ended with {code}')
        below = self.pair.side(side).cyrus.dir
        found = faulty.points(self.trace, below)
        kinds = {p.call for p in found}
        if len(kinds & {'pwrite64', 'fdatasync', 'openat2', 'renameat2', 'renameat', 'rename'}) < 3:
            raise RuntimeError(f'the trace shows hardly anything: {kinds}')
        self.pair.start_daemon(side)
        return found

    # ---- one fault
    def visit(self, side, point, fault):
        """None if the fault did not come about; else what the daemon did: 'killed', 'ended', 'went on'"""
        pair, s = self.pair, self.pair.side(side)
        code = self.traced(side, faulty.at(point, fault, self.trace))
        where = f'{side}: {fault} at {point.call} {point.number} ({point.about})'
        came = code == -9 if 'SIGKILL' in fault else faulty.happened(self.trace)
        if code is None:
            if not came:
                raise Failure(f'{where}: nothing happened, and the daemon hangs')
            pair.kill(s)                                     # it said so, or had it coming
        elif code not in (0, -9) and not self.told(s):
            raise Failure(f'{where}: the daemon ended with {code} and said nothing')
        elif code and code < 0 and code != -9:
            raise Failure(f'{where}: the daemon crashed: signal {-code}')
        paused = any('paused: ' in x for x in s.log_tail(40))
        if isinstance(came, str) and code == 0 and point.call in ('fdatasync', 'fsync') and '/journal/' in came and not paused:
            raise Failure(f'{where}: a flush of the journal failed, and the daemon went on: {came}')
        try:
            if side == 'r':
                self.judge_promoted(s, came)
            pair.start_daemon(s)
            pair.wait_now(patience=PATIENCE)
            if pair.status('r').get('awaitedFiles'):
                raise Failure('files are awaited after wait --now')
            self.judge()
        except Exception as e:
            raise Failure('\n'.join([f'{where}: {"" if came else "did not happen; "}exit {code}', str(e), str(came)])) from e
        return came and ('killed' if code == -9 else 'ended' if code else 'hung' if code is None else 'went on')

    def told(self, side):
        return any('mailsync: ' in x or 'error' in x for x in side.log_tail(5))

    def judge_promoted(self, side, came):
        """what the replica has when it is gone can be promoted, and is sound, but for what was torn by the call that failed; nothing is missing that is named"""
        done, findings = afterlife.promoted(self.pair, side)
        torn = came if isinstance(came, str) and 'not as on the old primary' in done.stdout else ''
        findings = [(p, w) for p, w in findings if not torn or p.partition('/')[2] not in torn or 'no message file' in w]
        if done.returncode:
            raise Failure(f'promote: exit {done.returncode}: {done.stderr[-500:]}')
        self.lacking += 'not as on the old primary' in done.stdout
        if findings:
            raise Failure('\n'.join([f'the oracle has {len(findings)} findings on the promoted store'] + [f'{p}: {w}' for p, w in findings[:8]]))

    def all(self, side, fault):
        """at all points of `side` with --long, else at a sample: POINTS of them"""
        self.begin()
        found = self.points(side)
        visited = found if self.run.long else faulty.spread(self.rng, found, int(os.environ.get('POINTS', self.quick_or(2, 12))))
        outcomes = [self.visit(side, point, fault) or 'not met' for point in visited]
        outcome, hung = collections.Counter(outcomes), [p.about for p, what in zip(visited, outcomes) if what == 'hung']
        if not set(outcome) - {'not met'}:
            raise Failure(f'no fault came about: {outcome}')
        return (f'{len(visited)} of {len(found)} points: ' + ', '.join(f'{n} {what}' for what, n in sorted(outcome.items()))
                + (f': {hung}' if hung else '') + (f'; {self.lacking} promotions told of files that were asked for again' if self.lacking else ''))

    @scenario('the primary is killed at a system call that writes')
    def primary_killed(self):
        return self.all('p', 'signal=SIGKILL')

    @scenario('the replica is killed at a system call that writes')
    def replica_killed(self):
        return self.all('r', 'signal=SIGKILL')

    @scenario('a system call that writes fails at the primary: EIO')
    def primary_eio(self):
        return self.all('p', 'error=EIO')

    @scenario('a system call that writes fails at the replica: EIO')
    def replica_eio(self):
        return self.all('r', 'error=EIO')

    @scenario('a system call that writes fails at the primary: ENOSPC')
    def primary_full(self):
        return self.all('p', 'error=ENOSPC')

    @scenario('a system call that writes fails at the replica: ENOSPC')
    def replica_full(self):
        return self.all('r', 'error=ENOSPC')

    @scenario('after a flush of the journal that failed, its tail is written anew')
    def written_anew(self):
        pair = self.begin()
        for side in 'rp':
            segment = max(glob.glob(os.path.join(pair.side(side).state, 'journal', '*.journal')))
            if not self.visit(side, faulty.Point('fdatasync', 1, 'the newest segment', segment), 'error=EIO'):
                raise Failure(f'{side}: {segment} was not flushed')
            pair.stop_daemon(side)
            with open(self.trace, 'w'):
                pass
            pair.start_daemon(side, under=faulty.counting(self.trace))
            with open(self.trace, errors='replace') as f:
                journal = [x for x in f if '.journal>' in x]
            until_cut = [x for x in journal[:next(k for k, x in enumerate(journal) if 'ftruncate' in x)] if 'pwrite64' in x]
            if not until_cut:
                raise Failure(f'{side}: the journal was opened, and nothing of it written again')
