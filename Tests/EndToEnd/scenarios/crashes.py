"""Daemons killed with -9 at any moment, under load, on either side and on both; and ended politely. At each kill the replica
could be all that is left: a copy of it as it is then is promoted and judged, while the pair lives on."""
import contextlib
import glob
import os

from lab import afterlife
from pair import Failure
from runner import scenario

from .common import PairGroup, told
from .power import idents
from .promotion import Deliverer

JUDGED_PATIENCE = 3600                   # seconds: KILLS=200 take ten minutes, on a busy machine three times that


class Crashes(PairGroup):
    """crashes"""

    def before(self):
        self.mail, self.busy, self.kills, self.judged, self.looked_for = None, None, 0, 0, 0

    # ---- what a kill leaves
    def due(self):
        """idents of the messages that are to be there from now on, all that were acknowledged"""
        if not self.mail.is_alive():
            raise EOFError('lmtpd dropped the one who delivers')
        known = list(self.mail.acknowledged)
        self.pair.wait_now(level='flushed')
        return [ident for _, ident, _ in known]

    def kill(self, sides, known=()):
        for s in sides:
            self.pair.kill(s)
        self.kills += 1
        self.judge_promoted(known)

    def judge_promoted(self, known, spoil=lambda roots: None, excused=lambda: ()):
        """the replica as it is at this moment is, once promoted, a store that the oracle and Cyrus call sound, and has what is `known`"""
        side = self.pair.r
        with afterlife.copied(side) as copy, self.busy.paused() if self.busy else contextlib.nullcontext():
            roots = afterlife.roots_in(copy, side)
            done = afterlife.promote(self.pair, side, copy)
            if done.returncode or 'not as on the old primary' in done.stdout:
                raise Failure(f'promote after kill {self.kills}: exit {done.returncode}: {(done.stdout + done.stderr)[-900:]}')
            spoil(roots)                                     # not before: promote applies the newest batches once more
            there = shown(roots) if known else set()
            lost = [x for x in known if x not in there]
            bad = complaints(side, copy)
        if bad:
            excuses = excused()
            bad = [x for x in bad if x not in excuses]
        if lost:
            bad.insert(0, f'{len(lost)} of {len(known)} messages that were flushed are lost: {lost[:5]}')
        if bad:
            raise Failure('\n'.join([f'the replica of kill {self.kills}, promoted, is no sound store: {len(bad)} findings'] + bad[:12] + done.stdout.splitlines()[:1]))
        self.judged += 1
        self.looked_for += len(known)

    def left_by_cyrus(self):
        """the same, word for word, of the primary, which is as the Cyrus that was killed has left it"""
        with afterlife.copied(self.pair.p) as copy:
            return complaints(self.pair.p, copy)

    def told(self, changes=''):
        looked = f', {self.looked_for} messages looked for' if self.mail else ''
        if self.mail and not self.looked_for:
            raise RuntimeError('no message was acknowledged in time')
        return f'{self.kills} kills, {self.judged} trees judged{looked}' + ('; ' + changes if changes else '')

    def portions(self, largest):
        """KILLS in portions, each with a pair of its own: what there is to judge grows with every change"""
        for k in range(0, self.run.kills, largest):
            self.drop()
            yield min(largest, self.run.kills - k)

    # ---- kills
    def kill_some(self, kills, *turns):
        """kills in turn one side or both, some right after their start, and sees that things move on each time"""
        for k in range(kills):
            sides = turns[k % len(turns)]
            self.watch(self.rng.uniform(.2, 1.2))
            self.kill(sides, self.due() if self.mail and k % 2 == 0 else ())
            for s in self.rng.sample(sides, len(sides)):
                self.pair.start_daemon(s)
                if self.rng.random() < .3:                   # again, while it still finds its place
                    self.kill(s)
                    self.pair.start_daemon(s)
            self.pair.wait_now()

    @contextlib.contextmanager
    def delivering(self):
        """mail for the last two users, whom the load leaves alone"""
        self.mail = Deliverer(self.pair.p.cyrus.port['lmtp'], range(8, 10), self.run.seed + self.kills, pause=.1)
        self.mail.start()
        try:
            yield
        finally:
            self.mail.stop()

    def under_load(self, *turns):
        changes = []
        for kills in self.portions(25):
            self.make(users=range(10)).start()
            with self.delivering(), self.pair.load(seed=self.rng.randrange(10**6), users=8, rate=80) as b:
                self.kill_some(kills, *turns)
            changes.append(told(b))
            self.judge()
        return self.told(', '.join(changes))

    @scenario('the daemon of the primary killed with -9 while clients are at work', patience=JUDGED_PATIENCE)
    def primary(self):
        return self.under_load('p')

    @scenario('the daemon of the replica killed with -9 while clients are at work', patience=JUDGED_PATIENCE)
    def replica(self):
        return self.under_load('r')

    @scenario('both daemons killed with -9 while clients are at work', patience=JUDGED_PATIENCE)
    def both(self):
        return self.under_load('pr', 'p', 'r')

    @scenario('daemons killed with -9 in a storm', patience=JUDGED_PATIENCE)
    def in_a_storm(self):
        changes = []
        for kills in self.portions(10):
            self.make(store=['--users', 20, '--messages', 1000, '--median', 1500]).start(cyrus=False)
            with self.pair.storm(rate=200, seed=self.rng.randrange(10**6)) as self.busy:
                self.kill_some(kills, 'p', 'r', 'pr')
            changes.append(told(self.busy))
            self.judge()
        return self.told(', '.join(changes))

    @scenario('a message that is missing in a promoted replica, and a bit that is not right in an index, are found out')
    def spoiled(self):
        self.make(users=range(10)).start()
        with self.delivering():
            self.watch(1)
            known = self.due()
        self.judge_promoted(known)
        for spoil, proofs in ((lose, ('the oracle: ', 'reconstruct -n: ', ' are lost: ')), (flip, ('the oracle: ', 'reconstruct -n: '))):
            try:
                self.judge_promoted(known, spoil)
            except Failure as e:
                if missing := [x for x in proofs if x not in str(e)]:
                    raise Failure(f'{spoil.__name__}: {missing} are missing: {e}') from e
            else:
                raise Failure(f'{spoil.__name__}: nothing was found')

    @scenario('killed with -9 right after a change, and nothing changes any more')
    def last_change(self):
        pair = self.make(users=range(4)).start()
        for s in 'prp':
            with pair.load(seed=self.rng.randrange(10**6)):
                self.watch(.5)
            pair.kill(s)                                     # without a wait: it may know of the last changes or not
            pair.start_daemon(s)
            self.judge()

    @scenario('daemons restarted while clients are at work')
    def restarts(self):
        self.make(users=range(10)).start()
        with self.pair.load(seed=self.run.seed) as b:
            for s in 'pr' * self.quick_or(1, 3):
                self.watch(.5)
                self.pair.restart(s)
            self.pair.wait_now()
        self.judge()
        return told(b)

    def is_held_back(self, difference):
        """a database that the dead Cyrus left unclean, and that nobody has opened since, is not shipped over a good one:
        status tells of it"""
        alarms = self.pair.status('p')['capture']['alarms']
        why = 'left by a writer that died', 'its writer died'
        return any(a['path'] == difference.path and a['why'].startswith(why) for a in alarms)

    @scenario('Cyrus killed with -9 on the primary, and started again', patience=JUDGED_PATIENCE)
    def cyrus(self):
        for kills in self.portions(25):
            pair = self.make(users=range(10)).start()
            for k in range(kills):
                with self.delivering(), pair.load(seed=self.rng.randrange(10**6), users=8) as b:
                    self.watch(self.rng.uniform(.3, 1.2))
                    known = self.due() if k % 2 == 0 else ()
                    pair.p.cyrus.kill()
                    self.kills += 1
                    b.kill()
                    self.judge_promoted(known, excused=self.left_by_cyrus)
                pair.p.cyrus.start()
                # a crash leaves quotas ahead of their mailboxes; quota -f mends it, and stumbles over a *.NEW that was left
                pair.p.cyrus.tool('quota', '-f', check=False)
                self.judge(ignore=self.is_held_back)
        return self.told()


def complaints(side, copy):
    return [f'the oracle: {p}: {w}' for p, w in afterlife.findings(side, copy)] + [f'reconstruct -n: {x}' for x in afterlife.reconstructed(side, copy)]


def shown(roots):
    """idents of the messages that an index has"""
    ahead = afterlife.ahead(roots).values()
    return idents(roots) - (idents({f'partition-{path}': path for path in ahead}) if ahead else set())


def lose(roots):
    """a message"""
    os.unlink(glob.glob(roots['partition-default'] + '/uuid/*/*/*/1.')[0])


def flip(roots):
    """a bit of the first record of an index"""
    index = glob.glob(roots['partition-default'] + '/uuid/*/*/*/1.')[0][:-len('1.')] + 'cyrus.index'
    with open(index, 'r+b') as f:
        f.seek(200)
        b = f.read(1)[0]
        f.seek(200)
        f.write(bytes([b ^ 1]))
