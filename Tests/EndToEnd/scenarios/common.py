"""What the groups share: a pair in a directory of its own, ended and discarded after use."""
import contextlib
import os
import random
import subprocess
import time

from pair import Failure, Pair
from runner import Group, Skip

DAY = '86400s'


class PairGroup(Group):
    """Scenarios that make a pair each; it ends with the scenario. With `shared` it lasts until a scenario fails or the group ends."""
    pair, shared = None, False

    def __init__(self, run):
        super().__init__(run)
        self.rng = random.Random(run.seed)

    def make(self, **kw):
        """a pair, not started"""
        self.where = self.run.directory()
        self.pair = Pair(self.where, self.run.program, self.run.run_as, **kw)
        return self.pair

    def tear_down(self, failed):
        if failed or not self.shared:
            self.drop(failed and self.run.keep)

    def end(self):
        self.drop()

    def drop(self, keep=False):
        if self.pair:
            self.pair.close()
            self.pair = None
            if not keep:
                self.run.discard(self.where)

    def evidence(self):
        return self.pair.evidence() if self.pair else []

    def quick_or(self, quick, full):
        return quick if self.run.quick else full

    @contextlib.contextmanager
    def small_disk(self, side, path, megabytes=1200):
        """`path` of `side` on a file system of its own"""
        os.makedirs(path)
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={megabytes}M', 'tmpfs', path], capture_output=True).returncode:
            raise Skip('no tmpfs can be mounted')
        try:
            yield
        finally:
            self.pair.close()
            subprocess.run(['umount', '-l', path], check=True)

    def watch(self, secs):
        """lets the load go on for a while, and sees that the positions stay in order and grow"""
        deadline, last = time.monotonic() + secs, {}
        while (left := deadline - time.monotonic()) > 0:
            at = self.pair.positions('p') if self.pair.p.running else {}
            for name in last.keys() & at.keys():
                if at[name] < last[name] and name != 'shipped':      # what was sent on a link that ended is sent again
                    raise Failure(f'position {name} fell from {last[name]} to {at[name]}')
            last = at
            time.sleep(min(left, .25))

    def judge(self, ignore=lambda d: False):
        """the load is over: both stores equal, and sound"""
        self.pair.compare_trees(patience=120, ignore=ignore)
        return self.pair.check_replica()


def told(b):
    """the line about a load"""
    s = b.summary
    return f"{s['operations']} changes in {s['secs']} s" + (f", {s['refused']} refused: {s['first'][:1]}" if s.get('refused') else '')
