"""The row about `mailsync verify`: equal stores compared to the last byte, and to the last name."""
import json
import signal
import time

import tools
from lab.background import Background
from lab.ports import free_port
from tools import Ended

# what a delivery loses to an audit that goes on all the while: windows of so many seconds, in turn
WINDOW = 8

STORE_ROOTS = ('conf', 'part1', 'part2', 'sieve')


def verify(b):
    """against a dry run of rsync, which also reads all on both ends"""
    p = b.big_pair()
    if not b.seeded:
        p.fingerprint_of_primary = p.command(p.p, 'fingerprint').stdout.strip()
        p.known_replica = None
        b.seed_once(p)
        b.seeded = True
    if not p.r.running:
        p.start_daemon('r')
    p.wait_now(patience=120)
    log, row = f'{b.where}/peers.log', f'verify {b.messages} messages'

    def mailsync(depth):
        before = [tools.cpu(s.daemon.pid) for s in (p.p, p.r)]
        wire, t = b.wire(), time.monotonic()
        done = p.command(p.p, 'verify', '--json', '--depth', depth, expect=(0,), timeout=900)
        wall, wire = time.monotonic() - t, b.wire() - wire
        end = json.loads(done.stdout.splitlines()[-1])['end']
        if end['findings'] or end['unfinished'] or end['files'] < b.messages:
            raise Ended(f'verify: {end}')
        return wall, *(tools.cpu(s.daemon.pid) - x for s, x in zip((p.p, p.r), before)), wire

    def rsync(_):
        port = free_port()
        with open(f'{b.where}/rsyncd.conf', 'w') as f:
            f.write(f'address = 127.0.0.1\nuid = root\ngid = root\nuse chroot = no\n[store]\npath = {p.p.cyrus.dir}\nread only = yes\n')
        daemon = tools.start(['rsync', '--daemon', '--no-detach', f'--config={b.where}/rsyncd.conf', f'--port={port}'], log)
        time.sleep(.3)
        wire, t = b.wire(), time.monotonic()
        two = tools.wait(tools.start(['rsync', '-aHnc', *(f'rsync://127.0.0.1:{port}/store/{x}' for x in STORE_ROOTS), p.r.cyrus.dir + '/'], log), 900, 'rsync')
        wall, wire = time.monotonic() - t, b.wire() - wire
        time.sleep(.1)
        daemon.terminate()
        one = tools.wait(daemon, 30, 'rsync --daemon', good=(0, 20, -15))
        return wall, one, two, wire

    names = {'mailsync verify': (mailsync, 'content'), 'rsync -aHnc': (rsync, None), 'mailsync verify, metadata': (mailsync, 'metadata')}
    mailsync('content')                                    # all of it in the page cache
    for k, name in b.turns(list(names)):
        measure, depth = names[name]
        wall, one, two, wire = measure(depth)
        us = 'mailsync verify'
        b.add(row, 'wall', 's', name, wall, us)
        b.add(row, 'CPU, primary', 's', name, one, us)
        b.add(row, 'CPU, replica', 's', name, two, us)
        if b.o.own_network:
            b.add(row, 'wire', 'KB', name, wire / 1e3, us)
    b.add(row, 'memory, most', 'MB', 'primary', tools.memory(p.p.daemon.pid)[1])
    b.add(row, 'memory, most', 'MB', 'replica', tools.memory(p.r.daemon.pid)[1])


def beside(b):
    """deliveries through a real Cyrus, with `verify` back to back at its default rate beside them, and without"""
    p = b.pair(('--users', 80, '--messages', 20000))
    ports = [x for k, v in p.p.cyrus.port.items() for x in (f'--{k}', v)]
    for serial, name in b.turns(['without verify', 'verify back to back']):
        p.wait_now(patience=180)
        follow = p.background(p.p, 'verify', '--follow', '--json') if name != 'without verify' else None
        with Background('load.py', *ports, '--users', 8, '--clients', 4, '--mode', 'deliver', '--rate', 0, '--seed', serial) as work:
            time.sleep(WINDOW)
            done = work.stop()
        if follow:
            follow.send_signal(signal.SIGINT)
            follow.wait(60)
        b.add('LMTP, 4 connections', 'rate', 'deliveries/s', name, done['operations'] / done['secs'], 'without verify')
    b.done(p)
