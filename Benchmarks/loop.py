#!/usr/bin/env python3
"""The least that any replication of files must do, for comparison: event, read, send; append, fdatasync, acknowledge.

loop.py sink FILE          listens, prints its port, appends what comes to FILE and acknowledges what is on disk
loop.py source DIR PORT    watches DIR; every file closed there is sent; prints the time of each acknowledgement (ns)
"""
import ctypes
import os
import socket
import struct
import sys
import time

IN_CLOSE_WRITE = 8


def receive(s, n):
    data = bytearray()
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def sink(path):
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    listener = socket.create_server(('127.0.0.1', 0))
    print(listener.getsockname()[1], flush=True)
    s, _ = listener.accept()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        n, = struct.unpack('>I', receive(s, 4))
        os.write(out, receive(s, n))
        os.fdatasync(out)
        s.sendall(b'+')


def source(directory, port):
    libc = ctypes.CDLL(None, use_errno=True)
    events = libc.inotify_init1(0)
    libc.inotify_add_watch(events, os.fsencode(directory), IN_CLOSE_WRITE)
    s = socket.create_connection(('127.0.0.1', port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print('ready', flush=True)
    while data := os.read(events, 65536):
        at = 0
        while at < len(data):
            _, _, _, n = struct.unpack_from('iIII', data, at)
            name = data[at + 16:at + 16 + n].rstrip(b'\0')
            at += 16 + n
            with open(os.path.join(os.fsencode(directory), name), 'rb', 0) as f:
                b = f.read()
            s.sendall(struct.pack('>I', len(b)) + b)
            receive(s, 1)
            print(time.monotonic_ns(), flush=True)


if __name__ == '__main__':
    sink(sys.argv[2]) if sys.argv[1] == 'sink' else source(sys.argv[2], int(sys.argv[3]))
