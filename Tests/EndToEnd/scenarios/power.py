"""The power goes: a disk as it was at one instant, with nothing of what was only in memory."""
import contextlib
import os
import re
import subprocess

from lab import afterlife, disk, faulty
from pair import Failure
from runner import Skip, scenario

from .common import DAY, PairGroup, told
from .promotion import SUBJECT, Deliverer

PROMISED = re.compile(r'batches after (\d+)/(\d+),')


class Power(PairGroup):
    """power cuts"""

    @property
    def cuts(self):
        return int(os.environ.get('CUTS', self.quick_or(5, 50)))

    @contextlib.contextmanager
    def disk_at(self, place, kind='ext4'):
        why = disk.missing(kind)
        if why:
            raise Skip(why)
        try:
            d = disk.Disk(self.where, place, kind)
        except OSError as e:
            raise Skip(f'no such disk can be made here: {e}')
        try:
            yield d
        finally:
            self.pair.close()
            d.close()

    # ---- the replica
    @scenario('the replica loses power: what was acknowledged as flushed is there, and can be promoted')
    def replica(self):
        return self.replica_loses_power('ext4', self.cuts)

    @scenario('the replica loses power, on XFS')
    def replica_on_xfs(self):
        return self.replica_loses_power('xfs', min(self.cuts, 2) if self.run.quick else self.cuts)

    def replica_loses_power(self, kind, cuts):
        pair = self.make(users=range(6))
        with self.disk_at(pair.r.cyrus.dir, kind) as d:
            pair.start()
            mail = Deliverer(pair.p.cyrus.port['lmtp'], range(4, 6), self.run.seed)
            mail.start()
            due = 0
            with pair.load(seed=self.run.seed, clients=2, users=4, rate=80) as b:
                for k in range(cuts):
                    self.watch(self.rng.uniform(.1, 2))
                    known = []
                    if k % 2 == 0:                           # what was delivered by now is to be there
                        known = list(mail.acknowledged)
                        pair.wait_now(level='flushed')
                    flushed = pair.positions('p')['flushed']
                    image = d.cut()
                    self.judge_cut(d, image, flushed, [i for _, i, _ in known], live=k % 4 < 2)
                    due += len(known)
            pair.wait_now()
            pair.p.cyrus.kill()                              # ends the Deliverer
            mail.join(30)
        return f'{cuts} cuts, {due} messages looked for; ' + told(b)

    @scenario('a replica whose flushes do nothing is found out')
    def without_flushes(self):
        if not faulty.works():
            raise Skip('needs strace, and the right to trace')
        pair = self.make(users=range(6))
        with self.disk_at(pair.r.cyrus.dir) as d:
            pair.start()
            pair.stop_daemon('r')
            pair.start_daemon('r', under=faulty.without_flushes())
            with pair.load(seed=self.run.seed, clients=2, rate=80):
                for k in range(10):
                    self.watch(self.rng.uniform(.1, .6))
                    flushed = pair.positions('p')['flushed']
                    try:
                        self.judge_cut(d, d.cut(), flushed, [], live=False)
                    except Failure:
                        return f'at cut {k + 1}'
        raise Failure('10 cuts have shown nothing: they do not lose what was not flushed')

    def judge_cut(self, d, image, flushed, known, live):
        pair, side = self.pair, self.pair.r
        argv = pair.argv(side, 'promote')
        if live:
            argv = ['sh', '-c', afterlife.PROMOTE_LIVE, argv[0], *argv[2:]]
        done = afterlife.run_at(image, side.cyrus.dir, argv, pair.environment(side), pair.run_as, '-o ' + d.options)
        m = PROMISED.search(done.stdout)
        if done.returncode or not m:
            raise Failure(f'promote after the cut: exit {done.returncode}: {(done.stdout + done.stderr)[-900:]}')
        if 'not as on the old primary' in done.stdout:
            raise Failure(f'after the cut some files do not fit the log: {done.stdout[-900:]}')
        has = tuple(map(int, m.groups()))
        if has < flushed:
            raise Failure(f'{flushed} was acknowledged as flushed, and the replica has lost what is after {has}')
        place = self.where + '/after-cut'
        os.makedirs(place, exist_ok=True)
        disk.run('mount', '-o', d.options, image, place)
        try:
            roots = {k: place + v[len(side.cyrus.dir):] for k, v in side.roots.items()}
            findings = afterlife.unsound(roots)
            if findings:
                raise Failure('\n'.join([f'after the cut the oracle has {len(findings)} findings'] + [f'{p}: {w}' for p, w in findings[:8]]
                                        + [x for x in (done.stdout + done.stderr).splitlines() if 'whole' in x or 'error' in x][-6:]))
            there = idents(roots) if known else set()
            lost = [x for x in known if x not in there]
            if lost:
                raise Failure(f'{len(lost)} of {len(known)} messages that were flushed are lost: {lost[:5]}')
        finally:
            disk.run('umount', place)
            os.unlink(image)

    # ---- the primary
    @scenario('the primary loses power under its state: journal and catalogue recover, the replica goes on')
    def primary(self):
        pair = self.make(users=range(6), wired=True, settings={'sweep_period': DAY})
        with self.disk_at(pair.p.state) as d:
            pair.start()
            changes = 0
            for _ in range(self.cuts):
                with pair.load(seed=self.rng.randrange(10**6), rate=150) as b:
                    self.watch(self.rng.uniform(.1, 1.5))
                    pair.wire.cut()                          # what is sent after the cut must not arrive
                    image = d.cut()
                    pair.kill('p')
                    d.go_back(image)
                    pair.wire.restore()
                    pair.start_daemon('p')
                changes += b.summary['operations']
                self.judge()
                self.went_on()
            kept, store = (size_of(pair.p.state + '/journal'), size_of(*pair.p.roots.values()))
            if kept > 3 * store + (64 << 20):
                raise Failure(f'{kept >> 20} MB of log are kept, of a store of {store >> 20} MB: each start ships anew what was shipped')
        return f'{self.cuts} cuts, {changes} changes; {kept >> 20} MB of log kept, of a store of {store >> 20} MB'

    def went_on(self):
        """the replica followed the log; it was not seeded again"""
        with open(self.pair.r.log, errors='replace') as f:
            bad = [x.strip() for x in f if 'comparing with the primary' in x or 'refused' in x or 'Fatal' in x]
        if bad:
            raise Failure('\n'.join(['the replica could not go on with the log'] + bad[:4]))


def size_of(*trees):
    """bytes of all files below"""
    return sum(os.lstat(os.path.join(at, x)).st_size for tree in trees for at, _, files in os.walk(tree) for x in files)


def idents(roots):
    """of all messages in the store"""
    listing = subprocess.run(['grep', '-rhaoE', '^Subject: message [^ \r]+', *(v for k, v in roots.items() if k.startswith('partition-'))],
                             capture_output=True, check=False).stdout
    return {m[1].decode() for m in SUBJECT.finditer(listing)}
