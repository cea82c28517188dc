"""One end is away while the other goes on; and comes back, perhaps as it was some time ago."""
import os
import shutil
import subprocess

from lab import processes
from lab.imap import Imap
from pair import Failure
from runner import scenario

from .common import PairGroup, told


class Absence(PairGroup):
    """absence"""

    def work(self, secs, rate=0):
        with self.pair.load(seed=self.rng.randrange(10**6), rate=rate) as b:
            self.pair.p.cyrus.tool('ctl_cyrusdb', '-c')
            self.watch(secs)
        # what a walk must find without a hint: removed for good, rewritten, moved
        self.pair.p.cyrus.tool('cyr_expire', '-X', '0', '-D', '0')
        with Imap(self.pair.p.cyrus.port['imap']) as a:
            a.say('RENAME', 'user/u00003', 'user/u00003', 'second')
            a.say('RENAME', 'user/u00003', 'user/u00003', 'default')
        return b

    @scenario('the replica is away, and catches up')
    def replica(self):
        pair = self.make(users=range(10)).start()
        pair.stop_daemon('r')
        b = self.work(self.quick_or(4, 15))
        if not pair.is_behind():
            raise Failure('wait --now succeeded without a replica')
        pair.start_daemon('r')
        pair.wait_now(patience=120)
        self.judge()
        return told(b)

    @scenario('the primary daemon is away while Cyrus goes on')
    def primary(self):
        pair = self.make(users=range(10)).start()
        pair.stop_daemon('p')
        b = self.work(self.quick_or(4, 15))
        pair.start_daemon('p')
        self.judge()
        return told(b)

    @scenario('both are away')
    def both(self):
        pair = self.make(users=range(10)).start()
        for s in 'pr':
            pair.stop_daemon(s)
        b = self.work(self.quick_or(3, 10))
        for s in 'rp':
            pair.start_daemon(s)
        self.judge()
        return told(b)

    @scenario('the replica comes back as it was some time ago')
    def old_copy(self):
        pair = self.make(users=range(6)).start()
        self.work(1)
        self.judge()
        pair.stop_daemon('r')
        places = [pair.r.state, *pair.r.roots.values()]
        os.mkdir(self.where + '/old')
        # In one go: Cyrus links messages across partitions, too.
        subprocess.run(['cp', '-a', *places, self.where + '/old'], check=True)
        pair.start_daemon('r')
        b = self.work(self.quick_or(2, 5))
        self.judge()
        pair.kill('r')
        for d in places:
            shutil.rmtree(d)
            os.rename(f'{self.where}/old/{os.path.basename(d)}', d)
        # as the disk of before would be the same directories
        os.unlink(pair.r.state + '/roots')
        pair.start_daemon('r')
        # Until it has spoken, the primary believes what the replica had acknowledged before.
        processes.until(lambda: pair.status('r')['state'] == 'streaming', 60, 'the replica to catch up')
        self.judge()
        return told(b)
