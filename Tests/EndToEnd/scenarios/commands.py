"""The small commands: what they say, and how they exit."""
import os
import shutil
import subprocess

from lab import imap, processes
from pair import CONFIGURATION, TRY_AGAIN, UNAVAILABLE, USAGE, Failure
from runner import Skip, scenario

from .common import PairGroup

DATA_ERROR, NO_SUCH_POSITION = 65, 1_000_000
SEGMENT_HEAD = BATCH_HEAD = 64                               # bytes: mailsync-protocol(7)


class Commands(PairGroup):
    """commands"""
    shared = True

    def before(self):
        if self.pair is None:
            self.make(users=range(4)).start()
            with imap.Lmtp(self.pair.p.cyrus.port['lmtp']) as l:
                for n in range(10):
                    l.deliver(['u00000'], imap.message(self.rng, f'c{n}'))
            self.pair.wait_now()

    def copy_of(self, side, **changes):
        """the configuration of a side with other values; a new file"""
        with open(side.config) as f:
            lines = dict(x.rstrip('\n').split(': ', 1) for x in f)
        path = side.config + '.other'
        with open(path, 'w') as f:
            f.writelines(f'{k}: {v}\n' for k, v in {**lines, **changes}.items() if v is not None)
        return path

    def with_configuration(self, side, path, *arguments, **kw):
        keep, side.config = side.config, path
        try:
            return self.pair.command(side, *arguments, **kw)
        finally:
            side.config = keep

    @scenario('status names role, epoch, state and positions on both ends')
    def status(self):
        for which, role in (('p', 'primary'), ('r', 'replica')):
            status = self.pair.status(which)
            missing = [k for k in ('role', 'epoch', 'state', 'positions') if k not in status]
            if missing or status['role'] != role:
                raise Failure(f'{which}: status: role {status.get("role")}, missing {missing}')
        at = self.pair.positions('p')
        missing = [k for k in ('journaled', 'shipped', 'flushed', 'applied') if k not in at]
        if missing:
            raise Failure(f'p: positions without {missing}: {at}')
        if at['journaled'] != at['applied']:
            raise Failure(f'at rest, after a wait: {at}')

    @scenario('status is for people too')
    def status_text(self):
        if not self.pair.command(self.pair.p, 'status').stdout.strip():
            raise Failure('status says nothing')

    @scenario('wait for a position: one that is reached, one that is not')
    def wait(self):
        epoch, sequence = self.pair.positions('p')['journaled']
        for level in ('flushed', 'applied'):
            self.pair.command(self.pair.p, 'wait', '--position', f'{epoch}/{sequence}', '--level', level, '--timeout', '10')
        there = self.pair.command(self.pair.r, 'fingerprint').stdout.strip()
        for side, who in ((self.pair.p, f'{there} is connected, flushed {epoch}/'), (self.pair.r, 'this end is streaming, flushed')):
            done = self.pair.command(side, 'wait', '--position', f'{epoch}/{sequence + NO_SUCH_POSITION}', '--timeout', '1', expect=(TRY_AGAIN,))
            if who not in done.stderr:
                raise Failure(f'{side.name}: {done.stderr}')

    @scenario('check finds a configuration that cannot work')
    def check(self):
        side = self.pair.p
        other = self.copy_of(side, imapd_conf=side.cyrus.dir + '/etc/none.conf')
        self.with_configuration(side, other, 'check', expect=(CONFIGURATION,))
        own = self.pair.command(side, 'fingerprint').stdout.strip()
        self.mistake(side, "peer_fingerprint: is this end's own", CONFIGURATION, self.copy_of(side, peer_fingerprint=own), 'check')
        for key, value, word in (
                ('lock_path', side.cyrus.dir + '/no-locks', 'no lock of Cyrus'), ('lock_path', 'locks', 'is not an absolute path'),
                ('journal_max', '1K', 'holds hardly a batch')):
            self.mistake(side, word, CONFIGURATION, self.copy_of(side, **{key: value}), 'check')
        for key, value, word in (
                ('peer.third', '127.0.0.1:9', 'peer.third: no fingerprint of its own'),
                ('peer_fingerprint.third', 'SHA256:' + '12' * 32, 'without peer.third it is never called on')):
            done = self.with_configuration(side, self.copy_of(side, **{key: value}), 'check')
            if word not in done.stdout:
                raise Failure(f'check: {done.stdout}')

    @scenario('check finds a state directory that everybody may look into, and a key that is none')
    def check_state(self):
        side = self.pair.r
        os.chmod(side.state, 0o755)
        self.mistake(side, 'everybody may look into it', CONFIGURATION, side.config, 'check')
        os.chmod(side.state, 0o700)
        key, kept = side.state + '/key.pem', side.state + '/key.pem.kept'
        shutil.copy2(key, kept)
        self.flip(key)
        for subcommand, status in (('check', CONFIGURATION), ('fingerprint', DATA_ERROR)):
            self.mistake(side, 'are no identity', status, side.config, subcommand)
        with open(kept, 'rb') as f, open(key, 'wb') as g:
            g.write(f.read())
        os.unlink(kept)
        self.pair.command(side, 'check')

    @scenario('wrong calls exit with 64')
    def usage(self):
        self.pair.command(self.pair.p, 'wait', '--nonsense', expect=(USAGE,))
        self.pair.command(self.pair.p, 'nonsense', expect=(USAGE,))
        for side, command, hint in (
                (self.pair.r, ['wait', '--now'], 'run it there'), (self.pair.p, ['resume'], 'on the replica'),
                (self.pair.p, ['wait', '--now', '--timeout', '-1'], 'more than 0')):
            done = self.pair.command(side, *command, expect=(USAGE,))
            if hint not in done.stderr:
                raise Failure(f'{command}: {done.stderr}')

    def mistake(self, side, word, status, path, *arguments):
        """`arguments` with the configuration `path` end with `status`, and with words that have `word` and a hint"""
        done = self.with_configuration(side, path, *arguments, expect=(status,))
        if word not in done.stderr or 'hint: ' not in done.stderr:
            raise Failure(f'{arguments}: {done.stderr}')

    @scenario('a state directory is for one store')
    def another_store(self):
        side = self.pair.r
        other = self.copy_of(side, store='mail7')
        for command in (['promote'], ['status'], ['verify']):
            self.mistake(side, 'was made for the store "mail1"', CONFIGURATION, other, *command)
        self.pair.kill(side)
        for command in (['check'], ['run'], ['promote'], ['init', '--role', 'replica']):
            self.mistake(side, 'was made for the store "mail1"', CONFIGURATION, other, *command)
        self.pair.start_daemon(side)

    def check_refusal(self, word):
        told = self.pair.status('p')['lastRefusal']['why']
        if word not in told:
            raise Failure(f'the primary tells of the refusal: {told}')

    @scenario('a seed that the primary refuses ends, and says why')
    def refused_seed(self):
        side = self.pair.r
        state = side.cyrus.dir + '/other-state'
        side.cyrus.own_directory(state, 0o700)
        other = self.copy_of(side, state=state, store='mail7')
        self.pair.kill(side)
        self.with_configuration(side, other, 'init', '--role', 'replica')
        self.mistake(side, "this end's certificate is not known there", UNAVAILABLE, other, 'seed', '--overwrite')
        self.check_refusal('127.0.0.1: its certificate is SHA256:')
        for name in ('key.pem', 'certificate.pem'):
            shutil.copy2(f'{side.state}/{name}', f'{state}/{name}')
            side.cyrus.own(f'{state}/{name}')
        self.mistake(side, 'the primary\'s store is "mail1"', CONFIGURATION, other, 'seed', '--overwrite')
        self.check_refusal('the primary\'s store is "mail1"')
        stranger = self.copy_of(side, state=state, peer_fingerprint='SHA256:' + '12' * 32)
        self.with_configuration(side, stranger, 'init', '--role', 'replica')       # the name was a slip: nothing came of it yet
        self.mistake(side, 'no peer_fingerprint here', UNAVAILABLE, stranger, 'seed', '--overwrite')
        self.pair.start_daemon(side)
        self.pair.wait_now()
        self.judge()

    @scenario('init again changes neither the key nor the role')
    def init_again(self):
        side = self.pair.r
        before = self.pair.command(side, 'fingerprint').stdout
        self.pair.kill(side)
        self.pair.command(side, 'init', '--role', 'replica')
        self.pair.start_daemon(side)
        if self.pair.command(side, 'fingerprint').stdout != before:
            raise Failure('another key after init was run again')
        self.pair.wait_now()
        self.judge()

    @scenario('a replica becomes no primary by init')
    def init_primary(self):
        side = self.pair.r
        self.pair.kill(side)
        done = self.pair.command(side, 'init', '--role', 'primary', expect=None)
        self.pair.start_daemon(side)
        if done.returncode == 0 or self.pair.status(side)['role'] != 'replica':
            raise Failure('init made a primary of a replica')
        self.judge()

    @scenario('a second daemon on the same state is refused, and the first goes on')
    def second_daemon(self):
        for side in (self.pair.p, self.pair.r):
            second = self.pair.background(side, 'run')
            try:
                code = processes.until(lambda: second.poll() is not None and f'exit {second.returncode}', 15, quiet=True)
            finally:
                if second.poll() is None:
                    second.kill()
                second.wait()
            if not code or code == 'exit 0':
                raise Failure(f'{side.name}: a second daemon: {code or "it runs"}')
        self.judge()

    @scenario('seed is refused on the primary')
    def seed_on_primary(self):
        self.pair.kill('p')
        done = self.pair.command(self.pair.p, 'seed', expect=None)
        self.pair.start_daemon('p')
        if done.returncode == 0:
            raise Failure('seed succeeded on the primary')

    @scenario('init by root leaves what it makes to the owner of the state directory')
    def init_by_root(self):
        side = self.pair.r
        state = side.cyrus.dir + '/by-root'
        side.cyrus.own_directory(state, 0o700)
        owner = os.stat(state).st_uid
        if os.geteuid() or not owner:
            raise Skip('needs root, and a daemon that is not')
        argv = [self.pair.program, 'init', '--config', self.copy_of(side, state=state), '--role', 'replica']
        subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        strange = [n for n in os.listdir(state) if os.stat(f'{state}/{n}').st_uid != owner]
        if strange:
            raise Failure(f'not of user {owner}: {strange}')

    @staticmethod
    def segments(side):
        """those of the journal that have something in them"""
        journal = side.state + '/journal'
        return [s for s in sorted(f'{journal}/{n}' for n in os.listdir(journal)) if os.path.getsize(s) > 1000]

    @staticmethod
    def flip(path, to=None, at=None):
        """one bit, in the middle of what is written if not `at` a place"""
        with open(path, 'rb') as f:
            b = bytearray(f.read())
        b[len(b.rstrip(b'\0')) // 2 if at is None else at] ^= 1
        with open(to or path, 'r+b' if not to else 'wb') as f:
            f.write(b)

    @scenario('a journal that is damaged before its end: 65, and what to do')
    def damaged_journal(self):
        side = self.pair.r
        for n in range(2):                                   # two batches at least
            with imap.Lmtp(self.pair.p.cyrus.port['lmtp']) as l:
                l.deliver(['u00000'], imap.message(self.rng, f'j{n}'))
            self.pair.wait_now()
        self.pair.kill(side)
        first = SEGMENT_HEAD + BATCH_HEAD
        self.flip(self.segments(side)[-1], at=first)
        done = self.pair.command(side, 'run', expect=(DATA_ERROR,))
        self.flip(self.segments(side)[-1], at=first)
        self.pair.start_daemon(side)
        if 'mailsync seed --overwrite' not in done.stderr:
            raise Failure(done.stderr)
        self.pair.wait_now()
        self.judge()

    @scenario('inspect reads the journal of both ends, and notices a flipped bit')
    def inspect(self):
        for side in (self.pair.p, self.pair.r):
            segments = self.segments(side)
            self.pair.command(side, 'inspect', *segments, expect=(0, 1), bare=True)
            damaged = side.cyrus.dir + '/damaged-segment'
            self.flip(segments[-1], to=damaged)
            os.chmod(damaged, 0o644)
            self.pair.command(side, 'inspect', damaged, expect=(1,), bare=True)
