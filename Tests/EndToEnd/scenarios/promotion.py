"""The primary is gone for good, or so it seems: what the replica then has, and who may write to it afterwards."""
import glob
import os
import random
import re
import shutil
import threading
import time

from lab import afterlife, diff, imap, processes
from pair import CONFIGURATION, TRY_AGAIN, UNAVAILABLE, USAGE, Failure
from runner import scenario

from .common import PairGroup

SUBJECT = re.compile(rb'Subject: message (\S+)')


class Deliverer(threading.Thread):
    """delivers one message after another, `pause` seconds apart, until stop() or the server is gone; .acknowledged = [(when, ident, user)]"""

    def __init__(self, port, users, seed, pause=0):
        super().__init__(daemon=True)
        self.port, self.users, self.seed, self.pause, self.acknowledged = port, users, seed, pause, []
        self.stopped = threading.Event()

    def run(self):
        rng = random.Random(self.seed)
        try:
            l = imap.Lmtp(self.port)
            while not self.stopped.wait(self.pause):
                user, ident = imap.user(rng.choice(self.users)), f'd{self.seed}-{len(self.acknowledged)}'
                if l.deliver([user], imap.message(rng, ident)) == 1:
                    self.acknowledged.append((time.monotonic(), ident, user))
            l.bye()
        except (OSError, EOFError, imap.Refused):
            pass

    def stop(self):
        self.stopped.set()
        self.join(30)


class Promotion(PairGroup):
    """promotion"""

    def mail_on_replica(self):
        """user -> idents of the messages that Cyrus shows there"""
        out = {}
        for user in imap.users(self.pair.r.cyrus.port['imap']):
            with imap.Imap(self.pair.r.cyrus.port['imap'], user) as s:
                out[user] = set()
                if s.enter('INBOX', readonly=True):
                    for x in s.on('1:*', 'FETCH', '(BODY.PEEK[HEADER.FIELDS (SUBJECT)])'):
                        if isinstance(x, tuple) and (m := SUBJECT.search(x[1])):
                            out[user].add(m[1].decode())
        return out

    @scenario('the primary dies in the middle of its work: what was applied is there, and the rest is sound')
    def sudden(self):
        pair = self.make(users=range(10)).start()
        # nobody else touches the mail of the last four users
        deliverers = [Deliverer(pair.p.cyrus.port['lmtp'], range(6, 10), self.run.seed + k) for k in range(3)]
        for d in deliverers:
            d.start()
        with pair.load(seed=self.run.seed, clients=2, users=6) as b:
            self.watch(self.quick_or(1, 4))
            asked = time.monotonic()
            pair.wait_now()
            self.watch(self.rng.uniform(.1, .5))
            pair.kill('p')
            pair.p.cyrus.kill()
            b.kill()
            for d in deliverers:
                d.join(30)
            # below, the replica is on its own
            pair.promote()
            pair.start_promoted_cyrus()
            there = self.mail_on_replica()
            due = [(i, u) for d in deliverers for when, i, u in d.acknowledged if when < asked]
            late = [(i, u) for d in deliverers for when, i, u in d.acknowledged if when >= asked]
            lost = [x for x in due if x[0] not in there[x[1]]]
            if lost:
                raise Failure(f'{len(lost)} of {len(due)} messages that were applied are lost: {lost[:5]}')
            self.sound()
            pair.accepts_mail()
            kept = sum(i in there[u] for i, u in late)
        return f'{len(due)} messages were due, all there; of {len(late)} acknowledged later {kept} are'

    def sound(self):
        """reads everything, lets Cyrus and the oracle judge; a crash may leave what is nobody's ahead, which quota -f and reconstruct mend"""
        cyrus = self.pair.r.cyrus
        self.pair.sweep()
        cyrus.tool('quota', '-f', check=False)
        ahead = afterlife.ahead(self.pair.r.roots)
        bad = [x for x in cyrus.findings() + cyrus.complaints() if not afterlife.is_half(x) and x not in ahead]
        if bad:
            raise Failure('\n'.join(['Cyrus complains of the promoted store:'] + bad[:8]))
        cyrus.stop()
        found = afterlife.unsound(self.pair.r.roots, quotas_behind=False)
        if found:
            raise Failure('\n'.join([f'the oracle has {len(found)} findings on the promoted store'] + [f'{p}: {w}' for p, w in found[:8]]))
        cyrus.start()

    def promoted(self, kill):
        """a pair in sync, then the replica promoted beside a primary that is gone or that goes on; it has a message of its own"""
        pair = self.make(users=range(4)).start()
        with pair.load(seed=self.run.seed):
            self.watch(1)
        pair.wait_now()
        if kill:
            pair.kill('p')
        said = pair.promote().stdout
        if kill == ('the old primary was connected until now' in said):
            raise Failure(f'promote: {said}')
        pair.start_promoted_cyrus()
        pair.accepts_mail()
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            l.deliver(['u00000'], imap.message(self.rng, 'split-brain'))
        return pair

    def refused(self, pair):
        """the old primary, running, cannot reach the store of the new one, and learns that it was replaced"""
        at_rest = processes.until(lambda: self.still(pair.r.roots), 20, 'the new primary to come to rest')
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            l.deliver(['u00000'], imap.message(self.rng, 'split-brain-2'))
        done = pair.command(pair.p, 'wait', '--now', '--timeout', '5', expect=None)
        if done.returncode == 0:
            raise Failure('the old primary says that its changes have arrived')
        if not processes.until(lambda: not pair.p.running or self.knows(), 30, quiet=True):
            raise Failure('the old primary does not say within 30 s that it was replaced')
        if diff.signature(pair.r.roots) != at_rest:
            raise Failure('the old primary has changed the store of the new one')
        if pair.status('r').get('role') != 'primary':
            raise Failure(f"the new primary is one no more: {pair.status('r')}")
        return f'wait: exit {done.returncode}' + ('' if done.returncode == TRY_AGAIN else f': {done.stderr.splitlines()[:1]}')

    @scenario('the old primary is refused when it comes back')
    def fenced_later(self):
        pair = self.promoted(kill=True)
        pair.start_daemon('p')
        return self.refused(pair)

    @scenario('the old primary is refused while it is still at work, and promote tells that it is')
    def fenced_at_once(self):
        return self.refused(self.promoted(kill=False))

    @scenario('the old primary stays refused after a restart')
    def fenced_for_good(self):
        pair = self.promoted(kill=False)
        self.refused(pair)
        pair.kill('p')
        pair.start_daemon('p')
        return self.refused(pair)

    @scenario('the old primary comes back as a replica, and back again as the primary; what only it had is kept aside')
    def fail_back(self):
        pair = self.promoted(kill=True)
        pair.p.daemon = None
        pair.demote()
        with pair.load(seed=self.run.seed + 1):              # on r, which is the primary now
            pair.wait_now()
        self.judge()
        pair.r.cyrus.tool('quota', '-f', check=False)
        before = pair.sweep()
        pair.stop_primary_cyrus()
        pair.compare_trees()
        pair.promote()
        pair.start_promoted_cyrus()
        pair.compare_imap(before)
        pair.accepts_mail()
        pair.demote()
        self.judge()
        if not self.kept_aside(b'Subject: message split-brain\r'):
            raise Failure('the message that only the old primary had is nowhere to be found')

    @scenario('a partition goes at once: the replica keeps its own, over a promotion and a restart, until it is told to go on')
    def braked(self):
        pair = self.make(store=['--users', 12, '--messages', 3000, '--median', 600]).start(cyrus=False)
        partition = pair.p.cyrus.dir + '/part1/uuid'
        there = partition.replace(pair.p.cyrus.dir, pair.r.cyrus.dir, 1)

        def count():
            return sum(len(files) for _, _, files in os.walk(there))

        def is_paused():
            return pair.r.running and pair.status('r').get('state') == 'paused'

        def told():
            return pair.status('p')['replicas'][0]

        def holds(when):
            processes.until(is_paused, 60, f'a replica that is paused {when}')
            if count() != before:
                raise Failure(f'{when}: of {before} files there are {count()}')

        def refuses(when):
            done = pair.command(pair.r, 'promote', expect=(UNAVAILABLE,))
            if 'mailsync resume' not in done.stderr:
                raise Failure(f'{when}: promote says {done.stderr}')
        before = count()
        os.rename(partition, pair.p.cyrus.dir + '/away')
        holds('when all was removed')
        processes.until(lambda: 'mailsync resume' in told().get('pausedBecause', '') and told()['state'] == 'paused', 15, 'a primary that tells why')
        done = pair.command(pair.r, 'verify', expect=(TRY_AGAIN,))
        if 'is paused: ' not in done.stderr or 'mailsync resume' not in done.stderr:
            raise Failure(f'verify says {done.stderr}')
        refuses('with a daemon')
        holds('after a promotion that was refused')
        pair.restart('r')
        holds('after a restart')
        pair.kill('r')
        refuses('without a daemon')
        pair.start_daemon('r')
        holds('after kill -9')
        pair.stop_daemon('p')                                # its disk had its log as well
        shutil.rmtree(pair.p.state + '/journal')
        for file in glob.glob(pair.p.state + '/catalogue*'):
            os.unlink(file)
        pair.start_daemon('p')
        processes.until(lambda: any('not comparing with the primary' in x for x in pair.r.log_tail(30)), 30, 'a replica that is not compared')
        holds('beside another log')
        pair.restart('r')
        pair.command(pair.r, 'resume')                       # at once: it has not come to what is held yet
        pair.wait_now()
        if count():
            raise Failure(f'{count()} files are left after resume')
        processes.until(lambda: told()['state'] == 'connected' and 'pausedBecause' not in told(), 15, 'a primary that tells that it goes on')
        return f'{before} files'

    @scenario('a partition is lost: the copy is promoted as it was, without the removals, with a daemon and without')
    def discarded(self):
        for kill in (False, True):
            pair = self.make(store=['--users', 12, '--messages', 3000, '--median', 600]).start(cyrus=False)
            before = diff.signature(pair.r.roots)
            partition = pair.p.cyrus.dir + '/part1/uuid'
            os.rename(partition, pair.p.cyrus.dir + '/away')
            processes.until(lambda: pair.status('r').get('state') == 'paused', 60, 'a replica that is paused')
            pair.kill('p')
            if kill:
                pair.kill('r')
            done = pair.command(pair.r, 'promote', expect=(UNAVAILABLE,))
            if 'promote --discard-held' not in done.stderr:
                raise Failure(done.stderr)
            pair.promote('--discard-held')
            if diff.signature(pair.r.roots) != before:
                raise Failure('the store is not as it was before the partition was lost')
            pair.start_promoted_cyrus()
            pair.demote()
            self.judge()
            pair.close()

    @scenario('a root that is moved away under the daemon ends it, and is told')
    def moved_root(self):
        pair = self.make(users=range(2)).start()
        pair.stop_primary_cyrus()
        root = pair.p.roots['partition-default']
        os.rename(root, root + '.moved')
        done = pair.command(pair.p, 'wait', '--now', expect=(UNAVAILABLE,))
        if 'is not there any more' not in done.stderr + '\n'.join(pair.p.log_tail(10)):
            raise Failure(done.stderr)
        code = processes.until(lambda: pair.p.daemon.poll(), 20, 'the end of the daemon')
        if code != CONFIGURATION:
            raise Failure(f'the daemon ended with {code}')
        os.rename(root + '.moved', root)
        pair.start_daemon('p')
        pair.wait_now()
        self.judge()

    @scenario('a primary that was replaced is made none again by init')
    def no_way_around(self):
        pair = self.promoted(kill=False)
        self.refused(pair)
        pair.kill('p')
        for *command, status in (
                ('init', '--role', 'primary', USAGE), ('check', CONFIGURATION), ('resume', USAGE), ('promote', USAGE)):
            done = pair.command(pair.p, *command, expect=(status,))
            if 'was replaced' not in done.stderr or 'mailsync init --role replica' not in done.stderr:
                raise Failure(f'{command}: {done.stderr}')
        pair.start_daemon('p')
        told = pair.command(pair.p, 'status').stdout
        if 'mailsync init --role replica' not in told:
            raise Failure(f'status: {told}')
        return self.refused(pair)

    def kept_aside(self, ident):
        p = self.pair.p
        for top in (p.state, *(root + '/.mailsync' for root in p.roots.values())):
            for d, _, names in os.walk(top):
                for path in (f'{d}/{name}' for name in names):
                    if os.path.isfile(path):
                        with open(path, 'rb') as f:
                            if ident in f.read(4096):
                                return path
        return None

    def knows(self):
        """the word of it, in its status or its log"""
        status = self.pair.command(self.pair.p, 'status', '--json', expect=None).stdout
        return re.search('refus|fence|depos|epoch (is )?(lower|behind|old)', status + '\n'.join(self.pair.p.log_tail(40)), re.I)

    @staticmethod
    def still(roots):
        """the signature of a store that did not change for a moment"""
        before = diff.signature(roots)
        time.sleep(.3)
        return before if before == diff.signature(roots) else None

    @scenario('a promotion without a primary in sight, after a restart of the replica')
    def alone(self):
        pair = self.make(users=range(4)).start()
        with pair.load(seed=self.run.seed):
            self.watch(1)
        pair.wait_now()
        before = pair.sweep()
        pair.kill('p')
        pair.p.cyrus.kill()
        pair.restart('r')
        pair.promote()
        pair.start_promoted_cyrus()
        pair.compare_imap(before)
        pair.accepts_mail()
