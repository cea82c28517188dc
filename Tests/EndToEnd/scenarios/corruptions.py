"""Hundreds of corruptions of every kind, on either side, with a seed: mailsync verify finds each, calls it right, and heals it."""
import collections
import json
import os
import random
import shutil
import subprocess
import threading

from lab import imap, processes
from lab.spoil import Spoiler
from pair import Failure
from runner import scenario

from .common import PairGroup

DIFFERENT = 1
BYSTANDERS = (14, 15)                                       # users who get mail all the while
ON_REPLICA = ['rot', 'bit', 'late_bit', 'truncate', 'grow', 'missing', 'extra', 'extra_directory', 'missing_directory', 'swapped', 'stale', 'time',
              'mode', 'attribute', 'directory_mode', 'unlinked', 'symlink', 'other_kind']
ON_PRIMARY = ['rot', 'message_bit', 'message_mapped', 'mapped', 'index_bit']
A_ROUND = {'r': 30, 'p': 8}


class Corruptions(PairGroup):
    """corruptions"""

    def prepare(self):
        pair = self.make(users=range(16), store=['--users', 16, '--messages', 1600, '--median', 1500]).start()
        self.settle()
        self.outsiders = [self.mailbox_id(n) for n in BYSTANDERS]
        self.spoilers = {
            letter: Spoiler(side, letter, random.Random(f'{self.run.seed}/{letter}'), self.is_aside, f'{self.where}/older-{letter}')
            for letter, side in (('p', pair.p), ('r', pair.r))}
        self.spoilers['r'].remember()
        self.change()
        return pair

    def settle(self):
        """files for the kinds that Cyrus makes none of"""
        side = self.pair.p
        for n in range(40):
            path = f'{side.cyrus.dir}/conf/note{n}'
            with open(path, 'wb') as f:
                f.write(self.rng.randbytes(6000))
            side.cyrus.own(path)
        there = os.stat(side.cyrus.dir + '/sieve')
        for n in range(12):
            path = f'{side.cyrus.dir}/sieve/link{n}'
            os.symlink(f'target{n}', path)
            os.chown(path, there.st_uid, there.st_gid, follow_symlinks=False)
        self.pair.compare_trees()

    def change(self):
        """so that databases, indexes and quotas have older versions"""
        for n in range(14):
            with imap.Imap(self.pair.p.cyrus.port['imap'], f'u{n:05d}') as s:
                s.say('CREATE', f'INBOX/new{n}')
                s.enter('INBOX')
                for uid in s.uids()[:3]:
                    s.on(uid, 'STORE', '+FLAGS', '(\\Flagged)')
                s.put('INBOX', imap.message(self.rng, f'more {n}'))
        self.pair.compare_trees()

    def mailbox_id(self, n):
        return os.path.basename(self.pair.p.cyrus.tool('mbpath', f'user/u{n:05d}').strip().splitlines()[-1])

    def is_aside(self, path):
        return any(x in path for x in self.outsiders) or any(f'u{n:05d}' in path for n in BYSTANDERS) or path.endswith('deliver.db')

    # ---- verify
    def verify(self, *arguments, expect=(0,)):
        done = self.pair.command(self.pair.p, 'verify', '--json', *arguments, expect=None, timeout=300)
        lines = [json.loads(x) for x in done.stdout.splitlines()]
        findings = [x['finding'] for x in lines if 'finding' in x]
        if done.returncode not in expect:
            raise Failure('\n'.join([f'verify {" ".join(arguments)}: exit {done.returncode}: {done.stderr.strip()[-300:]}']
                                    + [sentence(f) for f in findings[:8]] + [json.dumps(x)[:400] for x in lines if 'end' in x]))
        return findings

    def judge_report(self, expected, found, healing):
        """what was not found, what was found wrongly, what was found that is not there"""
        troubles, left = [], list(range(len(found)))
        for e in expected:
            mine = [n for n, f in enumerate(found) if is_of(e, f) or healing and f['path'] in e.names]
            right = [n for n in mine if found[n]['kind'] in e.kinds and found[n]['side'] == e.side]
            if not right:
                troubles.append(f'{e.what}: {e.path}: not found as {"/".join(e.kinds)} on the {e.side}'
                                + ''.join(f'; {sentence(found[n])}' for n in mine))
            left = [n for n in left if n not in right]
        return troubles + [f'not expected: {sentence(found[n])}' for n in left]

    # ---- a round
    def spoil(self, letter, count):
        """does `count` corruptions at one side"""
        spoiler, expected = self.spoilers[letter], []
        kinds = (ON_PRIMARY if letter == 'p' else ON_REPLICA + (['owner'] if self.run.run_as == 'root' else []))
        for _ in range(count * 3):
            if self.done >= count:
                break
            done = getattr(spoiler, spoiler.rng.choice(kinds))() or []
            expected += done
            self.done += bool(done)
            self.counts.update(e.what for e in done[:1])
        return expected

    def round(self, most):
        pair, expected, touched = self.pair, [], []
        order = [('p', self.rng.random() < .3), ('r', self.rng.random() < .3)]
        for letter, is_down in order:
            if is_down:
                pair.stop_daemon(letter)
            self.spoilers[letter].look(touched)
            self.done = 0
            made = self.spoil(letter, min(A_ROUND[letter], max(0, most - self.total)))
            touched += [p for e in made for p in (e.path, e.path.rsplit('/', 1)[0])]
            # A changed file that the sweep at the start finds is a change like any other, and shipped.
            expected += [e for e in made if not (is_down and letter == 'p' and e.kinds == ('missed',))]
            self.total += self.done
            if is_down:
                pair.start_daemon(letter)
        processes.until(lambda: pair.status('p')['state'] == 'streaming' and any(x['state'] == 'connected' for x in pair.status('p')['replicas']), 30,
                        'a replica that follows', every=.1)
        pair.wait_now()
        self.check(expected, self.verify(expect=(DIFFERENT,)), 'verify')
        found = self.verify('--repair', expect=(DIFFERENT,))
        self.check([e for e in expected if e.kinds != ('missed',)], found, 'verify --repair')
        unhealed = [f for f in found if f['side'] == 'replica' and f['outcome'] != 'healed']
        if unhealed:
            raise Failure('\n'.join(['not healed:'] + [sentence(f) for f in unhealed]))
        self.restore(expected, found)
        left = self.verify()
        if left:
            raise Failure('\n'.join(['found after the repair:'] + [sentence(f) for f in left]))

    def check(self, expected, found, what):
        troubles = self.judge_report(expected, found, 'repair' in what)
        if troubles:
            raise Failure('\n'.join([f'seed {self.run.seed}: {what}: {len(expected)} expected, {len(found)} found, {len(troubles)} wrong'] + troubles[:20]))

    def restore(self, expected, found):
        """the primary's own, by the very command that each finding gives"""
        for e in expected:
            if e.side != 'primary' or 'missed' in e.kinds:
                continue
            mine = [f for f in found if f['path'] == e.path and f.get('restore')]
            if mine:
                done = subprocess.run(['sh', '-c', mine[0]['restore']], capture_output=True, text=True, timeout=60)
                if done.returncode:
                    raise Failure(f"{mine[0]['restore']}: exit {done.returncode}: {done.stderr[-300:]}")
                self.restored += 1
            elif e.path.endswith('cyrus.index'):
                spoiler = self.spoilers['p']
                shutil.copyfile(spoiler.kept.pop(e.path), spoiler.at(e.path))
            else:
                raise Failure(f'{e.what}: {e.path}: no command to restore it')

    @scenario('every kind, on either side, with the daemon up or down, while others get mail: found, called right, healed', patience=2400)
    def all_kinds(self):
        most = int(os.environ.get('CORRUPTIONS', 1000 if self.run.long else 60 if self.run.quick else 200))
        pair = self.prepare()
        self.total, self.restored, self.counts = 0, 0, collections.Counter()
        stop, delivered = threading.Event(), []

        def mail():
            rng = random.Random(self.run.seed)
            while not stop.is_set():
                with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
                    delivered.append(l.deliver([f'u{n:05d}' for n in BYSTANDERS], imap.message(rng, f'm{len(delivered)}')))
                stop.wait(.1)
        postman = threading.Thread(target=mail)
        postman.start()
        try:
            while self.total < most:
                self.round(most)
        finally:
            stop.set()
            postman.join()
        pair.compare_trees(patience=120)
        pair.check_replica()
        pair.fail_over()
        return f'{self.total} corruptions of {len(self.counts)} kinds, {self.restored} files restored on the primary, {len(delivered)} messages meanwhile'


def is_of(e, f):
    return f['path'] == e.path or f['path'] in e.alike or e.below and f['path'].startswith(e.path + '/')


def sentence(f):
    return f"{f['kind']}: {f['side']}: {f['path']}: {f['evidence']}: {f['outcome']}"
