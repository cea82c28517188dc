"""Every system call that changes or flushes something, at either end: killed there, and failing there."""
import collections
import glob
import os
import re
import time

from lab import afterlife, faulty, imap, processes
from pair import Failure
from runner import Skip, scenario

from .common import DAY, PairGroup

PATIENCE = 40
STOPPED = 'stopped before all was applied: '
VISITING = 720                           # seconds for the points of a scenario
WHY = {'error=EIO': 'Input/output error', 'error=ENOSPC': 'No space left on device'}
NAMING = 'not as on the old primary, which was asked for it and did not answer: '
LOGGED = re.compile(r'\S+Z (\w+): mailsync: ')
# What SQLite cannot open it opens in other ways, and then knows no more why it could not.
UNOPENED = re.compile(r'SQLite error \d+: (unable to open database file|attempt to write a readonly database)')

# Calls whose failure is no error; `WARNED` is warned of.
WARNED = {
    ('pwrite64', 'state/shadow/'): 'without a shadow copy a file goes whole the next time',
    ('ftruncate', 'state/shadow/'): 'the same',
    ('unlinkat', '.mailsync'): 'an empty directory that stays until the next end of the daemon, or promotion',
}
UNSAID = {
    ('pwrite64', 'state/catalogue'): 'SQLite brings its file up to date when it is closed; the write-ahead log has all of it, and stays if that fails',
    ('fdatasync', 'state/catalogue'): 'the same',
    ('ftruncate', 'state/catalogue'): 'the same',
    ('unlink', 'state/catalogue-wal'): 'it is used, or begun anew, at the next opening',
    ('unlink', 'state/catalogue-shm'): 'the same',
    ('fdatasync', 'state'): 'by SQLite, behind the name of its write-ahead log; without that the catalogue is older, which the journal makes good',
}
# Calls of a daemon at work that end it when there is no room; at all others it waits.
ENDING = {
    ('fdatasync', 'state/journal/'): 'what a flush that failed was about is unsure until it is written again (a primary does so itself)',
    ('syncfs', 'a root'): 'the same of what a checkpoint is about',
    ('unlink', 'state/control'): 'of the start, when the other threads may be at work already',
}


def explains(name, path, what):
    """whether a file that `promote` names is the reason of a finding: about that file itself, or the mailbox that it belongs to"""
    path = path if '/' in path else 'configdirectory/' + path
    missing = re.fullmatch(r'uid (\d+): no message file', what)
    if missing:
        return name == f'{path}/{missing[1]}.'
    return path in (name, os.path.dirname(name))


def level_of(line):
    """of a line of the log; what a command says at its end, and so the daemon, is an error"""
    logged = LOGGED.match(line)
    return logged[1] if logged else 'error' if line.startswith('mailsync: ') else None


def tells(line, call, kind, fault):
    where = call.path if not kind.startswith('state/catalogue') else 'state/catalogue: '    # SQLite has files beside it
    return where in line and (WHY[fault] in line or call.name == 'openat' and UNOPENED.search(line))


def is_at_work(said):
    """whether the daemon had begun: what fails before ends it, for who has started it to see"""
    return any('following the log' in x or 'follows the log' in x for x in said)


class Faults(PairGroup):
    """faults of system calls"""

    def begin(self):
        if not faulty.works():
            raise Skip('needs strace, and the right to trace')
        self.turn, self.lacking, self.met = 0, 0, set()
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

    def traced(self, side, under, level='flushed'):
        """restarts the daemon of `side` under strace, has a session, ends the daemon when all of it is at `level`; returns its exit code: -9 if it
        was killed, 0 if it was ended by SIGTERM, None if it runs and does not go on"""
        pair, s = self.pair, self.pair.side(side)
        if s.running:
            pair.stop_daemon(s)
        with open(self.trace, 'w'):
            pass
        s.cyrus.own(self.trace)
        self.log_begins = os.path.getsize(s.log)
        s.daemon = pair.background(s, 'run', under=under)

        def dead():
            return s.daemon.poll() is not None
        if not processes.until(lambda: dead() or pair.command(s, 'status', expect=None).returncode == 0, PATIENCE, quiet=True):
            raise Failure(f'{s.name}: no answer to status: {under}')
        self.session()
        deadline = time.monotonic() + PATIENCE
        while not dead() and not self.reaches(level):
            if time.monotonic() > deadline:
                return None
        self.was_told = not dead()
        if self.was_told:
            s.daemon.terminate()
        code = s.daemon.wait(PATIENCE)
        s.daemon = None
        return code

    def reaches(self, level):
        return self.pair.command(self.pair.p, 'wait', '--now', '--level', level, '--timeout', '1', expect=None).returncode == 0

    @property
    def trace(self):
        return self.where + '/trace'

    def points(self, side):
        """those that two sessions at `side` have in common, from the daemon's start to its end: no two make the same batches"""
        once, again = self.counted(side), {p[:3] for p in self.counted(side)}
        self.pair.start_daemon(side)
        return [p for p in once if p[:3] in again]

    def counted(self, side):
        files = faulty.Files(self.pair.side(side))
        code = self.traced(side, faulty.counting(self.trace))
        if code != 0:
            raise Failure(f'{side}: without a fault the daemon ended with {code}')
        found, lost = faulty.points(self.trace, files)
        calls = {p.call for p in found}
        if len(calls & {'pwrite64', 'fdatasync', 'openat2', 'renameat2', 'renameat', 'rename'}) < 3 or len(lost) > len(found) // 10:
            raise RuntimeError(f'the trace shows hardly anything: {calls}, and {len(lost)} calls of which no path was known: {lost[:3]}')
        return found

    # ---- one fault
    def visit(self, side, point, fault):
        """None if the fault did not come about; else what the daemon did: 'killed', 'ended', 'went on', 'waited'. `met` has what it was about"""
        pair, s = self.pair, self.pair.side(side)
        files = faulty.Files(s)
        # of a lack of room the daemon must recover by itself; of an error it may be ended before a file has come again
        level = 'applied' if 'ENOSPC' in fault else 'flushed'
        code = self.traced(side, faulty.at(point, fault, files.paths(point.kind), self.trace), level)
        struck = faulty.unreturned(self.trace) if code == -9 else faulty.failed(self.trace)
        self.met |= {(c.name, files.kind(c.path)) for c in struck}
        outcome = 'waited' if code is None else 'killed' if code == -9 else 'ended' if code else 'went on'
        try:
            if code and code < 0 and (code != -9 or 'SIGKILL' not in fault):
                raise Failure(f'the daemon crashed: signal {-code}')
            if outcome not in ('killed', 'went on') and not struck:
                raise Failure('the fault did not come about, and the daemon does not go on')
            kinds = [(c, files.kind(c.path)) for c in struck]
            if fault in WHY:
                self.judge_telling(s, kinds, fault, outcome)
            if outcome == 'waited':
                self.judge_waiting(s, kinds, fault, level)
            if side == 'r':
                self.judge_promoted(s)
            pair.start_daemon(s)
            pair.wait_now(patience=PATIENCE)
            if pair.status('r').get('awaitedFiles'):
                raise Failure('files are awaited after wait --now')
            self.judge()
        except Exception as e:
            raise Failure('\n'.join([f'{side}: {fault} at {point.call} {point.number} of {point.kind} ({point.about}): {outcome}, exit {code}', str(e)]
                                    + [f'{c.name}({c.text[:300]}' for c in struck[:4]] + self.said(s)[-12:])) from e
        return outcome if struck else None

    def said(self, side):
        """the lines of its log since it was started under strace, without hints"""
        with open(side.log, errors='replace') as f:
            f.seek(self.log_begins)
            return [x for x in f.read().splitlines() if 'mailsync: hint: ' not in x]

    def judge_telling(self, side, struck, fault, outcome):
        """an error was told, with file and cause; by a daemon that ended it was the last that it told"""
        said = self.said(side)
        loud = [x for x in said if level_of(x) in ('error', 'critical')]
        waits = any('paused: ' in x or STOPPED in x for x in loud)     # at its end it waits for the next start
        if outcome == 'ended' and not any(tells(x, c, kind, fault) for x in loud[-1:] for c, kind in struck):
            raise Failure('the last words of the daemon do not tell file and error')
        may_end = not is_at_work(said) or any((c.name, kind) in ENDING or not c.changes for c, kind in struck)
        if outcome == 'ended' and 'ENOSPC' in fault and not may_end and not (waits and self.was_told):
            raise Failure('the daemon ended instead of waiting for room')
        if outcome == 'ended':
            return
        # one of a kind is enough: a thread begun anew meets it again, and is told of once; who asked for a `wait` is told in its answer
        for point in {(c.name, kind) for c, kind in struck}:
            heard = loud + [x for x in said if level_of(x) == 'warning'] if point in WARNED else loud
            if outcome == 'went on' and 'EIO' in fault and point[0] in faulty.FLUSHES and point[1] == 'state/journal/':
                raise Failure('a flush of the journal failed, and the daemon went on')
            if point not in UNSAID and not any(tells(x, c, kind, fault) for x in heard for c, kind in struck if (c.name, kind) == point):
                raise Failure('the daemon goes on, and does not tell file and error')
            if 'ENOSPC' in fault and point not in UNSAID and point not in WARNED and not waits:
                raise Failure('the daemon goes on, and does not say that it waits for room')

    def judge_waiting(self, side, struck, fault, level):
        """its status says what it waits for, and without strace, which may make the same call fail again in each new thread, it goes on; it is
        ended then"""
        def says_why():
            status = self.pair.status(side)
            why = (status.get('lastError') or {}).get('why', '')
            return ('EIO' in fault or status['state'] == 'paused') and any(tells(why, c, kind, fault) for c, kind in struck)
        # polled, as a primary begins again and again
        if not processes.until(says_why, 10, every=.1, quiet=True):
            raise Failure(f'the daemon stands still, and its status does not tell why: {self.pair.status(side)}')
        faulty.let_go(side.daemon.pid)
        if not processes.until(lambda: self.reaches(level), PATIENCE, quiet=True):
            raise Failure('the fault is over, and the daemon does not go on')
        self.pair.stop_daemon(side)

    def judge_promoted(self, side):
        """what the replica has when it is gone can be promoted, and is sound, but for the files that `promote` names"""
        done, findings = afterlife.promoted(self.pair, side)
        if done.returncode:
            raise Failure(f'promote: exit {done.returncode}: {done.stderr[-500:]}')
        named = [x.partition(NAMING)[2] for x in done.stdout.splitlines() if x.startswith(NAMING)]
        self.lacking += bool(named)
        findings = [f for f in findings if not any(explains(name, *f) for name in named)]
        if findings:
            raise Failure('\n'.join([f'the oracle has {len(findings)} findings on the promoted store, of which promote names {named}']
                                    + [f'{p}: {w}' for p, w in findings[:8]]))

    def all(self, side, fault):
        """at all points of `side` with --long, as far as it comes in its time, else at POINTS of them; first at one of each call and kind of file"""
        self.begin()
        deadline = time.monotonic() + VISITING
        found = self.points(side)
        todo = faulty.spread(self.rng, found, len(found) if self.run.long else int(os.environ.get('POINTS', self.quick_or(2, 12))))
        outcome, wanted = collections.Counter(), set()
        while todo and time.monotonic() < deadline:
            point = todo.pop(0)
            pair = point.call, point.kind
            wanted.add(pair)
            what = self.visit(side, point, fault)
            outcome[what or 'not met'] += 1
            first = next(p for p in found if (p.call, p.kind) == pair)
            if not what and pair not in self.met and point != first:
                todo.insert(0, first)
        visited, unmet, pairs = sum(outcome.values()), sorted(wanted - self.met), {(p.call, p.kind) for p in found}
        if outcome['not met'] > max(1, visited // 5) or len(unmet) > max(1, len(wanted) // 5):
            raise Failure(f'too many points were not met: {outcome}, {unmet}')
        return (f'{visited} of {len(found)} points: ' + ', '.join(f'{n} {what}' for what, n in sorted(outcome.items()))
                + f'; {len(pairs & self.met)} of {len(pairs)} pairs of a call and a kind of file'
                + (f', not {unmet}' if unmet else '')
                + (f'; {self.lacking} promotions told of files that were asked for again' if self.lacking else ''))

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
            if not self.visit(side, faulty.Point('fdatasync', 'state/journal/', 1, 'the newest segment'), 'error=EIO'):
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
