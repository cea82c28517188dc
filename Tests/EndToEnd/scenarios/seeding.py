"""A new replica: seeded at once, seeded while the primary is at work, interrupted, and seeded over an old copy."""
import os
import re
import shutil
import signal
import subprocess
import time

from lab import processes
from pair import CONFIGURATION, UNAVAILABLE, Failure
from runner import Skip, scenario

from .common import PairGroup, told


def files(roots):
    """how many there are, of any kind"""
    return sum(len(names) for root in roots.values() for _, _, names in os.walk(root))


class Seeding(PairGroup):
    """seeding"""

    def store(self, messages):
        return ['--users', max(10, messages // 250), '--messages', messages, '--median', 1500, '--sigma', 1, '--seed', self.run.seed]

    def seeded(self, messages):
        pair = self.make(store=self.store(messages)).start(cyrus=False, seed=False)
        start = time.monotonic()
        pair.seed(timeout=600)
        secs = time.monotonic() - start
        pair.start_daemon('r')
        counts = self.judge()
        return f"{messages} messages, {counts['bytes'] >> 20} MiB in {secs:.1f} s, {messages / secs:.0f} messages/s"

    @scenario('five thousand messages')
    def small(self):
        return self.seeded(5000)

    @scenario('a hundred thousand messages', long=True)
    def large(self):
        return self.seeded(100_000)

    @scenario('while clients are at work')
    def under_load(self):
        pair = self.make(users=range(10)).start(seed=False)
        with pair.load(seed=self.run.seed) as b:
            processes.until(lambda: files(pair.p.roots) > 250, 60, 'some mail on the primary')
            pair.seed()
            pair.start_daemon('r')
            pair.wait_now()
            self.watch(self.quick_or(2, 5))
        self.judge()
        return told(b)

    @scenario('while a storm changes everything')
    def under_storm(self):
        pair = self.make(store=self.store(3000)).start(cyrus=False, seed=False)
        with pair.storm(rate=400, seed=self.run.seed) as b:
            pair.seed()
            pair.start_daemon('r')
            self.watch(self.quick_or(2, 5))
        self.judge()
        return told(b)

    def interrupt(self, attempt, attempts, total):
        """a seed that is killed about that far through; its exit code if it was faster"""
        seed = self.pair.background(self.pair.r, 'seed')
        moment = time.monotonic() + self.rng.uniform(.1, 1.5)
        enough = total * (attempt + 1) // (attempts + 1)
        while seed.poll() is None and files(self.pair.r.roots) < enough and time.monotonic() < moment:
            time.sleep(.005)
        if seed.poll() is None:
            seed.kill()
        code = seed.wait(10)
        if code not in (0, -signal.SIGKILL):
            raise Failure(f'seed: exit {code} before it was killed')
        return code

    @scenario('killed with -9 several times, and resumed')
    def killed(self):
        pair = self.make(store=self.store(self.quick_or(5000, 20_000))).start(cyrus=False, seed=False)
        total, attempts, killed = files(pair.p.roots), self.quick_or(4, 8), 0
        with pair.storm(rate=50, seed=self.run.seed):
            for k in range(attempts):
                if self.interrupt(k, attempts, total) == 0:
                    break
                killed += 1
            pair.seed()
            pair.start_daemon('r')
        self.judge()
        if not killed:
            raise RuntimeError('the seed was too fast to be killed once')
        return f'killed {killed} times'

    @scenario('the primary is killed with -9 meanwhile')
    def primary_killed(self):
        pair = self.make(store=self.store(5000)).start(cyrus=False, seed=False)
        total = files(pair.p.roots)
        seed = pair.background(pair.r, 'seed')
        processes.until(lambda: seed.poll() is not None or files(pair.r.roots) > total // 3, 60, 'a third of the store', every=.005)
        done = seed.poll()
        pair.kill('p')
        pair.start_daemon('p')
        if done is None:
            # it may have waited for the primary, or have asked to be run again
            try:
                done = seed.wait(60)
            except subprocess.TimeoutExpired:
                seed.kill()
                raise Failure('seed hangs after the primary was killed and came back') from None
        if done != 0:
            pair.seed()
        pair.start_daemon('r')
        self.judge()

    @scenario('over an old copy that lacks some files and has others')
    def over_old_copy(self):
        pair = self.make(store=self.store(3000)).start(cyrus=False)
        pair.kill('r')
        with pair.storm(rate=300, secs=3, seed=self.run.seed) as b:
            processes.until(lambda: not b.running, 30, 'the end of the storm')
        self.spoil()
        shutil.rmtree(pair.r.state)
        pair.r.cyrus.own_directory(pair.r.state, 0o700)
        pair.command(pair.r, 'init', '--role', 'replica')
        self.acquaint()
        said = pair.seed('--overwrite').stderr
        moved = re.search(r'(\d+) names .* were moved aside', said)
        if not moved or int(moved[1]) < 3:
            raise Failure(f'a seed over what is spoiled says: {said}')
        pair.start_daemon('r')
        self.judge()

    @scenario('a seed by root leaves nothing of root\'s to the daemon')
    def by_root(self):
        pair = self.make(store=self.store(100)).start(cyrus=False, seed=False)
        if pair.run_as == 'root':
            raise Skip('the daemons run as root here')
        pair.seed(run_as='root')
        foreign = [p for d, _, names in os.walk(pair.r.state) for p in [d, *(f'{d}/{n}' for n in names)] if os.lstat(p).st_uid == 0]
        if foreign:
            raise Failure(f'a seed by root left to root: {foreign}')
        record = pair.r.state + '/replica'
        before = os.stat(record)
        os.chown(record, 0, 0)
        said = pair.command(pair.r, 'check', expect=(CONFIGURATION,)).stderr
        if f'{record}: belongs to root' not in said or 'chown' not in said:
            raise Failure(f'check says: {said}')
        os.chown(record, before.st_uid, before.st_gid)
        said = pair.command(pair.r, 'run', expect=(CONFIGURATION,), run_as='root').stderr
        if 'this is root' not in said or 'runuser -u' not in said:
            raise Failure(f'run as root says: {said}')
        pair.start_daemon('r')
        self.judge()

    @scenario('a seed that never reached the primary makes no earlier copy of what is there')
    def not_reached(self):
        pair = self.make(store=self.store(500)).start(cyrus=False, seed=False)
        pair.stop_daemon('p')
        done = pair.command(pair.r, 'seed', expect=(UNAVAILABLE,))
        if 'Connection refused' not in done.stderr:
            raise Failure(f'a seed that cannot reach the primary says: {done.stderr}')
        mine = pair.r.roots['partition-default'] + '/mine'
        with open(mine, 'w') as f:
            f.write('of somebody else')
        pair.r.cyrus.own(mine)
        pair.start_daemon('p')
        pair.command(pair.r, 'seed', expect=(CONFIGURATION,))
        if not os.path.exists(mine):
            raise Failure('what was there is gone')
        os.unlink(mine)
        pair.seed()
        pair.start_daemon('r')
        self.judge()

    @scenario('a replica whose Cyrus would look for files elsewhere is refused, told why, and can be mended')
    def other_naming(self):
        pair = self.make(store=self.store(300)).start(cyrus=False, seed=False)

        def rewrite(old, new):
            with open(pair.r.cyrus.imapd_conf) as f:
                text = f.read()
            if old not in text:
                raise Failure(f'{pair.r.cyrus.imapd_conf}: no {old!r}')
            with open(pair.r.cyrus.imapd_conf, 'w') as f:
                f.write(text.replace(old, new))
        rewrite('hashimapspool: true', 'hashimapspool: false')
        done = pair.command(pair.r, 'seed', expect=(CONFIGURATION,))
        if 'hashimapspool: yes on the primary, no on the replica' not in done.stderr:
            raise Failure(done.stderr)
        rewrite('hashimapspool: false', 'hashimapspool: true')
        pair.seed()
        rewrite('hashimapspool: true', 'hashimapspool: true\nmboxlist_db_path: ' + pair.r.cyrus.dir + '/conf/elsewhere.db')
        pair.start_daemon('r')
        processes.until(lambda: 'mboxlist_db_path: ' in pair.status('r').get('lastError', {}).get('why', ''), 30, 'a status that tells why it is refused')
        pair.kill('r')
        rewrite('\nmboxlist_db_path: ' + pair.r.cyrus.dir + '/conf/elsewhere.db', '')
        pair.start_daemon('r')
        self.judge()

    @scenario('a replica without a partition of the primary\'s is told which, and can be mended')
    def missing_partition(self):
        pair = self.make(store=self.store(300)).start(cyrus=False, seed=False)
        path = pair.r.cyrus.imapd_conf
        with open(path) as f:
            text = f.read()
        with open(path, 'w') as f:
            f.writelines(line for line in text.splitlines(True) if not line.startswith('partition-second'))
        done = pair.command(pair.r, 'seed', expect=(CONFIGURATION,))
        if 'partition-second on the primary, none on the replica' not in done.stderr:
            raise Failure(done.stderr)
        with open(path, 'w') as f:
            f.write(text)
        pair.seed()
        pair.start_daemon('r')
        self.judge()

    @scenario('Cyrus that runs on the replica is told of: check and seed refuse, status warns')
    def cyrus_there(self):
        pair = self.make(users=range(2)).start()
        pair.stop_daemon('r')
        pair.r.cyrus.start()
        for command in ('check', 'seed'):
            done = pair.command(pair.r, command, expect=(CONFIGURATION,))
            if 'Cyrus runs on this replica' not in done.stderr:
                raise Failure(f'{command}: {done.stderr}')
        pair.start_daemon('r')
        if not pair.status('r').get('warnings'):
            raise Failure('status without a warning')
        pair.r.cyrus.stop()
        if pair.status('r').get('warnings'):
            raise Failure('Cyrus has ended, and status warns of it')

    def acquaint(self):
        """the new replica has a new key, perhaps: the primary learns it"""
        pair = self.pair
        theirs = pair.command(pair.r, 'fingerprint').stdout.strip()
        pair.configure(pair.p, theirs)
        pair.kill('p')
        pair.start_daemon('p')

    def spoil(self):
        """what a bad copy may look like: a message gone, one cut short, one too many, a directory of nobody"""
        roots = self.pair.r.roots
        boxes = sorted(d for d, _, names in os.walk(roots['partition-default'] + '/uuid') if sum(n[:-1].isdigit() for n in names) > 3)
        box = self.rng.choice(boxes)
        messages = sorted(n for n in os.listdir(box) if n[:-1].isdigit())
        os.unlink(f'{box}/{messages[0]}')
        stranger = f'{box}/{messages[1]}'
        os.unlink(stranger)                                  # it may have other names
        for path in (stranger, box + '/99999.', roots['configdirectory'] + '/stray'):
            with open(path, 'wb') as f:
                f.write(b'x' * 100)
            self.pair.r.cyrus.own(path)
        for d in ('0', '0/0', '0/0/00nobody'):
            self.pair.r.cyrus.own_directory(f"{roots['partition-second']}/uuid/{d}", 0o700)
