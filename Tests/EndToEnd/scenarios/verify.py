"""mailsync verify: equal stores are found equal, under any load; each kind of damage is found, called by its name, and healed."""
import datetime
import glob
import json
import os
import shutil
import subprocess
import threading
import time

from lab import imap, processes
from pair import TRY_AGAIN, UNAVAILABLE, USAGE, Failure
from runner import Skip, scenario

from .common import PairGroup, told

EQUAL, DIFFERENT = 0, 1


class Verify(PairGroup):
    """verify"""

    def verify(self, *arguments, side='p', expect=(EQUAL,), timeout=300):
        """(findings, what was compared); an exit code that is not expected is a Failure"""
        side = self.pair.side(side)
        done = self.pair.command(side, 'verify', '--json', *arguments, expect=None, timeout=timeout)
        lines = [json.loads(x) for x in done.stdout.splitlines()]
        findings = [x['finding'] for x in lines if 'finding' in x]
        if done.returncode not in expect:
            raise Failure('\n'.join([f'verify {" ".join(arguments)}: exit {done.returncode}: {done.stderr.strip()[-300:]}']
                                    + [self.sentence(f) for f in findings[:8]] + [json.dumps(x)[:400] for x in lines if 'end' in x]))
        ends = [x['end'] for x in lines if 'end' in x]
        return findings, ends[0] if ends else None

    def sentence(self, f):
        return f"{f['kind']}: {f['side']}: {f['path']}: {f['evidence']}: {f['outcome']}"

    def prepare(self, users=6, messages=12, **kw):
        pair = self.make(users=range(users), **kw).start()
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            for n in range(messages):
                l.deliver([f'u{n % users:05d}'], imap.message(self.rng, f'a{n}'))
            l.deliver(['u00000', 'u00001', 'u00002'], imap.message(self.rng, 'to all'))
        pair.compare_trees()
        return pair

    def place(self, side, pattern):
        """absolute paths at one end"""
        return sorted(glob.glob(f'{side.cyrus.dir}/{pattern}'))

    def box(self, user, side=None):
        """a user's INBOX"""
        there = self.pair.p.cyrus.tool('mbpath', f'user/{user}').strip().splitlines()[-1]
        return there.replace(self.pair.p.cyrus.dir, (side or self.pair.p).cyrus.dir, 1)

    def name(self, side, path):
        for root, directory in side.roots.items():
            if path.startswith(directory + '/'):
                return f'{root}/{path[len(directory) + 1:]}'
        raise ValueError(path)

    # ---- equal
    @scenario('an equal store, at both depths and from both ends')
    def equal(self):
        pair = self.prepare()
        for side in 'pr':
            for depth in ('metadata', 'content'):
                found, end = self.verify('--depth', depth, side=side)
                if found or not end['files'] or not end['directories']:
                    raise Failure(f'{side}: {depth}: {end}, {[self.sentence(f) for f in found]}')
        here = sum(len(files) for root in ('part1',) for _, _, files in os.walk(f'{pair.p.cyrus.dir}/{root}'))
        if end['files'] < here:
            raise Failure(f'{end["files"]} files compared of {here} in one partition alone')
        for scope in (['--user', 'u00001'], ['--mailbox', 'user/u00001'], ['--mailbox', 'user.u00001'], ['--path', 'configdirectory']):
            found, end = self.verify(*scope)
            if found or not end['files']:
                raise Failure(f'{scope}: {end}')
        for scope in (['--user', 'nobody'], ['--mailbox', 'user/nobody'], ['--mailbox', 'u00001'], ['--path', 'partition-default/nothing']):
            said = pair.command(pair.p, 'verify', *scope, expect=(USAGE,)).stderr
            if scope[1].rsplit('/', 1)[-1] not in said:
                raise Failure(f'{scope}: {said}')
        return f'{end["files"]} files'

    @scenario('depth cyrus: a sound store has no finding, a message that is not its GUID has one')
    def cyrus_depth(self):
        pair = self.prepare(users=3, messages=9)
        found, _ = self.verify('--depth', 'cyrus')
        if found:
            raise Failure('\n'.join(self.sentence(f) for f in found))
        path = self.box('u00000') + '/cyrus.index'
        self.flip(path, 160 + 112 + 20)
        pair.wait_now(patience=30)
        found, _ = self.verify('--depth', 'cyrus', expect=(DIFFERENT,))
        if self.name(pair.p, path) not in [f['path'] for f in found if f['kind'] == 'unsound']:
            raise Failure('\n'.join(['not found:'] + [self.sentence(f) for f in found]))

    @scenario('depth cyrus: a database that was rewritten on the replica with the same content is no difference there, another is')
    def rewritten_database(self):
        pair = self.prepare(users=3, messages=3)
        path = pair.r.cyrus.dir + '/conf/mailboxes.db'
        flat, again = (f'{self.where}/{x}' for x in ('flat', 'again'))
        pair.p.cyrus.own_directory(self.where, 0o755)

        def rewrite(change=lambda text: text):
            pair.r.cyrus.tool('cvt_cyrusdb', path, 'twoskip', flat, 'flat')
            with open(flat, 'rb') as f:
                text = change(f.read())
            with open(flat, 'wb') as f:
                f.write(text)
            pair.r.cyrus.tool('cvt_cyrusdb', flat, 'flat', again, 'twoskip')
            shutil.copyfile(again, path)
            os.unlink(flat)
            os.unlink(again)
        rewrite()
        name = self.name(pair.r, path)
        if [f['path'] for f in self.verify(expect=(DIFFERENT,))[0]] != [name]:
            raise Failure('other bytes are not found at depth content')
        found, _ = self.verify('--depth', 'cyrus')
        if found:
            raise Failure('\n'.join(self.sentence(f) for f in found))
        rewrite(lambda text: text.replace(b'Sent', b'Tens'))
        found, _ = self.verify('--depth', 'cyrus', expect=(DIFFERENT,))
        if ('tampered', name) not in [(f['kind'], f['path']) for f in found]:
            raise Failure('\n'.join(['not found:'] + [self.sentence(f) for f in found]))

    @scenario('depth cyrus: what is unsound on the replica alone is found by the replica too, and a link between partitions by verify')
    def both_ends(self):
        pair = self.prepare(users=3, messages=9)
        message = self.place(pair.r, os.path.relpath(self.box('u00000', pair.r), pair.r.cyrus.dir) + '/[1-9]*.')[0]
        self.flip(message, 300)
        found, _ = self.verify('--depth', 'cyrus', expect=(DIFFERENT,))
        name, kinds = self.name(pair.r, message), {(f['kind'], f['side'], f['path']) for f in found}
        if not {('rot', 'replica', name), ('unsound', 'replica', name)} <= kinds or any(side == 'primary' for _, side, _ in kinds):
            raise Failure('\n'.join(self.sentence(f) for f in found))
        self.verify('--repair', expect=(DIFFERENT,))
        here = self.place(pair.p, os.path.relpath(self.box('u00001'), pair.p.cyrus.dir) + '/[1-9]*.')[0]
        other = pair.p.cyrus.dir + '/part2/uuid/linked'
        os.makedirs(other)
        self.owned(os.path.dirname(other))
        self.owned(other)
        os.link(here, other + '/1.')
        pair.compare_trees()
        self.verify()
        there = other.replace(pair.p.cyrus.dir, pair.r.cyrus.dir, 1) + '/1.'
        shutil.copy2(there, there + 'x')
        self.owned(there + 'x')
        os.rename(there + 'x', there)
        found, _ = self.verify(expect=(DIFFERENT,))
        if len(found) != 1 or 'one file with' not in found[0]['evidence']:
            raise Failure('\n'.join(['not found:'] + [self.sentence(f) for f in found]))
        self.verify('--repair', expect=(DIFFERENT,))
        self.verify()

    @scenario('depth cyrus while clients are at work: no finding')
    def load_cyrus(self):
        pair = self.make(users=range(8)).start()
        with pair.load(seed=self.run.seed) as b:
            deadline = time.monotonic() + self.quick_or(6, 30)
            while time.monotonic() < deadline:
                found, _ = self.verify('--depth', 'cyrus', expect=(EQUAL, TRY_AGAIN))
                if found:
                    raise Failure('\n'.join(['false alarms:'] + [self.sentence(f) for f in found[:8]]))
        self.judge()
        return told(b)

    @scenario('the daemon audits by itself, and status tells of it, after a restart too')
    def scrub(self):
        pair = self.make(users=range(3), settings={'scrub_period': '2s'}).start()

        def proven():
            a = pair.status('p').get('audit', {})
            return a.get('contentProvenSince') and a.get('metadataProvenSince')
        processes.until(proven, 30, 'a round of the audit', every=.1)
        before = pair.status('p')['audit']
        if before['findings']:
            raise Failure(f'{before}')
        pair.restart('p')
        after = pair.status('p')['audit']
        if after['contentProvenSince'] < before['contentProvenSince']:
            raise Failure(f'{before} became {after}')
        self.flip(self.box('u00001', pair.r) + '/cyrus.index', 40)
        processes.until(lambda: pair.status('p')['audit']['findings'], 30, 'a finding of the audit', every=.1)

    @scenario('a directory that the daemon may not read is named, and ends neither verify nor scrub nor daemon')
    def unreadable(self):
        if os.geteuid() != 0 or self.run.run_as == 'root':
            raise Skip('needs root, and daemons that are not')
        pair = self.make(users=range(3), settings={'scrub_period': '2s'}).start()
        lost = f'{pair.p.cyrus.dir}/conf/lost+found'
        pair.p.cyrus.own_directory(lost, 0o700)
        pair.wait_now(patience=30)
        os.chown(lost, 0, 0)
        began = datetime.datetime.now(datetime.timezone.utc).isoformat()

        def proven():
            a = pair.status('p').get('audit', {})
            return min(a.get(x) or '' for x in ('contentProvenSince', 'metadataProvenSince')) > began
        processes.until(proven, 30, 'a round of the audit after the directory was taken away', every=.1)
        for depth in ('metadata', 'content', 'cyrus'):
            found, end = self.verify('--depth', depth, expect=(TRY_AGAIN,))
            if found or end['unfinished'] or not end['unreadable'] or not all('lost+found: Permission denied' in x for x in end['unreadable']):
                raise Failure(f'{depth}: {end}, {[self.sentence(f) for f in found]}')
        return ', '.join(end['unreadable'])

    @scenario("a file of somebody else's that the replica has under the store's owner is found, where it keeps owners")
    def owner(self):
        if self.run.run_as != 'root':
            raise Skip('needs daemons that are root')
        pair = self.prepare(users=2, messages=2)
        path = self.box('u00000') + '/1.'
        os.chown(path, 1, 1)
        pair.wait_now(patience=30)
        self.verify()
        pair.p.cyrus.own(self.box('u00000', pair.r) + '/1.')
        for depth in ('metadata', 'content'):
            found, _ = self.verify('--depth', depth, expect=(DIFFERENT,))
            if [(f['kind'], f['path']) for f in found] != [('tampered', self.name(pair.p, path))]:
                raise Failure(f'{depth}: {[self.sentence(f) for f in found]}')
        self.verify('--repair', expect=(DIFFERENT,))
        self.verify()

    @scenario('without a replica, and without a daemon')
    def unavailable(self):
        pair = self.prepare(users=2, messages=2)
        pair.stop_daemon('r')
        self.verify(expect=(UNAVAILABLE,))
        pair.stop_daemon('p')
        self.verify(expect=(UNAVAILABLE,))

    # ---- under load
    def back_to_back(self, secs, until=None):
        """verifies again and again; each finding is an alarm too many"""
        rounds, deadline = 0, time.monotonic() + secs
        while time.monotonic() < deadline:
            found, end = self.verify(expect=(EQUAL, TRY_AGAIN), timeout=800, *(['--depth', 'metadata'] if rounds % 3 == 2 else []))
            if found:
                raise Failure('\n'.join(['false alarms:'] + [self.sentence(f) for f in found[:8]]))
            if end is None or end['unfinished']:
                raise Failure(f'not finished: {end}')
            rounds += 1
        return rounds

    @scenario('back to back while clients are at work: no finding')
    def load(self):
        pair = self.make(users=range(10)).start()
        with pair.load(seed=self.run.seed) as b:
            rounds = self.back_to_back(self.quick_or(12, 60))
        self.judge()
        return f'{rounds} rounds, ' + told(b)

    @scenario('back to back while clients are at work, with conversations and immediate expunge: no finding')
    def load_conversations(self):
        pair = self.make(users=range(10), options={'conversations': 'yes', 'expunge_mode': 'immediate', 'delete_mode': 'immediate'}).start()
        with pair.load(seed=self.run.seed) as b:
            rounds = self.back_to_back(self.quick_or(10, 60))
        self.judge()
        return f'{rounds} rounds, ' + told(b)

    @scenario('back to back in a storm: no finding')
    def storm(self):
        pair = self.make(store=['--users', 20, '--messages', 2000, '--median', 1500], settings={'removal_brake': 'off'}).start(cyrus=False)
        with pair.storm(rate=self.quick_or(300, 600), seed=self.run.seed) as b:
            rounds = self.back_to_back(self.quick_or(10, 60))
        self.judge()
        return f'{rounds} rounds, ' + told(b)

    def minutes(self, usual):
        return float(os.environ.get('VERIFY_MINUTES', usual)) * 60

    @scenario('back to back for twenty minutes in a storm (VERIFY_MINUTES): no finding', long=True, patience=3000)
    def long_storm(self):
        pair = self.make(store=['--users', 40, '--messages', 8000, '--median', 1500], settings={'removal_brake': 'off'}).start(cyrus=False)
        secs = self.minutes(20)
        with pair.storm(secs=secs + 1200, rate=200, seed=self.run.seed) as b:
            rounds = self.back_to_back(secs)
        self.judge()
        return f'{rounds} rounds in {secs:.0f} s, ' + told(b)

    @scenario('back to back for five minutes (a quarter of VERIFY_MINUTES) in a storm, daemons killed throughout: no finding', long=True, patience=3000)
    def long_killed(self):
        pair = self.make(store=['--users', 40, '--messages', 8000, '--median', 1500], settings={'removal_brake': 'off'}).start(cyrus=False)
        secs, kills, troubles, stop = self.minutes(20) / 4, 0, [], threading.Event()
        completed = []

        def verifies():
            while not stop.is_set():
                try:
                    # On a machine that does other work besides, one takes minutes.
                    found, end = self.verify(expect=(EQUAL, UNAVAILABLE, TRY_AGAIN), timeout=900)
                    troubles.extend(self.sentence(f) for f in found)
                    completed.append(bool(end and not end['unfinished']))
                except Exception as e:
                    troubles.append(str(e))
                stop.wait(.05)
        with pair.storm(secs=secs + 1200, rate=200, seed=self.run.seed) as b:
            t = threading.Thread(target=verifies)
            t.start()
            try:
                deadline = time.monotonic() + secs
                while time.monotonic() < deadline and not troubles:
                    # Now and then in the midst of a verify, now and then after several.
                    time.sleep(self.rng.choice([.3, 1, 3, 8, 20]) * self.rng.uniform(.5, 1.5))
                    killed = self.rng.choice(['p', 'r', 'pr'])
                    for s in killed:
                        pair.kill(s)
                    for s in killed:
                        pair.start_daemon(s)
                    kills += len(killed)
                pair.wait_now(patience=120)
            finally:
                stop.set()
                t.join()
        if troubles:
            raise Failure('\n'.join(troubles[:8]))
        if not any(completed):
            raise Failure('no verify came to its end')
        self.judge()
        self.verify()
        return f'{kills} kills in {secs:.0f} s, {sum(completed)} of {len(completed)} verifies came to their end, ' + told(b)

    @scenario('daemons killed while it runs: no finding')
    def killed(self):
        pair = self.make(users=range(10)).start()
        troubles, stop = [], threading.Event()

        def verifies():
            while not stop.is_set():
                try:
                    found, _ = self.verify(expect=(EQUAL, UNAVAILABLE, TRY_AGAIN))
                    troubles.extend(self.sentence(f) for f in found)
                except Exception as e:
                    troubles.append(str(e))
                time.sleep(.05)
        with pair.load(seed=self.run.seed) as b:
            t = threading.Thread(target=verifies)
            t.start()
            try:
                for k in range(self.run.kills):
                    time.sleep(self.rng.uniform(.5, 1.5))
                    for s in ('p', 'r', 'pr')[k % 3]:
                        pair.kill(s)
                    for s in ('p', 'r', 'pr')[k % 3]:
                        pair.start_daemon(s)
                pair.wait_now()
            finally:
                stop.set()
                t.join()
        if troubles:
            raise Failure('\n'.join(troubles[:8]))
        self.judge()
        self.verify()
        return told(b)

    # ---- damage on the replica
    def flip(self, path, at=None, restore=True):
        st = os.stat(path)
        with open(path, 'r+b') as f:
            at = self.rng.randrange(st.st_size) if at is None else at
            f.seek(at)
            b = f.read(1)
            f.seek(at)
            f.write(bytes([b[0] ^ (1 << self.rng.randrange(8))]))
        if restore:
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

    def owned(self, path):
        st = os.stat(os.path.dirname(path))
        os.chown(path, st.st_uid, st.st_gid, follow_symlinks=False)

    def corruptions(self):
        """(path, expected class, function that does it), each on the replica"""
        r = self.pair.r
        boxes = [self.box(f'u{n:05d}', r) for n in range(6)]
        messages = [self.place(r, os.path.relpath(b, r.cyrus.dir) + '/[1-9]*.') for b in boxes]

        def swap(a, b):
            x, y = open(a, 'rb').read(), open(b, 'rb').read()
            sa, sb = os.stat(a), os.stat(b)
            for p, v, s in ((a, y, sa), (b, x, sb)):
                with open(p, 'r+b') as f:
                    f.truncate(0)
                    f.write(v)
                os.utime(p, ns=(s.st_atime_ns, s.st_mtime_ns))

        def put(path, data=b'what is this\n'):
            with open(path, 'wb') as f:
                f.write(data)
            self.owned(path)

        def older(path):
            with open(path, 'r+b') as f:
                data = f.read()
                f.seek(len(data) // 2)
                f.write(bytes(16))

        def unlink_links():
            path = messages[0][-1]
            shutil.copy2(path, path + 'x')
            self.owned(path + 'x')
            os.rename(path + 'x', path)

        def new_directory():
            d = boxes[5] + '/stray'
            os.mkdir(d)
            self.owned(d)
            put(d + '/1.')
        user_db = self.place(r, 'conf/user/uuid/*/*/*/*.db')
        return [
            (messages[1][0], 'rot', lambda: self.flip(messages[1][0])),
            (boxes[1] + '/cyrus.index', 'rot', lambda: self.flip(boxes[1] + '/cyrus.index', 200)),
            (boxes[1] + '/cyrus.cache', 'rot', lambda: self.flip(boxes[1] + '/cyrus.cache')),
            (r.cyrus.dir + '/conf/mailboxes.db', 'rot', lambda: self.flip(r.cyrus.dir + '/conf/mailboxes.db')),
            (messages[2][0], 'tampered', lambda: self.flip(messages[2][0], restore=False)),
            (messages[3][0], 'tampered', lambda: os.truncate(messages[3][0], 100)),
            (messages[3][1], 'missing', lambda: os.unlink(messages[3][1])),
            (boxes[3] + '/cyrus.header', 'missing', lambda: os.unlink(boxes[3] + '/cyrus.header')),
            (boxes[4] + '/4711.', 'extra', lambda: put(boxes[4] + '/4711.')),
            (boxes[5] + '/stray', 'extra', new_directory),
            (messages[4][0], ('rot', 'tampered'), lambda: swap(messages[4][0], messages[4][1])),
            (messages[5][0], 'tampered', lambda: os.utime(messages[5][0], (1, 1_000_000_000))),
            (messages[5][1], 'tampered', lambda: os.chmod(messages[5][1], 0o640)),
            (boxes[5] + '/cyrus.index', 'tampered', lambda: older(boxes[5] + '/cyrus.index')),
            (boxes[2], 'tampered', lambda: os.chmod(boxes[2], 0o711)),
            (user_db[0], 'tampered', lambda: os.truncate(user_db[0], max(0, os.path.getsize(user_db[0]) - 8))),
            (None, 'tampered', unlink_links),
        ]

    @scenario('each kind of damage on the replica: found, called by its name, healed')
    def damage(self):
        pair = self.prepare(messages=24)
        # a link that goes with the store
        link = pair.p.cyrus.dir + '/conf/msg/link'
        os.symlink('somewhere', link)
        self.owned(link)
        pair.compare_trees()
        kinds = self.corruptions()
        for _, _, do in kinds:
            do()
        there = pair.r.cyrus.dir + '/conf/msg/link'
        if os.path.lexists(there):
            os.unlink(there)
            os.symlink('elsewhere', there)
            self.owned(there)
            kinds.append((there, 'tampered', None))
        found, told = self.verify(expect=(DIFFERENT,))
        by_path = {f['path']: f for f in found}
        troubles = []
        for path, kind, _ in kinds:
            if path is None:
                if not any('one file with' in f['evidence'] for f in found):
                    troubles.append('the broken link was not found')
                continue
            f = by_path.get(self.name(pair.r, path))
            if not f:
                troubles.append(f'{path}: {kind}: not found')
            elif f['kind'] not in kind if isinstance(kind, tuple) else f['kind'] != kind:
                troubles.append(f'{path}: {kind}: ' + self.sentence(f))
        if troubles:
            raise Failure('\n'.join(troubles + ['found:'] + [self.sentence(f) for f in found]))
        healed, _ = self.verify('--repair', expect=(DIFFERENT,))
        if any(f['outcome'] != 'healed' for f in healed):
            raise Failure('\n'.join(self.sentence(f) for f in healed if f['outcome'] != 'healed'))
        _, clean = self.verify()
        if told['directories'] != clean['directories']:
            raise Failure(f'{told["directories"]} directories were compared when some differed, and {clean["directories"]} when none did')
        pair.compare_trees()
        self.judge()
        return f'{len(found)} findings'

    @scenario('what a repair replaces is in the quarantine')
    def quarantine(self):
        pair = self.prepare(users=2, messages=4)
        path = self.box('u00000', pair.r) + '/cyrus.index'
        self.flip(path, 200)
        with open(path, 'rb') as f:
            bad = f.read()
        self.verify('--repair', side='r', expect=(DIFFERENT,))
        pair.compare_trees()
        kept = [p for p in glob.glob(f'{pair.r.state}/quarantine/*/**/cyrus.index*', recursive=True)]
        if not any(open(p, 'rb').read() == bad for p in kept):
            raise Failure(f'the damaged index is not in the quarantine: {kept}')

    # ---- damage on the primary
    @scenario('a bit of a message flips on the primary, behind everybody: told, never shipped')
    def rot_on_primary(self):
        pair = self.prepare(users=3, messages=9)
        boxes = [self.box(f'u{n:05d}') for n in range(3)]
        first, second = (self.place(pair.p, os.path.relpath(b, pair.p.cyrus.dir) + '/[1-9]*.')[0] for b in boxes[:2])
        good = {p: open(p, 'rb').read() for p in (first, second)}
        self.flip(first, 300)
        pair.stop_daemon('p')
        self.flip(second, 300)
        pair.start_daemon('p')
        processes.until(lambda: pair.status('p')['state'] == 'streaming', 30, 'streaming', every=.1)
        pair.wait_now()
        for arguments in ((), ('--repair',)):
            found, _ = self.verify(*arguments, expect=(DIFFERENT,))
            for path in (first, second):
                name = self.name(pair.p, path)
                mine = [f for f in found if f['path'] == name]
                if not mine or mine[0]['kind'] != 'rot' or mine[0]['side'] != 'primary' or not mine[0].get('restore'):
                    raise Failure('\n'.join([f'{name}:'] + [self.sentence(f) for f in found]))
                with open(path.replace(pair.p.cyrus.dir, pair.r.cyrus.dir, 1), 'rb') as f:
                    if f.read() != good[path]:
                        raise Failure(f'{name}: the damage was shipped')
        for path, data in good.items():
            there = path.replace(pair.p.cyrus.dir, pair.r.cyrus.dir, 1)
            subprocess.run(['cp', '-p', there, path], check=True)
        pair.compare_trees()
        self.verify()

    @scenario('a change through a mapping, which raises no event: found as missed, and shipped')
    def mapped(self):
        import mmap
        pair = self.prepare(users=2, messages=4)
        path = pair.p.cyrus.dir + '/conf/user_note'
        with open(path, 'wb') as f:
            f.write(b'a' * 5000)
        self.owned(path)
        pair.compare_trees()
        with open(path, 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
            m[100:110] = b'0123456789'
            m.flush()
        found, _ = self.verify(expect=(DIFFERENT,))
        if [f['kind'] for f in found] != ['missed']:
            raise Failure('\n'.join(['not found as missed:'] + [self.sentence(f) for f in found]))
        pair.compare_trees()
        self.verify()

    # ---- how it is asked
    @scenario('by parts, at a bounded rate, and again and again')
    def options(self):
        pair = self.prepare()
        files = [self.verify('--sample', f'{part}/3')[1]['files'] for part in (1, 2, 3)]
        if len(set(files)) != 1:
            raise Failure(f'each part looks at every name: {files}')
        begun = time.monotonic()
        self.verify('--max-rate', '200K')
        if time.monotonic() - begun < .5:
            raise Failure('more than 200 KB a second were read')
        follow = pair.background(pair.p, 'verify', '--follow', '--json')
        try:
            before = pair.status('p')['captured' if 'captured' in pair.status('p') else 'capture']['batches']
            processes.until(lambda: pair.status('p')['capture']['batches'] > before + 6, 60, 'several rounds')
        finally:
            follow.send_signal(2)
            code = follow.wait(20)
        if code not in (EQUAL, TRY_AGAIN, 130, -2):
            raise Failure(f'verify --follow ended with {code} after SIGINT')

    @scenario('in legacy directories, and with a metadata partition')
    def layouts(self):
        for kw in (dict(options={'mailbox_legacy_dirs': 'yes'}), dict(metapartition=True)):
            self.prepare(**kw)
            found, end = self.verify()
            if found or not end['files']:
                raise Failure(f'{kw}: {[self.sentence(f) for f in found]}')
            there = self.box('u00001', self.pair.r)
            os.unlink(f'{there}/1.')
            found, _ = self.verify('--repair', expect=(DIFFERENT,))
            if [f['kind'] for f in found] != ['missing']:
                raise Failure(f'{kw}: {[self.sentence(f) for f in found]}')
            self.verify()
            self.drop()
