"""The primary is lost at some moment, and another, and another: what the replica has by then, whatever was under way."""
import os
import time

from lab import afterlife, imap
from pair import Failure
from runner import scenario

from .common import PairGroup, told


class Moments(PairGroup):
    """moments"""

    def judge_moments(self, mode, **kw):
        """a line about it; `due` messages are there at each moment, as nobody removes any"""
        pair, count = self.pair, int(os.environ.get('MOMENTS', self.quick_or(15, 150)))
        due = afterlife.visible(pair.p.roots)
        with pair.load(seed=self.run.seed, rate=0, mode=mode, **kw) as b:
            for k in range(count):
                self.watch(self.rng.uniform(.02, .2))
                with afterlife.copied(pair.r) as copy:
                    done, found = afterlife.promote(pair, pair.r, copy), afterlife.findings(pair.r, copy)
                    roots = afterlife.roots_in(copy, pair.r)
                    lost = due - afterlife.visible(roots)
                    found += [(x, 'known to deliver.db, and in no mailbox') for x in afterlife.unseen_deliveries(roots)]
                if done.returncode or found or lost:
                    raise Failure('\n'.join([f'at moment {k}: promote: exit {done.returncode}, {len(lost)} of {len(due)} messages are lost',
                                             done.stderr[-300:]] + [f'{p}: {w}' for p, w in found[:8]]))
        pair.wait_now()
        unsettled = pair.status('p')['capture']['unsettledBatches']
        self.judge()
        return f'{count} moments, {len(due)} messages, {unsettled} batches unsettled; ' + told(b)

    @scenario('a message that is moved from one mailbox to another is in one of them')
    def moves(self):
        pair = self.make(users=range(3)).start()
        for user in range(3):
            with imap.Imap(pair.p.cyrus.port['imap'], imap.user(user)) as s:
                for k in range(20):
                    s.put('INBOX', imap.message(self.rng, f'{user}-{k}'))
        pair.wait_now()
        return self.judge_moments('move', clients=3)

    @scenario('a message that deliver.db knows is in its mailbox: who delivers it again is not believed')
    def deliveries(self):
        self.make(users=range(4)).start()
        return self.judge_moments('deliver')

    @scenario('the primary comes back to much that changed without it, while more does: it is caught up with')
    def backlog(self):
        size = self.quick_or(100, 1000)
        pair = self.make(store=['--users', size, '--mailboxes-per-user', 8, '--messages', 100 * size, '--median', 700, '--max', 2000]).start(cyrus=False)
        pair.stop_daemon('p')
        mix = 'deliver=40,flag=20,expunge=20,copy=20'
        with pair.storm(rate=2000, seed=self.run.seed, mix=mix):
            time.sleep(self.quick_or(4, 30))                     # the more, the better
        with pair.storm(rate=100, seed=self.run.seed + 1, mix=mix) as b:
            start = time.monotonic()
            pair.start_daemon('p')
            pair.wait_now(level='applied')
            secs = time.monotonic() - start
        pair.wait_now()
        self.judge()
        return f'in {secs:.1f} s; ' + told(b)

    @scenario('dav.db names no script that is not there')
    def scripts(self):
        self.make(users=range(4), settings={'removal_brake': 'off'}).start()     # each script replaced is a message removed
        return self.judge_moments('dav')
