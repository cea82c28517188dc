"""Damage on the primary must not become damage on the replica, and must not stop anybody else's mail."""
import os

from lab import imap
from pair import Failure
from runner import scenario

from .common import PairGroup


class Damage(PairGroup):
    """damage"""

    def prepare(self):
        pair = self.make(users=range(4)).start()
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            for n in range(5):
                l.deliver(['u00000'], imap.message(self.rng, f'a{n}'))
                l.deliver(['u00001'], imap.message(self.rng, f'b{n}'))
        pair.compare_trees()
        self.box = pair.p.cyrus.tool('mbpath', 'user/u00000').strip().splitlines()[-1]
        return pair

    def spoil(self, name, at):
        """one bit, where it lies"""
        path = f'{self.box}/{name}'
        with open(path, 'r+b') as f:
            f.seek(at)
            b = f.read(1)
            f.seek(at)
            f.write(bytes([b[0] ^ 1]))
        return path.replace(self.pair.p.cyrus.dir, self.pair.r.cyrus.dir, 1)

    def verdict(self, there, good):
        """the others' mail goes on, the replica's last good file stays, status tells of it"""
        pair = self.pair
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            l.deliver(['u00001'], imap.message(self.rng, 'later'))
        pair.wait_now(patience=30)
        box = os.path.relpath(self.box, pair.p.roots['partition-default'])
        pair.compare_trees(ignore=lambda d: d.path.startswith(f'partition-default/{box}/'))
        with open(there, 'rb') as f:
            if f.read() != good:
                raise Failure(f'{os.path.basename(there)}: the damage was shipped')
        alarms = pair.status('p')['capture']['alarms']
        if f'partition-default/{box}/{os.path.basename(there)}' not in (a['path'] for a in alarms):
            raise Failure(f'{os.path.basename(there)}: status has the alarms {alarms}')

    def scene(self, name, at):
        self.prepare()
        with open(f'{self.box}/{name}', 'rb') as f:
            good = f.read()
        self.verdict(self.spoil(name, at), good)

    @scenario('a message with a flipped bit')
    def message(self):
        self.scene('3.', 700)

    @scenario('an index with a flipped bit in a record')
    def index(self):
        self.scene('cyrus.index', 160 + 112 + 20)

    @scenario('an index with a flipped bit in its header')
    def index_header(self):
        self.scene('cyrus.index', 90)

    @scenario('a header with a flipped bit: its index, which is as it was, says that it is another')
    def header(self):
        self.scene('cyrus.header', 130)

    @scenario('a damaged mailbox that Cyrus mends is shipped again')
    def mended(self):
        pair = self.prepare()
        self.spoil('cyrus.index', 160 + 112 + 20)
        pair.wait_now(patience=30)
        pair.p.cyrus.tool('reconstruct', '-r', 'user/u00000')
        pair.compare_trees()
        pair.check_replica()
