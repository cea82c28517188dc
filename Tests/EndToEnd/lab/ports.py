"""Free TCP ports on 127.0.0.1, from a range that no service and no outgoing connection of Linux uses."""
import os
import random
import socket

FIRST, LAST = 24000, 28000
_given = set()
_order = random.Random(os.getpid())


def free_port():
    while True:
        port = _order.randrange(FIRST, LAST)
        if port in _given:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(('127.0.0.1', port))
            except OSError:
                continue
        _given.add(port)
        return port
