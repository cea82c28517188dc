"""A primary and a replica: two Cyrus instances, two mailsync daemons, and the questions a test asks of them."""
import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time

from lab import check, diff, imap, processes
from lab.background import HERE, Background
from lab.instance import OWNER, Instance
from lab.ports import free_port
from proxy import Wire, Wires

USAGE, UNAVAILABLE, CONFIGURATION = 64, 69, 78    # sysexits' EX_USAGE, EX_UNAVAILABLE, EX_CONFIG
TRY_AGAIN = 75                           # EX_TEMPFAIL: not in time
POSITIONS = ('applied', 'flushed', 'received', 'shipped', 'journaled')     # each <= the next


class Failure(Exception):
    """the program did not do what it should"""


class Late(Failure):
    """it did not do so in time"""


def said(output):
    """the end of it; of a crash, its cause and the first frames"""
    lines = [x.strip() for x in output.splitlines() if x.strip()]
    crash = next((k for k, x in enumerate(lines) if 'Fatal error' in x or 'crashed' in x), None)
    if crash is None:
        return '\n'.join(lines)[-800:]
    return '\n'.join([lines[crash]] + [x for x in lines[crash:] if ' in ' in x and ' at ' in x][:12])


class Side:
    """One of the two machines: a Cyrus, a configuration of mailsync, a state directory, perhaps a daemon."""

    def __init__(self, name, where, options, metapartition):
        self.name = name
        self.cyrus = Instance(f'{where}/{name}', options, metapartition)
        self.config, self.state, self.log = (f'{self.cyrus.dir}/{x}' for x in ('mailsync.conf', 'state', 'mailsync.log'))
        self.listen, self.daemon = free_port(), None

    @property
    def roots(self):
        return self.cyrus.roots

    @property
    def running(self):
        return self.daemon is not None and self.daemon.poll() is None

    def log_tail(self, lines=12):
        try:
            with open(self.log, errors='replace') as f:
                text = f.read()
        except FileNotFoundError:
            return []
        if 'Fatal error' in text or ' crashed' in text:
            return [f'{self.name}| {x}' for x in said(text).splitlines()]
        return [f'{self.name}| {x}' for x in text.splitlines()[-lines:]]


class Pair:
    """Sides p and r. `primary` is p and `replica` is r until promote() exchanges them. Use it in a `with`: all it started ends with it.

    wired      the two talk through pair.wire, which can be cut (proxy.py)
    store      arguments of lab/store.py: the primary's store before its first start; else `users` empty users are made
    settings   more lines for both configurations of mailsync
    """

    def __init__(self, where, program, run_as=OWNER, options=None, metapartition=False, wired=False, store=None, users=range(8), settings=None):
        self.program, self.run_as, self.users, self.store = program, run_as, users, store
        os.makedirs(where)
        os.chmod(where, 0o755)
        self.p, self.r = (Side(n, where, {k: v.format(dir=f'{where}/{n}') for k, v in (options or {}).items()}, metapartition) for n in 'pr')
        self.primary, self.replica = self.p, self.r
        self.peer_port = {'p': self.r.listen, 'r': self.p.listen}
        self.wire = None
        if wired:
            wires = {k: Wire(v) for k, v in self.peer_port.items()}
            self.wire, self.peer_port = Wires(*wires.values()), {k: w.port for k, w in wires.items()}
        self.settings = settings or {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for s in (self.p, self.r):
            if s.daemon is not None:
                if s.running:
                    s.daemon.kill()
                s.daemon.wait()
            s.cyrus.kill()
        if self.wire:
            self.wire.close()

    # ---- coming to life
    def start(self, cyrus=True, seed=True):
        """both ends initialised, the primary running; with `seed` the replica seeded and running too, and caught up"""
        for s in (self.p, self.r):
            s.cyrus.create()
            s.cyrus.own_directory(s.state, 0o700)
        if self.store:
            subprocess.run([sys.executable, '-B', f'{HERE}/store.py', self.p.cyrus.dir, *map(str, self.store)], check=True, stdout=subprocess.DEVNULL)
        if cyrus:
            self.p.cyrus.start()
            if not self.store:
                imap.make_users(self.p.cyrus.port['imap'], self.users)
        for s, role in ((self.p, 'primary'), (self.r, 'replica')):
            self.configure(s)
            self.command(s, 'init', '--role', role)
        print_of = {s: self.command(s, 'fingerprint').stdout.strip() for s in (self.p, self.r)}
        for s, other in ((self.p, self.r), (self.r, self.p)):
            if not print_of[other].startswith('SHA256:'):
                raise Failure(f'fingerprint: {print_of[other]!r}')
            self.configure(s, print_of[other])
            self.command(s, 'check', timeout=300)
        self.start_daemon('p')
        if seed:
            self.seed()
            self.start_daemon('r')
            self.wait_now()
        return self

    def configure(self, side, peer_fingerprint=None):
        lines = {'store': 'mail1', 'imapd_conf': side.cyrus.imapd_conf, 'state': side.state, 'listen': f'127.0.0.1:{side.listen}',
                 'peer': f'127.0.0.1:{self.peer_port[side.name]}', 'peer_fingerprint': peer_fingerprint, **self.settings}
        with open(side.config, 'w') as f:
            f.writelines(f'{k}: {v}\n' for k, v in lines.items() if v is not None)

    # ---- the program
    def _account(self, name=None):
        """only root can be another"""
        name = name or self.run_as
        return processes.account(name) if name != 'root' and os.geteuid() == 0 else {}

    def argv(self, side, subcommand, *arguments):
        return [self.program, subcommand, '--config', side.config, *map(str, arguments)]

    def environment(self, side):
        return {**os.environ, 'HOME': side.state}

    def command(self, side, subcommand, *arguments, expect=(0,), timeout=60, bare=False, run_as=None):
        """runs a subcommand to its end, `bare` without --config; an exit code that is not expected is a Failure"""
        argv = [self.program, subcommand, *map(str, arguments)] if bare else self.argv(side, subcommand, *arguments)
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace', timeout=timeout, cwd='/',
                                  env=self.environment(side), **self._account(run_as))
        except subprocess.TimeoutExpired:
            raise Late(f'{side.name}: {subcommand} did not end within {timeout} s')
        if expect is not None and done.returncode not in expect:
            raise Failure(f'{side.name}: {shlex.join(map(str, argv[1:]))}: exit {done.returncode}: {said(done.stderr + done.stdout)}')
        return done

    def background(self, side, subcommand, *arguments, under=(), run_as=None):
        with open(side.log, 'ab') as log:
            return subprocess.Popen([*under, *self.argv(side, subcommand, *arguments)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd='/',
                                    env=self.environment(side), start_new_session=True, **self._account(run_as))

    def side(self, which):
        return which if isinstance(which, Side) else self.p if which == 'p' else self.r

    def start_daemon(self, which, patience=30, under=(), run_as=None):
        """returns when the daemon answers; `under`, which `run_as` begins with, goes before its command line"""
        s = self.side(which)
        s.daemon = self.background(s, 'run', under=under, run_as=run_as)

        def answers():
            if s.daemon.poll() is not None:
                raise Failure(f'{s.name}: run ended with {s.daemon.returncode}')
            return self.command(s, 'status', '--json', expect=None).returncode == 0
        processes.until(answers, patience, f'{s.name}: an answer to status', every=.05)

    def stop_daemon(self, which, patience=30):
        """SIGTERM; it drains and exits 0"""
        s = self.side(which)
        s.daemon.terminate()
        try:
            code = s.daemon.wait(patience)
        except subprocess.TimeoutExpired:
            raise Late(f'{s.name}: the daemon did not end within {patience} s of SIGTERM')
        s.daemon = None
        if code != 0:
            raise Failure(f'{s.name}: the daemon ended with {code} after SIGTERM')

    def kill(self, which, number=signal.SIGKILL):
        s = self.side(which)
        if s.daemon is not None:
            s.daemon.send_signal(number)
            s.daemon.wait(30)
            s.daemon = None

    def restart(self, which):
        if self.side(which).running:
            self.stop_daemon(which)
        self.start_daemon(which)

    def seed(self, *arguments, timeout=120, run_as=None):
        return self.command(self.replica, 'seed', *arguments, timeout=timeout, run_as=run_as)

    def status(self, which):
        return json.loads(self.command(self.side(which), 'status', '--json').stdout)

    def positions(self, which='p'):
        """name -> (epoch, sequence) of those that are known; raises if they are out of order"""
        known = {}
        for name, value in self.status(which).get('positions', {}).items():
            if isinstance(value, str) and value.count('/') == 1:
                epoch, sequence = value.split('/')
                known[name] = (int(epoch), int(sequence))
        ordered = [known[n] for n in POSITIONS if n in known]
        if ordered != sorted(ordered):
            raise Failure(f'{which}: positions out of order: {known}')
        return known

    def wait_now(self, level='applied', patience=60):
        """until everything that has been changed so far is at `level`"""
        done = self.command(self.primary, 'wait', '--now', '--level', level, '--timeout', f'{patience}', expect=(0, TRY_AGAIN), timeout=patience + 30)
        if done.returncode:
            raise Late(f'wait --now --level {level}: not within {patience} s: {(done.stderr + done.stdout).strip()[-400:]}')

    def is_behind(self, patience=1):
        """a `wait` that must not succeed: the replica cannot know yet"""
        return self.command(self.primary, 'wait', '--now', '--level', 'flushed', '--timeout', f'{patience}', expect=(0, TRY_AGAIN)).returncode == TRY_AGAIN

    # ---- fail-over
    def stop_primary_cyrus(self):
        self.primary.cyrus.stop()

    def promote(self, *arguments):
        """the replica becomes the primary, and the primary of before what the replica was; the new one's daemon runs afterwards, and says so"""
        done = self.command(self.replica, 'promote', *arguments)
        self.primary, self.replica = self.replica, self.primary
        if not self.primary.running:
            self.start_daemon(self.primary)
        processes.until(self.says_primary, 15, f'{self.primary.name}: a status that says primary after promote', every=.05)
        return done

    def says_primary(self):
        done = self.command(self.primary, 'status', '--json', expect=None)
        return done.returncode == 0 and json.loads(done.stdout).get('role') == 'primary'

    def start_promoted_cyrus(self):
        self.primary.cyrus.start()

    def demote(self):
        """the primary of before becomes a replica of the one that was promoted, over the store it has"""
        self.kill(self.replica)
        self.replica.cyrus.stop()
        self.command(self.replica, 'init', '--role', 'replica')
        self.seed('--overwrite')
        self.start_daemon(self.replica)

    # ---- judgement
    def compare_trees(self, patience=60, ignore=lambda d: False, where=None):
        """wait --now, then the two stores must be equal. The primary must be at rest; if it still changed, once more.

        A difference that is there after `wait` is a failure even if it goes away: then the barrier was early, and
        the message says so."""
        deadline = time.monotonic() + patience
        while True:
            before = diff.signature(self.primary.roots)
            self.wait_now(patience=patience)
            found = self.tree_differences(ignore)
            if not found:
                return
            if before == diff.signature(self.primary.roots):
                break
            if time.monotonic() > deadline:
                raise Late('the primary does not come to rest')
        left = processes.until(lambda: not self.tree_differences(ignore), 5, every=.2, quiet=True)
        raise Failure('\n'.join([f'{len(found)} differences after wait --now' + (', which went away later: the barrier was early' if left else '')]
                                + [diff.sentence(d) for d in found[:8]]))

    def tree_differences(self, ignore=lambda d: False):
        return [d for d in diff.differences(self.primary.roots, self.replica.roots) if not ignore(d)]

    def check_replica(self):
        """the oracle on the replica's store; what it also says of the primary's is not the replica's fault"""
        found, counts = check.check(self.replica.roots)
        if found:
            known = set(check.check(self.primary.roots)[0])
            found = [f for f in found if f not in known]
        if found:
            raise Failure('\n'.join([f'the oracle has {len(found)} findings on the replica'] + [f'{p}: {w}' for p, w in found[:8]]))
        return counts

    def sweep(self, only=None):
        """what the primary's Cyrus shows"""
        shown, troubles = imap.sweep(self.primary.cyrus.port['imap'], only)
        if troubles:
            raise Failure('\n'.join([f'{self.primary.name}: sweep: {len(troubles)} troubles'] + troubles[:8]))
        return shown

    def compare_imap(self, before, only=None):
        """what the primary's Cyrus shows against a sweep of the one before it"""
        found = imap.differences(before, self.sweep(only))
        if found:
            raise Failure('\n'.join([f'{len(found)} differences over IMAP'] + [x[:300] for x in found[:8]]))

    def fail_over(self, only=None):
        """an orderly one, and everything one can ask of the new primary"""
        before = self.sweep(only)
        self.stop_primary_cyrus()
        self.compare_trees()
        self.check_replica()
        self.stop_daemon(self.primary)
        self.promote()
        self.start_promoted_cyrus()
        self.compare_imap(before, only)
        findings = self.primary.cyrus.findings() + self.primary.cyrus.complaints()
        if findings:
            raise Failure('\n'.join(['Cyrus complains of the promoted store:'] + findings[:8]))
        self.accepts_mail()

    def accepts_mail(self):
        names = imap.users(self.primary.cyrus.port['imap'])[:5]
        with imap.Lmtp(self.primary.cyrus.port['lmtp']) as l:
            got = l.deliver(names, imap.message(random.Random(1), f'after-{time.time_ns()}'))
        if got != len(names):
            raise Failure(f'the new primary accepted a message for {got} of {len(names)}')

    # ---- work
    @contextlib.contextmanager
    def load(self, seed=1, rate=120, clients=4, mode='mixed', users=None):
        """clients at work on the primary for the time of the block, on the first `users` users; yields the Background, whose
        `summary` is set afterwards"""
        ports = [x for k, v in self.primary.cyrus.port.items() for x in (f'--{k}', v)]
        with Background('load.py', *ports, '--users', users or len(self.users), '--rate', rate, '--clients', clients, '--seed', seed, '--mode', mode) as b:
            yield b
            self._worked(b)

    @contextlib.contextmanager
    def storm(self, secs=600, rate=300, seed=1, mix='cyrus', fsync=False):
        """the same without a Cyrus, and faster"""
        more = [] if fsync else ['--no-fsync']
        with Background('storm.py', self.p.cyrus.dir, '--secs', secs, '--rate', rate, '--seed', seed, '--mix', mix, *more) as b:
            yield b
            self._worked(b)

    def _worked(self, b):
        if b.killed:
            return                                           # by the scenario itself
        b.summary = b.stop()
        if not b.summary['operations']:
            raise RuntimeError(f'the load did nothing: {b.summary}')
        if b.summary.get('broken', 0) > self.primary.cyrus.stumbles():
            raise RuntimeError(f'Cyrus dropped clients: {b.summary}')

    def evidence(self):
        """what to print beside a failure"""
        out = []
        for s in (self.p, self.r):
            if s.running:
                try:
                    out.append(f'{s.name}: status: {json.dumps(self.status(s))}')
                except (Failure, OSError, ValueError):
                    out.append(f'{s.name}: no answer to status')
            out += s.log_tail()
            out += [f'{s.name}: Cyrus: {x}' for x in s.cyrus.complaints()[-3:]]
        return out
