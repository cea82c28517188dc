"""What an administrator looks with: the store as Cyrus understands it, the chain, the quarantine, manifests."""
import glob
import json
import os
import shutil
import subprocess

from lab import imap, processes
from pair import TRY_AGAIN, Failure
from runner import scenario

from .common import DAY, PairGroup

DIFFERENT, USAGE, DAMAGED = 1, 64, 65
USER = 'u00001'


class Tools(PairGroup):
    """tools"""
    shared, delivered = True, 0

    def before(self):
        if self.pair is None:
            self.make(users=range(4), settings={'sweep_period': DAY}).start()

    def deliver(self, count=3):
        with imap.Lmtp(self.pair.p.cyrus.port['lmtp']) as l:
            for _ in range(count):
                self.delivered += 1
                l.deliver([USER], imap.message(self.rng, f'tools-{self.delivered}'))

    def flipped(self, path):
        """one bit in the middle of a file; a call puts it back"""
        with open(path, 'rb') as f:
            sound = f.read()
        status = os.stat(path)

        def put(content):
            with open(path, 'r+b') as f:
                f.write(content)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        put(sound[:len(sound) // 2] + bytes([sound[len(sound) // 2] ^ 1]) + sound[len(sound) // 2 + 1:])
        return lambda: put(sound)

    # ---- check --store
    @scenario('check --store finds nothing while clients are at work, and then each flipped bit')
    def check_store(self):
        looked = 0
        with self.pair.load(seed=self.run.seed) as b:
            for _ in range(self.quick_or(10, 60)):
                self.pair.command(self.pair.p, 'check', '--store', timeout=120)
                looked += 1
                if looked == 5:
                    self.pair.p.cyrus.tool('cyr_expire', '-E', '1', '-X', '0', '-D', '0')
        self.deliver()
        self.judge()
        part = self.pair.r.roots['partition-default'] + '/uuid/*/*/*/'
        store = self.pair.r.roots['configdirectory']
        kinds = {name: self.rng.choice([f for f in sorted(glob.glob(part + name)) if os.path.getsize(f) > 160])
                 for name in ('cyrus.index', 'cyrus.header', '[0-9]*.')}
        for path in [*kinds.values(), store + '/mailboxes.db', store + '/annotations.db', store + '/deliver.db']:
            restore = self.flipped(path)
            done = self.pair.command(self.pair.r, 'check', '--store', expect=(DIFFERENT,))
            restore()
            name = os.path.basename(path)
            if name not in done.stdout and os.path.dirname(path).rsplit('/', 1)[1] not in done.stdout:
                raise Failure(f'{path}: not told: {done.stdout[-500:]}')
        self.pair.command(self.pair.r, 'check', '--store')
        return f'{looked} times clean under load'

    # ---- inspect --chain
    def chain(self, side, *arguments, expect=(0,)):
        out = self.pair.command(side, 'inspect', '--chain', *arguments, expect=expect).stdout
        return dict(line.split(': ', 1) for line in out.splitlines() if ': ' in line)

    @scenario('inspect --chain: equal positions have equal hashes on both ends, while clients are at work')
    def chains(self):
        with self.pair.load(seed=self.run.seed):
            for _ in range(self.quick_or(3, 20)):
                last = self.chain(self.pair.p)['last'].split(',')[0]
                self.pair.command(self.pair.p, 'wait', '--position', last, '--level', 'flushed', '--timeout', '30')
                one, other = (self.chain(s, '--at', last)['at'] for s in (self.pair.p, self.pair.r))
                if one != other:
                    raise Failure(f'at {last}: {one} and {other}')
        self.pair.wait_now()
        if self.chain(self.pair.p)['last'] != self.chain(self.pair.r)['last']:
            raise Failure('other heads at rest')

    @scenario('a journal with a flipped bit in its middle is not cut: the daemon says where, and does not start')
    def damaged_journal(self):
        self.deliver(20)
        self.pair.wait_now()
        side = self.pair.r
        self.pair.stop_daemon(side)
        segment = max(glob.glob(side.state + '/journal/*.journal'))
        before = os.path.getsize(segment)
        with open(segment, 'rb') as f:
            end = len(f.read().rstrip(b'\0'))
        with open(segment, 'r+b') as f:
            f.seek(end // 2)
            byte = f.read(1)
            f.seek(end // 2)
            f.write(bytes([byte[0] ^ 4]))
        broken = self.chain(side, expect=(DIFFERENT,))
        if segment not in broken.get('broken', ''):
            raise Failure(f'not told: {broken}')
        daemon = self.pair.background(side, 'run')
        code = processes.until(lambda: daemon.poll() is not None and f'exit {daemon.returncode}', 15, quiet=True)
        if not code or code == 'exit 0' or os.path.getsize(segment) != before:
            if daemon.poll() is None:
                daemon.kill()
            daemon.wait()
            raise Failure(f'a daemon over a damaged journal: {code}, {before} bytes before, {os.path.getsize(segment)} now')
        with open(segment, 'r+b') as f:
            f.seek(end // 2)
            f.write(byte)
        self.pair.start_daemon(side)
        self.judge()

    # ---- quarantine
    def ask(self, what, *arguments, **kw):
        return self.pair.command(self.pair.r, 'quarantine', what, '--config', self.pair.r.config, *arguments, bare=True, **kw)

    def kept(self, *arguments):
        out = self.ask('list', '--json', *arguments).stdout
        return [json.loads(line) for line in out.splitlines()]

    @scenario('a message that was expunged for good is in the quarantine, is shown, restored, and expires')
    def quarantine(self):
        self.deliver(1)
        with imap.Imap(self.pair.p.cyrus.port['imap'], USER) as s:
            s.enter('INBOX')
            uid = s.uids()[-1]
            s.on(uid, 'STORE', '+FLAGS', '\\Deleted')
            self.pair.wait_now()
            with open(self.only(f'{uid}.'), 'rb') as f:
                message = f.read()
            s.say('EXPUNGE')
        self.pair.p.cyrus.tool('cyr_expire', '-E', '1', '-X', '0')
        self.pair.wait_now()
        found = [e for e in self.kept() if e['path'].endswith(f'/{uid}.') and e['mailbox'] == f'user.{USER}']
        if len(found) != 1 or found[0]['bytes'] != len(message):
            raise Failure(f'of message {uid} the quarantine has {found}')
        name = found[0]['entry']
        if self.ask('show', name).stdout.encode() != message.replace(b'\r\n', b'\n'):
            raise Failure('show gives other bytes')                                   # universal newlines of the pipe
        if self.kept('--older', '1d') or not self.kept('--path', os.path.dirname(found[0]['path'])):
            raise Failure('list does not filter')
        target = self.where + '/restored'
        os.makedirs(target)
        self.pair.r.cyrus.own(target)
        told = self.ask('restore', name, '--to', target).stdout.strip()
        with open(told, 'rb') as f:
            if f.read() != message:
                raise Failure('restore gives other bytes')
        self.ask('restore', name, '--to', target, expect=(USAGE,))
        inside = self.pair.r.roots['partition-default'] + '/uuid'
        for place in (inside, inside + '/new/one', target + '/../r'):
            self.ask('restore', name, '--to', place, expect=(USAGE,))
        if os.path.exists(inside + '/new'):
            raise Failure('a restore that was refused has made a directory in the store')
        self.ask('expire', '--older', '1d')
        if not [e for e in self.kept() if e['entry'] == name]:
            raise Failure('expired too early')
        self.ask('expire', '--all')               # beside a daemon
        self.pair.stop_daemon('r')
        self.ask('expire', '--all')
        if self.kept():
            raise Failure(f'left: {self.kept()}')
        self.pair.start_daemon('r')
        self.judge()

    def only(self, name):
        """the newest file of that name on the replica"""
        return max(glob.glob(f"{self.pair.r.roots['partition-default']}/uuid/*/*/*/{name}"), key=os.path.getctime)

    # ---- manifest
    @scenario('a manifest of the replica at rest proves a copy of it, and finds every change in the copy')
    def manifest(self):
        self.deliver()
        self.pair.wait_now()
        path, copy = self.where + '/manifests/m', self.where + '/copy'
        os.makedirs(os.path.dirname(path))
        self.pair.r.cyrus.own(os.path.dirname(path))
        self.pair.command(self.pair.r, 'manifest', '--output', path, expect=(TRY_AGAIN,))     # a daemon is running
        self.pair.stop_daemon('r')
        self.pair.command(self.pair.r, 'manifest', '--output', path)
        os.makedirs(copy)
        self.pair.r.cyrus.own(copy)
        roots = []
        for key, root in self.pair.r.roots.items():
            subprocess.run(['cp', '-a', root, f'{copy}/{key}'], check=True)
            roots += ['--root', f'{key}={copy}/{key}']
        self.pair.start_daemon('r')

        def verify(expect):
            return self.pair.command(self.pair.p, 'verify', '--manifest', path, *roots, expect=(expect,)).stdout
        verify(0)
        box = os.path.dirname(max(glob.glob(f'{copy}/partition-default/uuid/*/*/*/1.')))
        shutil.copy2(box + '/1.', box + '/1')               # a file of its own: other mailboxes may have the message too
        os.chown(box + '/1', *[getattr(os.stat(box + '/1.'), x) for x in ('st_uid', 'st_gid')])
        os.rename(box + '/1', box + '/1.')
        self.flipped(box + '/1.')
        os.chmod(box + '/cyrus.header', 0o644)
        os.truncate(box + '/cyrus.index', 100)
        os.rename(box + '/cyrus.cache', box + '/9999.')
        os.symlink('nowhere', copy + '/sievedir/link')
        said = verify(DIFFERENT)
        for kind, name in (('differs', '1.'), ('differs', 'cyrus.header'), ('differs', 'cyrus.index'), ('missing', 'cyrus.cache'),
                           ('extra', '9999.'), ('extra', 'link')):
            if not any(x.startswith(kind + ': ') and f'/{name}: ' in x for x in said.splitlines()):
                raise Failure(f'{kind} {name}: not among {said}')
        if len(said.splitlines()) != 7:
            raise Failure(f'more than was changed: {said}')
        with open(path, 'rb') as f:
            text = f.read()
        for changed in (text.replace(b'\nf 600', b'\nf 640', 1), text[:len(text) // 2], text + b'x\n', text.replace(b'signature: M', b'signature: N')):
            with open(path, 'wb') as f:
                f.write(changed)
            verify(DAMAGED)
        shutil.rmtree(copy)
        self.judge()
