"""The row about `mailsync verify`: equal stores compared to the last byte, and to the last name."""
import json
import os
import random
import time

import tools
from lab.ports import free_port
from tools import Ended

STORE_ROOTS = ('conf', 'part1', 'part2', 'sieve')


def restarted(b, p):
    """both daemons anew, so that the most memory they had is the audit's"""
    for s in 'pr':
        p.restart(s)
    tools.running(p)
    p.wait_now(patience=300)


def verify(b):
    """against a dry run of rsync, which also reads all on both ends; of a million messages the metadata only"""
    p = b.seeded_pair()
    restarted(b, p)
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
    if b.o.million:
        names = {'mailsync verify, metadata': (mailsync, 'metadata')}
    else:
        mailsync('content')                                # all of it in the page cache
    for k, name in b.turns(list(names)):
        measure, depth = names[name]
        wall, one, two, wire = measure(depth)
        us = list(names)[0]
        b.add(row, 'wall', 's', name, wall, us)
        b.add(row, 'CPU, primary', 's', name, one, us)
        b.add(row, 'CPU, replica', 's', name, two, us)
        if b.o.own_network:
            b.add(row, 'wire', 'KB', name, wire / 1e3, us)
    b.add(row, 'memory, most', 'MB', 'primary', tools.memory(p.p.daemon.pid)[1])
    b.add(row, 'memory, most', 'MB', 'replica', tools.memory(p.r.daemon.pid)[1])


def differences(b):
    """a bit in each of 100 messages of the replica, their times as before: what is told of them, and sent to mend them"""
    p, row, count = b.seeded_pair(), f'{b.messages} messages, 100 differences', 100
    rng = random.Random(5)
    found = []
    for root in ('part1', 'part2'):
        for directory, _, files in os.walk(f'{p.r.cyrus.dir}/{root}'):
            found += [f'{directory}/{f}' for f in files if f[0].isdigit() and os.stat(f'{directory}/{f}').st_nlink == 1]
    found.sort()

    def mailsync(*arguments):
        wire, t = b.wire(), time.monotonic()
        done = p.command(p.p, 'verify', '--json', *arguments, expect=(1,), timeout=900)
        wall, wire = time.monotonic() - t, b.wire() - wire
        end = json.loads(done.stdout.splitlines()[-1])['end']
        if end['findings'] != count or end['unfinished'] or arguments and end['healed'] != count:
            raise Ended(f'verify: {end}')
        return wall, wire

    for _ in range(b.rounds):
        packed = 0
        for path in rng.sample(found, count):
            st = os.stat(path)
            with open(path, 'r+b') as f:
                data = bytearray(f.read())
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                f.seek(0)
                f.write(data)
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
            packed += len(tools.run(['lz4', '-1', '-q', '-c', path], 10).stdout)
        for name, arguments, less in (('verify', (), 0), ('verify --repair, less the messages as lz4 -1', ('--repair',), packed)):
            wall, wire = mailsync(*arguments)
            b.add(row, 'wall', 's', name, wall)
            if b.o.own_network:
                b.add(row, 'wire', 'KB', name, (wire - less) / 1e3)
        p.command(p.p, 'verify', expect=(0,), timeout=900)
