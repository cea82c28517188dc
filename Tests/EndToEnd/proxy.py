"""The wire between the two ends, with a hand on it: a TCP proxy that can cut, stall, go silent and garble."""
import socket
import struct
import threading

from lab.ports import free_port


class Wire:
    """Forwards connections to `127.0.0.1:target`. Everything below may be called from any thread.

    cut()      connections are reset, new ones too, until restore()
    stall()    connections stay and nothing moves, until restore()
    silence()  connections open now never say a word again (a router that forgot them); new ones work
    cut_after(n)  after n more bytes, in the middle of whatever it is, everything open is reset; new ones work
    garble()   one bit of the next bytes that pass is flipped
    slow(rate) from now on `rate` bytes a second pass, each way; slow(None): as many as can
    """

    def __init__(self, target):
        self.target, self.port = target, free_port()
        self.changed = threading.Condition()
        self.mode, self.open, self.silent, self.countdown, self.spoil = 'open', set(), set(), None, False
        self.rate = None
        self.passed = 0                                     # bytes, both ways
        self.listener = socket.create_server(('127.0.0.1', self.port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _set(self, mode):
        with self.changed:
            self.mode = mode
            self.changed.notify_all()

    def cut(self):
        self._set('cut')
        self._reset_all()

    def stall(self):
        self._set('stalled')

    def restore(self):
        self._set('open')

    def silence(self):
        with self.changed:
            self.silent |= self.open

    def cut_after(self, bytes):
        with self.changed:
            self.countdown = bytes

    def slow(self, rate):
        with self.changed:
            self.rate = rate
            self.changed.notify_all()

    def garble(self):
        with self.changed:
            self.spoil = True

    def close(self):
        self._set('closed')
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self._reset_all()

    # ---- inside
    def _reset_all(self):
        with self.changed:
            pairs, self.open, self.silent, self.countdown = list(self.open), set(), set(), None
        for pair in pairs:
            for s in pair:
                reset(s)

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.mode == 'cut':
                reset(near)
                continue
            try:
                far = socket.create_connection(('127.0.0.1', self.target), 10)
            except OSError:
                reset(near)
                continue
            far.settimeout(None)
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (near, far)
            with self.changed:
                self.open.add(pair)
            for a, b in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(pair, a, b), daemon=True).start()

    def _pump(self, pair, source, sink):
        try:
            while data := source.recv(1 << 16):
                data = self._passing(pair, data)
                if data:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for s in pair:
                reset(s)
            with self.changed:
                self.open.discard(pair)

    def _passing(self, pair, data):
        """what of `data` goes on, once it may"""
        with self.changed:
            self.changed.wait_for(lambda: self.mode != 'stalled')
            if pair in self.silent:
                return b''
            if self.rate:                                    # as long as these bytes take
                self.changed.wait_for(lambda: not self.rate or self.mode == 'closed', len(data) / self.rate)
            self.passed += len(data)
            if self.spoil:
                self.spoil = False
                data = data[:-1] + bytes([data[-1] ^ 4])
            if self.countdown is None:
                return data
            self.countdown -= len(data)
            if self.countdown > 0:
                return data
        self._reset_all()
        raise OSError('cut in the middle')


def reset(s):
    """ends a connection with RST, so that the other side sees an error and not an end"""
    try:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        s.shutdown(socket.SHUT_RDWR)                        # wakes a thread that reads from it
    except OSError:
        pass
    s.close()


class Wires:
    """both directions: which end dials is the program's business"""

    def __init__(self, *wires):
        self.wires = wires

    def __getattr__(self, name):
        def each(*arguments):
            for w in self.wires:
                getattr(w, name)(*arguments)
        return each

    @property
    def passed(self):
        return sum(w.passed for w in self.wires)
