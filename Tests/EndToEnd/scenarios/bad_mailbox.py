"""One bad mailbox never stops the rest: what cannot be read, never rests, or is larger or longer than anybody expects."""
import os
import shutil
import threading
import time

from lab import imap, processes
from lab.instance import OWNER
from pair import Failure
from runner import scenario

from .common import PairGroup

MIB = 1 << 20
PATH_BYTES_MAX = 4000                    # below the root


class BadMailbox(PairGroup):
    """bad mailbox"""

    def prepare(self, **more):
        pair = self.make(users=range(4), **more).start(seed=False)
        self.deliver('u00000', 3)
        self.deliver('u00001', 3)
        self.box = pair.p.cyrus.tool('mbpath', 'user/u00000').strip().splitlines()[-1]
        self.name = os.path.relpath(self.box, pair.p.roots['partition-default'])
        return pair

    def begin(self):
        pair = self.pair
        pair.seed()
        pair.start_daemon('r')
        return pair

    def deliver(self, user, count=1, size=None):
        with imap.Lmtp(self.pair.p.cyrus.port['lmtp']) as l:
            for _ in range(count):
                if l.deliver([user], imap.message(self.rng, f'{user}-{self.rng.random()}', size)) != 1:
                    raise Failure(f'Cyrus refused a message for {user}')

    def there(self, path):
        return path.replace(self.pair.p.cyrus.dir, self.pair.r.cyrus.dir, 1)

    def others_go_on(self, ignore=lambda d: False, patience=30):
        """u00001 gets mail, `wait --now` answers, and all but what is bad is equal"""
        self.deliver('u00001', 2)
        self.pair.wait_now(patience=patience)
        self.pair.compare_trees(patience=patience, ignore=ignore)

    def alarm_about(self, word):
        def told():
            return any(word in str(a) for a in self.pair.status('p').get('capture', {}).get('alarms', []))
        processes.until(told, 20, f'an alarm about {word}')

    def own(self, path):
        self.pair.p.cyrus.own(path)

    @scenario('a message, a file and a directory that the daemon may not read, before the seed and after it')
    def unreadable(self):
        pair = self.prepare()
        bad = set()

        def spoil(number):
            for name in (f'{self.box}/{number}.', f"{pair.p.roots['configdirectory']}/secret{number}", f'{self.box}/closed{number}'):
                if 'closed' in name:
                    os.mkdir(name)
                    with open(f'{name}/x', 'w') as f:
                        f.write('x')
                else:
                    with open(name, 'a') as f:
                        f.write('x')
                os.chown(name, 0, 0)
                os.chmod(name, 0)
                bad.add(os.path.basename(name))
        spoil(901)
        self.begin()

        def is_bad(d):
            return any(part in bad for part in d.path.split('/'))
        self.others_go_on(is_bad)
        spoil(902)
        self.others_go_on(is_bad)
        for word in ('901.', 'secret901', 'closed901', '902.', 'secret902', 'closed902'):
            self.alarm_about(word)
        pair.restart('p')
        self.others_go_on(is_bad)
        # Mended, they are shipped.
        for root, names, files in os.walk(pair.p.cyrus.dir):
            for name in names + files:
                if name in bad:
                    os.chmod(f'{root}/{name}', 0o700)
                    self.own(f'{root}/{name}')
                    if os.path.isdir(f'{root}/{name}'):
                        self.own(f'{root}/{name}/x')
        pair.restart('p')
        processes.until(lambda: not pair.tree_differences(), 30, 'what was mended is there')
        pair.compare_trees()

    @scenario('files that never rest, small, large, and made and removed')
    def restless(self):
        pair = self.prepare()
        done = threading.Event()

        def small():
            n = 0
            while not done.is_set():
                n += 1
                with open(f'{self.box}/restless', 'w') as f:
                    f.write(f'{n}' * 1000)

        def large():
            with open(f'{self.box}/restless.large', 'r+b', buffering=0) as f:
                n = 0
                while not done.wait(.005):                   # two hundred pages a second
                    n += 1
                    os.pwrite(f.fileno(), n.to_bytes(8, 'big') * 512, n * 7919 * 4096 % (20 * MIB))

        def comes_and_goes():
            while not done.is_set():
                with open(f'{self.box}/restless.new', 'w') as f:
                    f.write('x' * 5000)
                os.rename(f'{self.box}/restless.new', f'{self.box}/restless.now')
                os.unlink(f'{self.box}/restless.now')

        for name in ('restless', 'restless.large'):
            with open(f'{self.box}/{name}', 'wb') as f:
                f.truncate(20 * MIB if 'large' in name else 0)
            self.own(f'{self.box}/{name}')
        threads = [threading.Thread(target=t, daemon=True) for t in (small, large, comes_and_goes)]
        for t in threads:
            t.start()
        try:
            self.begin()
            pair.wait_now(patience=60)
            for _ in range(self.quick_or(5, 30)):
                self.deliver('u00001')
                self.deliver('u00000')
                pair.wait_now(patience=30)
                found = [d for d in pair.tree_differences() if 'restless' not in d.path]
                if found:
                    raise Failure(f'{len(found)} differences beside the restless files: {found[0]}')
        finally:
            done.set()
            for t in threads:
                t.join()
        for name in ('restless', 'restless.large', 'restless.now', 'restless.new'):
            if os.path.exists(f'{self.box}/{name}'):
                self.own(f'{self.box}/{name}')
        pair.compare_trees()

    def make_deep(self, top, byte_count):
        """directories in directories from `top` in the mailbox on, and a file in the last, whose path below the root has so many bytes"""
        account = processes.account(OWNER)
        place, left, name = os.open(self.box, os.O_RDONLY), byte_count - len(self.name) - 1, top + b'd' * 200
        while left > 255:
            os.mkdir(name, 0o700, dir_fd=place)
            inner = os.open(name, os.O_RDONLY, dir_fd=place)
            os.close(place)
            os.fchown(inner, account['user'], account['group'])
            place, left, name = inner, left - len(name) - 1, b'd' * 200
        f = os.open(b'f' * left, os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=place)
        os.write(f, b'deep down')
        os.fchown(f, account['user'], account['group'])
        os.close(f)
        os.close(place)

    @scenario('a large file that is rewritten without a pause: the others are late, and not stopped')
    def without_pause(self):
        pair = self.prepare()
        self.begin()
        done, size = threading.Event(), int(os.environ.get('RESTLESS', self.quick_or(16, 64))) * MIB

        def rewrite():
            with open(f'{self.box}/restless.large', 'r+b', buffering=0) as f:
                n = 0
                while not done.is_set():
                    n += 1
                    os.pwrite(f.fileno(), n.to_bytes(8, 'big') * 512, self.rng.randrange(size >> 12) << 12)

        with open(f'{self.box}/restless.large', 'wb') as f:
            f.truncate(size)
        self.own(f.name)
        writer, late = threading.Thread(target=rewrite, daemon=True), []
        writer.start()
        try:
            for _ in range(self.quick_or(3, 20)):
                self.deliver('u00001')
                start = time.monotonic()
                pair.wait_now(patience=60)
                late.append(time.monotonic() - start)
                found = [d for d in pair.tree_differences() if 'restless' not in d.path]
                if found:
                    raise Failure(f'{len(found)} differences beside the restless file: {found[0]}')
        finally:
            done.set()
            writer.join()
        pair.compare_trees(patience=120)
        return f'{size >> 20} MiB; wait --now was answered within {max(late):.1f} s; ' + self.memory(600)

    @scenario('names that are not UTF-8, names of 255 bytes, and paths of 4000 bytes')
    def names(self):
        pair = self.prepare()
        box = os.fsencode(self.box)
        account = processes.account(OWNER)

        def make(number):
            """in the store, as a stranger's script might"""
            odd = [b'\xff\xfe%d' % number, b'\xe9t\xe9%d' % number, b'new\nline%d' % number, b' %d ' % number, b'a\\b"%d' % number,
                   b'n' * 253 + b'%02d' % number, b'-rf%d' % number, '\u65e5\u672c'.encode() + b'%d' % number]
            for name in odd:
                with open(box + b'/' + name, 'wb') as f:
                    f.write(name)
                inner = box + b'/' + name + b'.d' if len(name) < 250 else box + b'/' + name[:-3] + b'.d%d' % number
                os.mkdir(inner)
                with open(inner + b'/f', 'wb') as f:
                    f.write(b'inner')
            self.make_deep(b'%d' % number, PATH_BYTES_MAX)
            for root, names, files, fd in os.fwalk(box):
                os.fchown(fd, *(account[k] for k in ('user', 'group')))
                for name in files:
                    os.chown(name, *(account[k] for k in ('user', 'group')), dir_fd=fd)
        make(1)
        self.begin()
        self.others_go_on()
        make(2)
        self.others_go_on()
        pair.restart('p')
        pair.restart('r')
        make(3)
        self.others_go_on()
        for n in (1, 2):                                     # and away again
            top = os.open(box, os.O_RDONLY)
            shutil.rmtree(b'%d' % n + b'd' * 200, dir_fd=top)
            os.close(top)
            os.unlink(box + b'/\xff\xfe%d' % n)
            shutil.rmtree(box + b'/\xe9t\xe9%d.d' % n)
        self.others_go_on()

    @scenario('a path longer than may travel is told, and stops nobody')
    def too_long(self):
        pair = self.prepare()

        def is_bad(d):
            return '/beyond' in d.path
        self.make_deep(b'beyond1', PATH_BYTES_MAX + 1)
        self.begin()
        self.others_go_on(is_bad)
        self.alarm_about('beyond1')
        self.make_deep(b'beyond2', PATH_BYTES_MAX + 1)
        self.others_go_on(is_bad)
        self.alarm_about('beyond2')
        pair.restart('p')
        self.others_go_on(is_bad)

    @scenario('a directory of very many messages')
    def many(self):
        count = 200_000 if self.run.long else self.quick_or(4_000, 20_000)
        # of two users one INBOX each, as Cyrus would have left them
        pair = self.prepare(store=('--users', 2, '--mailboxes-per-user', 1, '--messages', 2 * count, '--median', 800, '--max', 2000))
        self.begin()
        self.others_go_on(patience=120)
        self.deliver('u00000')
        with imap.Imap(pair.p.cyrus.port['imap'], 'u00000') as s:
            s.enter('INBOX')
            s.on('1:*', 'STORE', '+FLAGS.SILENT', '\\Flagged')
        self.others_go_on(patience=120)
        crowd = f"{pair.p.roots['partition-default']}/crowd"
        pair.p.cyrus.own_directory(crowd, 0o700)
        for n in range(1, count + 1):                        # while it is watched, and of nobody's mailbox
            with open(f'{crowd}/{n}.', 'wb') as f:
                f.write(b'From: x\r\n\r\n%d\r\n' % n)
                os.fchown(f.fileno(), *self.ids())
        self.others_go_on(patience=120)
        pair.restart('p')
        self.others_go_on(patience=120)
        pair.check_replica()
        return f'{count} messages in a mailbox, {count} in a directory'

    @scenario('a message that is very large')
    def large(self):
        size = 2048 * MIB if self.run.long else 200 * MIB
        pair = self.prepare()

        def put(name, bytes):
            path = f'{self.box}/{name}'
            with open(path + '.part', 'wb') as f:
                block = self.rng.randbytes(MIB)
                for _ in range(bytes // MIB):
                    f.write(block)
            os.chown(f.name, *self.ids())
            os.rename(f.name, path)
        put('800.', size)
        self.begin()
        self.others_go_on(patience=300)
        pair.stop_daemon('r')
        for n in range(12):                                  # what a seed sends in parts, of which the last is soon behind the others
            pair.p.cyrus.own_directory(f'{self.box}/d{n}', 0o700)
            put(f'd{n}/1.', 17 * MIB)
        said = pair.seed('--overwrite').stderr
        if 'parts are not there' in said:
            raise Failure(f'the seed began again: {said}')
        pair.start_daemon('r')
        put('900.', size)
        self.others_go_on(patience=300)
        return f"{size >> 20} MiB; " + self.memory(250)

    def memory(self, most):
        """how much either daemon had at its most; more than `most` MiB is a Failure"""
        peaks = {s.name: processes.peak(s.daemon.pid) >> 20 for s in (self.pair.p, self.pair.r)}
        if max(peaks.values()) > most:
            raise Failure(f'memory: at most {peaks} MiB')
        return f'at most {peaks} MiB of memory'

    def ids(self):
        account = processes.account(OWNER)
        return account['user'], account['group']
