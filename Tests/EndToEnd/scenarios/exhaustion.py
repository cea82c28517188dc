"""Something that both ends live on runs out, and is there again."""
import contextlib
import os
import signal
import subprocess

from lab import processes
from pair import Failure
from runner import Skip, scenario

from .common import PairGroup, told


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
                with open(filler, 'wb') as f, contextlib.suppress(OSError):
                    while True:
                        f.write(bytes(1 << 16))
                        f.flush()
                self.until_paused(side)
                self.watch(1)
            if not pair.is_behind():
                raise Failure('wait --now succeeded on a full disk')
            os.unlink(filler)
            pair.wait_now(patience=90)
            self.judge()
            return told(b)

    @scenario("the disk under the primary's state is full, and freed again")
    def primary(self):
        return self.full_and_freed('p')

    @scenario("the disk under the replica's state is full, and freed again")
    def replica(self):
        return self.full_and_freed('r')

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
        limit = '/proc/sys/fs/inotify/max_user_watches'
        with open(limit) as f:
            before = f.read()
        pair = self.make(users=range(6), settings={'sweep_period': '2s'}).start()
        pair.stop_daemon('p')
        try:
            with open(limit, 'w') as f:
                f.write('60')
        except OSError:
            raise Skip('max_user_watches cannot be set here')
        try:
            pair.start_daemon('p')
            processes.until(lambda: pair.status('p')['watch']['unwatchedDirectories'], 20, 'unwatched directories in status')
        finally:
            with open(limit, 'w') as f:
                f.write(before)
        with pair.load(seed=self.rng.randrange(10**6)) as b:
            self.watch(self.quick_or(3, 20))
        # no barrier covers what no event tells of; the sweep does
        processes.until(lambda: not pair.tree_differences(lambda d: False), 40, 'equal stores')
        if not pair.status('p')['watch']['missedEvents']:
            raise Failure('the sweep found it all, and status counts no missed event')
        self.judge()
        return told(b)
