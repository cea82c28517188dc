"""Where Cyrus puts things besides its usual places, and what a file is besides its content."""
import contextlib
import os
import random
import shutil
import subprocess

from lab import imap
from pair import CONFIGURATION, Failure
from runner import scenario

from .common import PairGroup


class Places(PairGroup):
    """places"""

    def deliver(self, users, count):
        rng = random.Random(self.run.seed)
        with imap.Lmtp(self.pair.p.cyrus.port['lmtp']) as l:
            for user in users:
                for i in range(count):
                    l.deliver([imap.user(user)], imap.message(rng, f'place-{user}-{i}', 5000))

    @scenario('an archive partition: messages move there, and are removed there')
    def archive(self):
        archive = {'archive_enabled': 'yes', 'archive_after': '0', 'archivepartition-default': '{dir}/arc1', 'archivepartition-second': '{dir}/arc2'}
        pair = self.make(users=range(4), options=archive).start()
        self.deliver(range(4), 5)
        pair.wait_now()
        pair.p.cyrus.tool('cyr_expire', '-A', '0')
        moved = sum(x[:-1].isdigit() for _, _, names in os.walk(pair.p.roots['archivepartition-default']) for x in names)
        if not moved:
            raise Failure('nothing was archived')
        pair.wait_now()
        self.deliver(range(4), 2)
        with imap.Imap(pair.p.cyrus.port['imap'], imap.user(1)) as s:
            s.enter('INBOX')
            s.on('1:3', 'STORE', '+FLAGS.SILENT', '(\\Deleted)')
            s.say('EXPUNGE')
        pair.p.cyrus.tool('cyr_expire', '-X', '0', '-A', '0')
        pair.compare_trees(patience=60)
        pair.stop_daemon('p')
        pair.command(pair.r, 'check', '--store', timeout=120)
        return f'{moved} messages archived'

    @contextlib.contextmanager
    def unmounted(self, side):
        """the partition of `side` as its mount point is, with what an installation, or a Cyrus that has started, makes there"""
        part = side.roots['partition-default']
        os.rename(part, part + '.away')
        for path in (part, part + '/a', part + '/stage.'):
            side.cyrus.own_directory(path, 0o755)
        open(part + '/a/stray', 'w').close()
        side.cyrus.own(part + '/a/stray')
        yield part
        shutil.rmtree(part)
        os.rename(part + '.away', part)

    def refused(self, side, subcommand, word='is another directory'):
        said = self.pair.command(side, subcommand, expect=(CONFIGURATION,)).stderr
        part = side.roots['partition-default']
        if f'{part} {word}' not in said or 'mounted' not in said:
            raise Failure(f'{subcommand} says: {said}')
        return said

    @scenario('a replica whose partition is not mounted is not followed and not promoted')
    def not_mounted(self):
        pair = self.make(users=range(2)).start()
        self.deliver([0], 2)
        pair.wait_now()
        # a root that came since the seed, or a state directory of an earlier version: known from the next start on
        pair.stop_daemon('r')
        os.unlink(pair.r.state + '/roots')
        pair.start_daemon('r')
        pair.stop_daemon('r')
        with self.unmounted(pair.r):
            for subcommand in ('check', 'run', 'promote'):
                self.refused(pair.r, subcommand)
        pair.start_daemon('r')
        self.deliver([1], 2)
        self.judge()

    @scenario('a primary whose partition is not mounted does not tell that all was removed')
    def not_mounted_primary(self):
        pair = self.make(users=range(2)).start()
        self.deliver([0], 2)
        pair.wait_now()
        pair.stop_daemon('p')
        with self.unmounted(pair.p) as part:
            for subcommand in ('check', 'run'):
                self.refused(pair.p, subcommand)
            shutil.rmtree(part)
            for subcommand in ('check', 'run'):
                self.refused(pair.p, subcommand, 'is not there')
            self.refused(pair.p, 'resume', 'is not there')
            pair.p.cyrus.own_directory(part, 0o755)
        pair.start_daemon('p')
        self.deliver([1], 2)
        self.judge()

    @scenario('a partition that was moved to another disk is taken after resume on the primary, and compared on the replica')
    def moved(self):
        pair = self.make(users=range(2)).start()
        self.deliver([0], 2)
        pair.wait_now(level='applied')
        for side in (pair.p, pair.r):
            pair.stop_daemon(side)
            part = side.roots['partition-default']
            os.rename(part, part + '.old')
            subprocess.run(['cp', '-a', part + '.old', part], check=True)
            self.refused(side, 'run')
            if side is pair.p:
                said = pair.command(side, 'resume').stdout
                if part not in said:
                    raise Failure(f'resume says: {said}')
            else:
                self.refused(side, 'resume')
                pair.seed('--overwrite')
            pair.command(side, 'check')
            pair.start_daemon(side)
        self.deliver([1], 2)
        self.judge()

    @scenario('a replica whose partition is taken away while it runs ends, and says why')
    def taken_away(self):
        pair = self.make(users=range(2)).start()
        self.deliver([0], 2)
        pair.wait_now()
        with self.unmounted(pair.r):
            if pair.r.daemon.wait(60) != CONFIGURATION:
                raise Failure(f'exit {pair.r.daemon.returncode}')
            if not any('is another directory than when this began' in x for x in pair.r.log_tail()):
                raise Failure('\n'.join(pair.r.log_tail()))
        pair.start_daemon('r')
        self.deliver([1], 2)
        self.judge()

    @scenario('partitions that are one file system on the primary and two on the replica: what Cyrus has linked is copied')
    def two_disks(self):
        pair = self.make(users=range(5))
        with self.small_disk(pair.r, pair.r.roots['partition-default']):
            pair.start()
            both = [imap.user(0), imap.user(4)]              # the last one lives on the second partition
            with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
                for i in range(3):
                    l.deliver(both, imap.message(random.Random(i), f'both-{i}', 5000))
            linked = {os.stat(f'{d}/{n}').st_ino for d, _, names in os.walk(pair.p.roots['partition-default']) for n in names}
            linked &= {os.stat(f'{d}/{n}').st_ino for d, _, names in os.walk(pair.p.roots['partition-second']) for n in names}
            if len(linked) < 3:
                raise Failure('Cyrus has linked nothing between the partitions')
            pair.compare_trees(patience=30)
            pair.command(pair.p, 'verify')
            pair.stop_daemon('r')
            pair.seed('--overwrite')
            pair.start_daemon('r')
            self.judge()
        return f'{len(linked)} messages'

    @scenario('partitions that are two file systems on the primary: files of one inode number are not one file')
    def one_number(self):
        pair = self.make(users=range(5))
        partitions = [pair.p.roots[x] for x in ('partition-default', 'partition-second')]
        with self.small_disk(pair.p, partitions[0]), self.small_disk(pair.p, partitions[1]):
            pair.start()

            def twice_named(partition):
                found = (os.lstat(f'{d}/{n}') for d, _, names in os.walk(partition) for n in names)
                return {s.st_ino for s in found if s.st_nlink > 1}
            for n in range(20):
                for user in 0, 4:                            # the last one lives on the second partition
                    with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
                        for i in range(5):
                            l.deliver([imap.user(user)], imap.message(self.rng, f'number-{user}-{n}-{i}', 5000))
                    with imap.Imap(pair.p.cyrus.port['imap'], imap.user(user)) as s:
                        s.say('CREATE', imap.quoted(f'INBOX/b{n}'))
                        s.enter('INBOX')
                        s.on('1:*', 'COPY', imap.quoted(f'INBOX/b{n}'))
                same = twice_named(partitions[0]) & twice_named(partitions[1])
                if same:
                    break
            else:
                raise Failure(f'no two linked messages have one inode number: {[sorted(twice_named(x)) for x in partitions]}')
            pair.compare_trees(patience=30)
            pair.stop_daemon('r')
            pair.seed('--overwrite')
            pair.start_daemon('r')
            self.judge()
        return f'{len(same)} numbers'

    @scenario('extended attributes come, change and go')
    def attributes(self):
        pair = self.make(users=range(2)).start()
        self.deliver([0], 2)
        pair.wait_now()
        box = pair.p.cyrus.tool('mbpath', 'user/' + imap.user(0)).split()[-1]
        there = box.replace(pair.p.cyrus.dir, pair.r.cyrus.dir, 1)

        def follows(value):
            pair.wait_now()
            for name in ('1.', 'cyrus.index'):
                found = {k: os.getxattr(f'{there}/{name}', k) for k in os.listxattr(f'{there}/{name}') if k.startswith('user.')}
                if found != ({} if value is None else {'user.note': value}):
                    raise Failure(f'{name}: {found} after {value}')
        for value in (b'one', b'another \x00\xff', None):
            for name in ('1.', 'cyrus.index'):
                if value is None:
                    os.removexattr(f'{box}/{name}', 'user.note')
                else:
                    os.setxattr(f'{box}/{name}', 'user.note', value)
            follows(value)
        pair.compare_trees(patience=60)
