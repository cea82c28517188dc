#!/usr/bin/env python3
"""The demo: says in plain sentences what happens, shows every command of mailsync's that it runs, and judges.

It stands on the end-to-end tests' own Pair (Tests/EndToEnd/pair.py): two stores, two daemons, exact comparisons.
Started by demo.sh.
"""
import contextlib
import getpass
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'Tests/EndToEnd'))
sys.dont_write_bytecode = True
from lab import diff, imap, instance, processes            # noqa: E402
from lab.background import Background                      # noqa: E402
from pair import Failure, Pair                             # noqa: E402

STORE = os.path.join(os.path.dirname(HERE), 'Tests/EndToEnd/lab/store.py')
WIDTH = 100
USERS = 12
ROUNDS = 3                               # of kill -9
UNAVAILABLE = 69


def say(text=''):
    """a paragraph"""
    line = ''
    for word in text.split():
        if line and len(line) + 1 + len(word) > WIDTH:
            print(line)
            line = ''
        line += (' ' if line else '') + word
    print(line, flush=True)


def title(text):
    title.number += 1
    print(f'\n== {title.number}. {text}', flush=True)


title.number = 0


class Demo(Pair):
    """A Pair that shows what it runs. $D is the directory of the demo."""

    def __init__(self, where, *arguments, **more):
        super().__init__(where, *arguments, **more)
        self.where, self.is_quiet = where, False
        self.p.host, self.r.host = 'mail1', 'mail2'
        self.kills = 0

    @contextlib.contextmanager
    def quietly(self):
        before, self.is_quiet = self.is_quiet, True
        try:
            yield
        finally:
            self.is_quiet = before

    def show(self, side, words, ending=''):
        if not self.is_quiet:
            text = shlex.join(map(str, words)).replace(self.where, '$D')
            print(f'  {side.host}$ mailsync {text}{ending}', flush=True)

    def command(self, side, subcommand, *arguments, **more):
        # Asked over and over while a daemon starts; that is no news.
        polled = subcommand == 'status' and more.get('expect', 1) is None
        if not polled:
            self.show(side, self.argv(side, subcommand, *arguments)[1:])
        done = super().command(side, subcommand, *arguments, **more)
        if not polled and not self.is_quiet:
            lines = done.stdout.splitlines() + done.stderr.splitlines()
            for line in lines[:24]:
                print('    ' + line.replace(self.where, '$D'), flush=True)
        return done

    def start_daemon(self, which, patience=30):
        self.show(self.side(which), self.argv(self.side(which), 'run')[1:], ' &')
        super().start_daemon(which, patience)

    def kill(self, which, number=signal.SIGKILL):
        side = self.side(which)
        print(f'  {side.host}$ kill -9 {side.daemon.pid}    # mailsync', flush=True)
        self.kills += 1
        super().kill(which, number)

    def stop_daemon(self, which, patience=30):
        side = self.side(which)
        print(f'  {side.host}$ kill {side.daemon.pid}    # SIGTERM: it drains and ends', flush=True)
        super().stop_daemon(which, patience)


class Story:
    """What is told, with a Cyrus at both ends or with stores alone."""

    def __init__(self, directory, program, has_cyrus):
        self.has_cyrus, self.directory = has_cyrus, directory
        self.rng = random.Random(2026)
        self.proofs, self.changes = [], 0
        user = instance.OWNER if has_cyrus else getpass.getuser()
        store = None if has_cyrus else ['--users', USERS, '--messages', 1500, '--median', 2500]
        self.pair = Demo(directory + '/pair', program, run_as=user, users=range(USERS), store=store)

    def proved(self, text):
        self.proofs.append(text)
        say('  -> ' + text)

    def tell(self):
        with self.pair as pair:
            self.begin(pair)
            self.seed(pair)
            self.follow(pair)
            self.crash(pair)
            before = self.at_rest(pair)
            self.fail_over(pair, before)
            self.fail_back(pair)

    # ---- the chapters
    def begin(self, pair):
        title('Two hosts')
        if self.has_cyrus:
            say(f'Two Cyrus IMAP installations in $D={pair.where}: p is the mail server (mail1), r is to become its replica '
                f'(mail2). mail1 runs, with {USERS} users and some mail in it. mail2 has an empty store and no Cyrus running.')
        else:
            say(f'Two mail stores in $D={pair.where}: p is that of the mail server (mail1), r is to become its replica (mail2). '
                'There is no Cyrus to be run here (that takes root and the package cyrus-imapd), so a program that keeps '
                "Cyrus's locks and order of writing stands in for its clients.")
        with pair.quietly():
            for side in (pair.p, pair.r):
                side.cyrus.create()
                side.cyrus.own_directory(side.state, 0o700)
            if self.has_cyrus:
                pair.p.cyrus.start()
                imap.make_users(pair.p.cyrus.port['imap'], pair.users)
                self.work(pair, 2)
            else:
                subprocess.run([sys.executable, '-B', STORE, pair.p.cyrus.dir, *map(str, pair.store)], check=True, stdout=subprocess.DEVNULL)
        for side, role in ((pair.p, 'primary'), (pair.r, 'replica')):
            pair.configure(side)
            pair.command(side, 'init', '--role', role)
        prints = {side: pair.command(side, 'fingerprint').stdout.strip() for side in (pair.p, pair.r)}
        for side, other in ((pair.p, pair.r), (pair.r, pair.p)):
            pair.configure(side, prints[other])
        say("Each end's fingerprint goes into the other's mailsync.conf; there is no other trust between them.")
        print(f'  mail2$ cat $D/r/mailsync.conf')
        with open(pair.r.config) as f:
            for line in f:
                print('    ' + line.rstrip().replace(pair.where, '$D'))
        for side in (pair.p, pair.r):
            pair.command(side, 'check')

    def seed(self, pair):
        title('A copy, while mail goes on')
        say('The primary watches its store. The replica fetches a copy while clients are at work on mail1, and follows from there.')
        pair.start_daemon('p')
        with self.load(pair):
            pair.seed()
            pair.start_daemon('r')
            pair.wait_now()
        files, size, messages = self.count(pair.r.roots)
        self.equal(pair, f'after seeding under load: {files} files, {messages} of them messages, {size / 1e6:.1f} MB')

    def follow(self, pair):
        title('One message')
        if self.has_cyrus:
            say('A message is delivered to mail1 over LMTP. "wait --now" returns when all that was written before is in the '
                "replica's store: the time is measured from the delivery's acknowledgement.")
            name = f'demo-{os.getpid()}'
            with imap.Lmtp(pair.p.cyrus.port['lmtp']) as lmtp:
                lmtp.deliver([imap.user(3)], imap.message(self.rng, name))
                start = time.monotonic()
                pair.wait_now()
                spent = time.monotonic() - start
            found = self.find_message(pair.r.roots, f'Subject: message {name}\r\n'.encode())
            if not found:
                raise Failure(f'message {name} is not on the replica')
            print(f'  mail2$ ls -l {found.replace(pair.where, "$D")}')
            self.proved(f'a delivered message was a file on the replica {spent * 1000:.0f} ms later, the start of the command included')
            say('Then clients for some seconds: deliveries, flags, copies, moves, renames, sieve scripts, calendar entries.')
        else:
            say('Changes for some seconds: deliveries, flags, copies, renames, expunges.')
        self.work(pair, 4)
        pair.wait_now()
        for side in (pair.p, pair.r):
            pair.command(side, 'status')

    def crash(self, pair):
        title('Crashes')
        say(f'{ROUNDS} rounds of kill -9 while clients are at work: the replica, the primary, both. Nothing is said to either '
            'before or after but "run".')
        with self.load(pair):
            for ends in ('r', 'p', 'pr')[:ROUNDS]:
                time.sleep(self.rng.uniform(.4, 1))
                for end in ends:
                    pair.kill(end)
                time.sleep(.3)
                for end in ends:
                    pair.start_daemon(end)
                pair.wait_now()
        self.equal(pair, f'after {pair.kills} daemons were killed with -9 under load: the two stores are equal, file by file')

    def at_rest(self, pair):
        title("Before the fail-over: the primary's last word")
        if not self.has_cyrus:
            self.equal(pair, 'at rest: the two stores are equal')
            return None
        say('All that IMAP shows of mail1 is written down: every mailbox, flag, date, quota and the digest of every message. Then its Cyrus stops.')
        before = pair.sweep()
        pair.stop_primary_cyrus()
        pair.wait_now()
        self.equal(pair, 'with Cyrus stopped: the two stores are equal')
        counts = pair.check_replica()
        self.proved('every checksum, record and count in the replica\'s store was recomputed from the files: no finding'
                    + (f' in {counts["mailboxes"]} mailboxes' if 'mailboxes' in counts else ''))
        return before

    def fail_over(self, pair, before):
        title('Fail-over')
        say('mail1 is gone. mail2 becomes the primary, and its Cyrus starts.' if self.has_cyrus else 'mail1 is gone. mail2 becomes the primary.')
        pair.stop_daemon('p')
        pair.promote()                   # from here on pair.primary is mail2, and pair.replica mail1
        if not self.has_cyrus:
            return
        print('  mail2$ systemctl start cyrus-imapd    # as it were', flush=True)
        pair.start_promoted_cyrus()
        pair.compare_imap(before)
        boxes = [v for v in before.values() if isinstance(v, dict)]
        messages = sum(len(v['messages']) for v in boxes)
        self.proved(f'mail2 shows over IMAP what mail1 showed: {len(boxes)} mailboxes, {messages} messages with flags, dates and content')
        findings = pair.primary.cyrus.findings() + pair.primary.cyrus.complaints()
        if findings:
            raise Failure('Cyrus complains of the promoted store:\n' + '\n'.join(findings[:8]))
        self.proved('reconstruct -n, quota -f -n and the syslog of Cyrus on mail2: no complaint')
        pair.accepts_mail()
        self.proved('mail2 accepts new mail')

    def fail_back(self, pair):
        title('And back')
        say('mail1 returns as a replica of mail2, where changes go on. It has an old store, so --overwrite says that this is '
            'meant; only differences travel, and what mail2 does not have is moved aside, not deleted.')
        pair.command(pair.replica, 'init', '--role', 'replica')
        with self.load(pair):
            pair.seed('--overwrite')
            pair.start_daemon(pair.replica)
            pair.wait_now()
        self.equal(pair, 'mail1 is an exact replica of mail2 now, after a seed over its old store under load')
        for side in (pair.primary, pair.replica):
            pair.command(side, 'status')

    # ---- what the chapters are made of
    @contextlib.contextmanager
    def load(self, pair):
        """changes to the primary's store for the time of the block"""
        seed = self.rng.randrange(10 ** 6)
        if self.has_cyrus:
            with pair.load(seed=seed, rate=100) as b:
                yield
            self.changes += b.summary['operations']
        else:
            for partition in pair.primary.cyrus.partitions.values():
                os.makedirs(partition + '/stage.', exist_ok=True)      # as Cyrus does; it is not shipped
            with Background('storm.py', pair.primary.cyrus.dir, '--rate', 100, '--secs', 600, '--seed', seed, '--no-fsync') as b:
                yield
                self.changes += b.stop()['operations']

    def work(self, pair, seconds):
        with self.load(pair):
            time.sleep(seconds)

    def equal(self, pair, text):
        with pair.quietly():
            pair.compare_trees()
        self.proved(text)

    @staticmethod
    def count(roots):
        files = [(p, s) for p, (_, s) in diff.scan(roots).items() if not os.path.isdir(p) and s.st_mode & 0o170000 == 0o100000]
        return len(files), sum(s.st_size for _, s in files), sum(diff.is_message(p) for p, _ in files)

    @staticmethod
    def find_message(roots, line):
        newest = sorted(((s.st_mtime_ns, path) for p, (path, s) in diff.scan(roots).items() if diff.is_message(p)), reverse=True)
        for _, path in newest[:50]:
            with open(path, 'rb') as f:
                if line in f.read(4096):
                    return path
        return None


def main():
    program = os.path.abspath(os.environ['MAILSYNC'])
    has_cyrus = os.geteuid() == 0 and instance.installed()
    if os.geteuid() == 0 and not has_cyrus:
        print('demo: as root it needs Cyrus (Debian: make deps); as another user it runs without', file=sys.stderr)
        return UNAVAILABLE
    if not has_cyrus:
        # Whatever wants to know the store's account gets ours.
        me, real = getpass.getuser(), processes.account
        processes.account = lambda name=None: real(me)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    processes.adopt_orphans()
    start = time.monotonic()
    directory = tempfile.mkdtemp(prefix='mailsync-demo.')
    os.chmod(directory, 0o755)
    copy = directory + '/mailsync'       # a build meanwhile does no harm
    shutil.copyfile(program, copy)
    os.chmod(copy, 0o755)
    story = Story(directory, copy, has_cyrus)
    code = 1
    try:
        story.tell()
        code = 0
    except KeyboardInterrupt:
        print('\ndemo: interrupted', file=sys.stderr)
    except Exception as error:
        print(f'\ndemo: FAILED: {error}', file=sys.stderr)
        if not isinstance(error, Failure):
            import traceback
            traceback.print_exc()
        for line in story.pair.evidence():
            print('  ' + line, file=sys.stderr)
    finally:
        story.pair.close()
        processes.end_offspring()
        if os.environ.get('KEEP') == '1':
            print(f'demo: kept: {directory}')
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if code == 0:
        print(f'\n== What this proved, in {time.monotonic() - start:.0f} s, with {story.changes} changes made meanwhile')
        for number, proof in enumerate(story.proofs, 1):
            print(f'{number:3}. {proof}')
    return code


if __name__ == '__main__':
    sys.exit(main())
