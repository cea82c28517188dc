"""Two replicas of one primary, each with its slot, and what becomes of the other when one is promoted."""
import glob
import os

from lab import diff, imap, processes
from pair import TRY_AGAIN, Failure, Side
from runner import scenario

from .common import PairGroup


class Replicas(PairGroup):
    """two replicas"""
    second, delivered = None, 0

    def three(self):
        """the pair, and a second replica, each end with both others in its configuration, by name"""
        pair = self.make(users=range(3)).start()
        self.second = Side('second', self.where, {}, False)
        self.second.cyrus.create()
        self.second.cyrus.own_directory(self.second.state, 0o700)
        pair.peer_port['second'] = pair.p.listen
        self.sides = (pair.p, pair.r, self.second)
        pair.configure(self.second)
        pair.command(self.second, 'init', '--role', 'replica')
        self.print_of = {s: pair.command(s, 'fingerprint').stdout.strip() for s in self.sides}
        for side in self.sides:
            self.configure(side)
        for which in 'pr':
            pair.stop_daemon(which)
            pair.start_daemon(which)
        pair.command(self.second, 'check')
        pair.command(self.second, 'seed')
        pair.start_daemon(self.second)
        return pair

    def configure(self, side):
        """peer.p, peer.r and peer.second, but for itself"""
        lines = {'store': 'mail1', 'imapd_conf': side.cyrus.imapd_conf, 'state': side.state, 'listen': f'127.0.0.1:{side.listen}'}
        for other in self.sides:
            if other is not side:
                lines |= {f'peer.{other.name}': f'127.0.0.1:{other.listen}', f'peer_fingerprint.{other.name}': self.print_of[other]}
        with open(side.config, 'w') as f:
            f.writelines(f'{k}: {v}\n' for k, v in lines.items())

    def tear_down(self, failed):
        if self.second is not None and self.second.daemon is not None:
            if self.second.running:
                self.second.daemon.kill()
            self.second.daemon.wait()
        super().tear_down(failed)

    def deliver(self, count, side=None):
        with imap.Lmtp((side or self.pair.p).cyrus.port['lmtp']) as l:
            for i in range(count):
                self.delivered += 1
                l.deliver([imap.user(i % 3)], imap.message(self.rng, f'two-{self.delivered}'))

    def equal(self, one, other):
        found = diff.differences(one.roots, other.roots)
        if found:
            raise Failure('\n'.join([f'{one.name} and {other.name} differ'] + [diff.sentence(d) for d in found[:8]]))

    @scenario('both are exact; one that is away is named by wait, verify and status, and keeps nobody up')
    def away(self):
        pair = self.three()
        self.deliver(6)
        pair.wait_now()
        self.equal(pair.p, pair.r)
        self.equal(pair.p, self.second)
        said = pair.command(pair.p, 'verify').stdout
        if 'compared with 2 replicas' not in said or not said.endswith('equal\n'):
            raise Failure(f'verify says: {said}')
        pair.stop_daemon(self.second)
        self.deliver(3)
        said = pair.command(pair.p, 'wait', '--now', '--timeout', '1', expect=(TRY_AGAIN,)).stderr
        if 'second (SHA256:' not in said or 'r (SHA256:' in said:
            raise Failure(f'wait says: {said}')
        said = pair.command(pair.p, 'verify', expect=(TRY_AGAIN,)).stdout
        if 'compared with 1 replica ' not in said or 'not compared: second (' not in said or 'equal' in said:
            raise Failure(f'verify says: {said}')
        said = pair.command(pair.p, 'status').stdout
        if 'r: connected' not in said or 'second: disconnected' not in said:
            raise Failure(f'status says: {said}')
        self.equal(pair.p, pair.r)
        pair.start_daemon(self.second)
        pair.wait_now()
        self.equal(pair.p, self.second)

    @scenario('one that is behind is promoted: what only the other had is in its quarantine, and it says why')
    def behind(self):
        pair = self.three()
        pair.wait_now()
        pair.stop_daemon(self.second)
        self.deliver(3)
        processes.until(lambda: not diff.differences(pair.p.roots, pair.r.roots), 30, 'the replica that is there')
        pair.kill('p')
        pair.p.cyrus.kill()
        pair.command(self.second, 'promote')
        pair.start_daemon(self.second)
        processes.until(lambda: not diff.differences(self.second.roots, pair.r.roots), 60, 'the replica that was ahead')
        if not any('ahead of this log' in x for x in pair.r.log_tail(40)):
            raise Failure('\n'.join(pair.r.log_tail(40)))
        kept = pair.command(pair.r, 'quarantine', 'list', '--config', pair.r.config, bare=True).stdout.splitlines()
        if sum(x.split()[2].endswith('.') for x in kept) < 3:
            raise Failure(f'the quarantine has {kept}')

    @scenario('the one that is ahead is promoted, and the other follows it')
    def promoted(self):
        pair = self.three()
        pair.stop_daemon(self.second)
        self.deliver(5)
        processes.until(lambda: not diff.differences(pair.p.roots, pair.r.roots), 30, 'the replica that is there')
        pair.kill('p')
        pair.p.cyrus.kill()
        pair.promote()
        pair.start_promoted_cyrus()
        pair.start_daemon(self.second)
        self.deliver(4, side=pair.r)
        processes.until(lambda: not diff.differences(pair.r.roots, self.second.roots), 60, 'the other replica')
        pair.command(self.second, 'check', '--store')

    @scenario('what came between the promotion and the first start as a primary reaches the other replica')
    def between(self):
        pair = self.three()
        self.deliver(5)
        pair.wait_now()
        pair.stop_daemon(self.second)
        pair.kill('p')
        pair.p.cyrus.kill()
        pair.promote()
        pair.stop_daemon(pair.r)
        for file in glob.glob(pair.r.state + '/catalogue*'):     # as if it had not come to its first start
            os.unlink(file)
        pair.start_promoted_cyrus()
        self.deliver(4, side=pair.r)
        pair.start_daemon(pair.r)
        pair.start_daemon(self.second)
        self.deliver(1, side=pair.r)
        processes.until(lambda: not diff.differences(pair.r.roots, self.second.roots), 60, 'the other replica')
