"""A peer that has one end's key and says what it likes: the other end must not suffer from it."""
import contextlib
import ctypes
import ctypes.util
import hashlib
import socket
import ssl
import struct

from pair import Failure

VERSION = 3
HELLO, WELCOME, REFUSE, BATCH, ACK, HEARTBEAT, RESEND = 1, 2, 3, 4, 5, 6, 7
STREAM, SEED_EMPTY, SEED_OVER, FENCE = 1, 2, 3, 4
HEAD = 64


def context(side, server):
    """TLS with the key and certificate of `side`, that trusts anybody"""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.load_cert_chain(f'{side.state}/certificate.pem', f'{side.state}/key.pem')
    return tls


class Talk:
    """frames over a TLS connection"""

    def __init__(self, sock):
        self.sock = sock

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def say(self, kind, body):
        self.sock.sendall(struct.pack('>IB', len(body) + 1, kind) + body)

    def exactly(self, count):
        got = b''
        while len(got) < count:
            more = self.sock.recv(count - len(got))
            if not more:
                raise EOFError
            got += more
        return got

    def hear(self):
        """the next frame: kind and body; EOFError at the end"""
        count, kind = struct.unpack('>IB', self.exactly(5))
        return kind, self.exactly(count - 1)

    def hear_until(self, *kinds):
        while True:
            kind, body = self.hear()
            if kind in kinds:
                return kind, body

    def reason(self):
        """why the other end refuses; what it says before does not matter"""
        try:
            body = self.hear_until(REFUSE)[1]
        except (EOFError, ConnectionError, ssl.SSLError):
            return None
        return body[2:].decode(errors='replace') if body[1] < 128 else body[3:].decode(errors='replace')


def dial(side, port):
    """to the primary, as the replica `side`"""
    plain = socket.create_connection(('127.0.0.1', port), 10)
    return Talk(context(side, False).wrap_socket(plain))


def client_hello():
    """the first bytes of a handshake"""
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), out, server_hostname='mailsync').do_handshake()
    return out.read()


def position(epoch, sequence):
    return struct.pack('>IQ', epoch, sequence)


def leb(n):
    out = b''
    while n >= 128:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def text(data):
    return leb(len(data)) + data


# what a primary wants to hear of the replica's imapd.conf: that its partitions are there
PARTITIONS = (b'partition-default', b'partition-second')
NAMING = bytes([len(PARTITIONS)]) + b''.join(text(x) + text(x) for x in PARTITIONS)


def hello(store, version=VERSION, purpose=STREAM, at=(0, 0), hash=bytes(32), epoch=0):
    return struct.pack('>H', version) + text(store) + bytes([purpose]) + position(*at) + hash + position(0, 0) * 2 + struct.pack('>I', epoch) + NAMING


def flushed(ack):
    """the sequence number that is on the replica's disk, if that is of the epoch received last and not far behind"""
    return struct.unpack('>Q', ack[4:12])[0] - ack[13]


class Impostor:
    """Listens where the primary did, with its key; each replica that comes is met by `meet(talk, at, hash)`."""

    def __init__(self, side):
        self.tls = context(side, True)
        self.listener = socket.create_server(('127.0.0.1', side.listen), reuse_port=False)
        self.listener.settimeout(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        """the replica's next link after its hello: the talk, its position, its chain hash"""
        while True:
            plain, _ = self.listener.accept()
            plain.settimeout(20)
            try:
                talk = Talk(self.tls.wrap_socket(plain, server_side=True))
                body = talk.hear_until(HELLO)[1]
            except (OSError, EOFError):
                continue
            at = 2 + 1 + body[2] + 1
            epoch, sequence = struct.unpack('>IQ', body[at:at + 12])
            return talk, (epoch, sequence), body[at + 12:at + 44]

    def welcome(self):
        talk, at, hash = self.accept()
        talk.say(WELCOME, struct.pack('>H', VERSION) + position(*at) + hash + position(*at))
        return talk, at, hash


def checksum():
    """XXH3-64, or None where its library is not installed"""
    name = ctypes.util.find_library('xxhash')
    if not name:
        return None
    f = ctypes.CDLL(name).XXH3_64bits
    f.restype, f.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    return lambda data: f(data, len(data))


def batch(at, hash, payload, count, raw=None, kind=0, time=1_700_000_000_000_000_000):
    """a sealed batch, and the chain hash at it"""
    xxh = checksum()
    head = b'MSB1' + position(*at) + struct.pack('>qIIII', time, len(payload), raw or len(payload), count, kind) + hash[:16]
    sealed = head + struct.pack('>Q', xxh(struct.pack('>QQ', xxh(head), xxh(payload)))) + payload
    return sealed, hashlib.sha256(hash + sealed).digest()


METADATA = b'\0' + struct.pack('>Hq', 0o600, 1_700_000_000_000_000_000)


def record(kind, root, path, rest=b''):
    return bytes([kind]) + text(root) + text(path) + rest


def symlink(root, path, target):
    return record(8, root, path, METADATA + text(target))


def remove(root, path):
    return record(10, root, path)


def directory(root, path):
    return record(1, root, path, METADATA)


def refused(why, word):
    if why is None or word not in why:
        raise Failure(f'not refused with "{word}", but with {why!r}')
