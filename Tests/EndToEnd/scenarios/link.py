"""The wire between the two is cut, stalls, goes silent, flips bits, and has strangers on it."""
import random
import socket
import ssl

import peer
from lab import imap
from pair import Failure
from runner import Skip, scenario

from .common import PairGroup


class Link(PairGroup):
    """link"""
    shared = True

    def before(self):
        if self.pair is None:
            self.make(users=range(10), wired=True).start()
        self.wire = self.pair.wire

    def after(self):
        self.wire.restore()
        self.judge()

    def deliver(self, count=1, bytes=None):
        with imap.Lmtp(self.pair.p.cyrus.port['lmtp']) as l:
            for _ in range(count):
                l.deliver(['u00000', 'u00001'], imap.message(self.rng, f'link-{self.rng.random()}', bytes))

    @scenario('cut several times while clients are at work')
    def cut(self):
        with self.pair.load(seed=self.run.seed):
            for _ in range(self.quick_or(3, 8)):
                self.wire.cut()
                self.watch(self.rng.uniform(.1, .6))
                self.wire.restore()
                self.watch(self.rng.uniform(.2, .8))

    @scenario('cut: a wait is not answered, and answered once the wire is whole')
    def cut_and_wait(self):
        self.wire.cut()
        self.deliver()
        if not self.pair.is_behind():
            raise Failure('wait --now succeeded over a wire that is cut')
        self.wire.restore()
        self.pair.wait_now()

    @scenario('cut in the middle of a batch, again and again')
    def cut_in_the_middle(self):
        for bytes in (1, 17, 300, 2_000, 30_000, 200_000):
            self.wire.cut_after(bytes)
            self.deliver(3, 30_000)
            self.pair.wait_now()
            self.wire.cut_after(1 << 60)

    @scenario('stalled while clients are at work')
    def stall(self):
        with self.pair.load(seed=self.run.seed):
            self.watch(.5)
            self.wire.stall()
            self.watch(self.quick_or(1, 5))
            if not self.pair.is_behind():
                raise Failure('wait --now succeeded over a wire that stands still')
            self.wire.restore()
            self.pair.wait_now()

    @scenario('a bit flipped on the way')
    def garble(self):
        for _ in range(self.quick_or(3, 10)):
            self.wire.garble()
            self.deliver(2, 20_000)
            self.pair.wait_now()

    @scenario('a connection that went silent is given up')
    def silent(self):
        if self.run.quick:
            raise Skip('takes as long as the program is patient; not with --quick')
        self.wire.silence()
        self.deliver()
        self.pair.wait_now(patience=180)

    @scenario('strangers who talk nonsense are not listened to')
    def strangers(self):
        rng = random.Random(self.run.seed)
        for side in (self.pair.p, self.pair.r):
            for nonsense in (b'', b'GET / HTTP/1.0\r\n\r\n', rng.randbytes(5000), b'\x16\x03\x01' + rng.randbytes(2000)):
                try:
                    with socket.create_connection(('127.0.0.1', side.listen), 5) as s:
                        s.settimeout(1)
                        s.sendall(nonsense)
                        s.recv(100)
                except OSError:
                    pass                                     # only one of the two may listen at all
        self.deliver()
        self.pair.wait_now()

    @scenario('a stranger without our key is shown the door')
    def no_key(self):
        pair = self.pair
        without = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        without.check_hostname, without.verify_mode = False, ssl.CERT_NONE
        stranger = type(pair.r)('s', self.where, None, False)    # a replica of somebody else's, with a key of its own
        stranger.cyrus.create()
        stranger.cyrus.own_directory(stranger.state, 0o700)
        pair.peer_port['s'] = pair.p.listen
        pair.configure(stranger)
        pair.command(stranger, 'init', '--role', 'replica')
        for tls in (without, peer.context(stranger, False)):
            plain = socket.create_connection(('127.0.0.1', pair.p.listen), 5)     # nobody there is a failure
            try:
                plain.settimeout(15)
                with tls.wrap_socket(plain) as s:
                    if s.recv(100):
                        raise Failure('the primary answers a stranger')
            except TimeoutError:
                raise Failure('the primary keeps a stranger waiting')
            except (ssl.SSLError, ConnectionError):
                pass
            finally:
                plain.close()
        its_print = pair.command(stranger, 'fingerprint').stdout.strip()
        words = f'refused 127.0.0.1: its certificate is {its_print}, which is no peer_fingerprint here'
        told = pair.status('p').get('lastRefusal', {}).get('why', '')
        with open(pair.p.log, errors='replace') as f:
            if words not in f.read() or its_print not in told:
                raise Failure(f'neither log nor status says "{words}": {told}')
        try:                                                 # a replica waits for nobody
            socket.create_connection(('127.0.0.1', pair.r.listen), 5).close()
            raise Failure('the replica listens')
        except ConnectionRefusedError:
            pass
        self.deliver()
        pair.wait_now()

    @scenario('the replica catches up over a wire that was cut for long')
    def long_cut(self):
        self.wire.cut()
        with self.pair.load(seed=self.run.seed + 1, rate=0):
            self.watch(self.quick_or(3, 15))
        self.wire.restore()
        self.pair.wait_now(patience=120)
