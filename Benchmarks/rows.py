"""The rows. Each is a function of a Bench; it measures what it has to `rounds` times, in turn with its peers, and adds to the table."""
import contextlib
import os
import queue
import random
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time

import audit
import beside
import cyrus_sync
import tools
from lab import diff, imap, processes
from lab.background import Background
from lab.ports import free_port
from pair import Pair
from proxy import Wires
from tools import ask, barrier, quantile

HERE = os.path.dirname(os.path.abspath(__file__))
STORE_ROOTS = ('conf', 'part1', 'part2', 'sieve')


class Bench:
    def __init__(self, where, program, options, add):
        self.where, self.program, self.o, self.add = where, program, options, add
        self.rounds, self.made, self.pairs, self.big = options.rounds, 0, [], None

    def pair(self, store=None, cyrus=True, seed=True, wired=False, users=8):
        """a Pair with both ends running"""
        self.made += 1
        p = Pair(f'{self.where}/{self.made}', self.program, users=range(users))
        self.pairs.append(p)
        if store:
            tools.make_store(p.p.cyrus.dir, *store)
        if wired:
            wires = {k: tools.CountingWire(v) for k, v in p.peer_port.items()}
            p.wire, p.peer_port = Wires(*wires.values()), {k: w.port for k, w in wires.items()}
        if store and not cyrus or store and seed:
            p.start(cyrus=False, seed=False)
            if cyrus:
                p.p.cyrus.start()
        else:
            p.start(cyrus=cyrus, seed=False)
        tools.running(p)
        if seed:
            p.seed(timeout=600)
            p.start_daemon('r')
            p.wait_now(patience=120)
        return p

    def done(self, p):
        p.close()
        self.pairs.remove(p)
        tools.remove(os.path.dirname(p.p.cyrus.dir))

    def close(self):
        for p in list(self.pairs):
            self.done(p)

    def turns(self, variants):
        """rounds times all variants, each round beginning with another one"""
        for k in range(self.rounds):
            for i in range(len(variants)):
                yield k, variants[(i + k) % len(variants)]

    def big_pair(self):
        """the large store and its primary, made once for the rows that need it"""
        if not self.big:
            n = 1_000_000 if self.o.million else 10_000 if self.o.small else 100_000
            size = ('--median', 2000, '--sigma', 1.0) if self.o.million else ('--median', 5600)
            self.messages = n
            self.big = p = self.pair(('--users', n // 250, '--messages', n, *size), cyrus=False, seed=False)
            self.seeded = False
            self.names = tools.count_names(p.p.roots.values())
        return self.big

    def seed_once(self, p):
        """an empty replica is initialised and seeded; (wall, CPU of the primary, CPU of the seed, wire)"""
        if p.r.running:
            p.stop_daemon('r')
        tools.remove(p.r.cyrus.dir)
        p.r.cyrus.create()
        p.r.cyrus.own_directory(p.r.state, 0o700)
        p.configure(p.r, p.fingerprint_of_primary)
        p.command(p.r, 'init', '--role', 'replica')
        mine = p.command(p.r, 'fingerprint').stdout.strip()
        if p.known_replica != mine:                        # its key was in the directory that is gone
            p.configure(p.p, mine)
            p.restart('p')
            tools.running(p)
            p.known_replica = mine
        tools.sync_file_system(self.where)
        before, wire, t = tools.cpu(p.p.daemon.pid), self.wire(), time.monotonic()
        usage = tools.usage_of(p.background(p.r, 'seed'), 1200, 'mailsync seed')
        wall = time.monotonic() - t
        self.seed_memory = usage.ru_maxrss
        return wall, tools.cpu(p.p.daemon.pid) - before, usage.ru_utime + usage.ru_stime, self.wire() - wire

    def seeded_pair(self):
        """the same with its replica, both running and in step"""
        p = self.big_pair()
        if not self.seeded:
            p.fingerprint_of_primary, p.known_replica = p.command(p.p, 'fingerprint').stdout.strip(), None
            self.seed_once(p)
            self.seeded = True
        if not p.r.running:
            p.start_daemon('r')
        p.wait_now(patience=300)
        return p

    def wire(self):
        return tools.loopback_bytes() if self.o.own_network else 0


# ---- 1
def seed(b):
    p = b.big_pair()
    p.fingerprint_of_primary = p.command(p.p, 'fingerprint').stdout.strip()
    p.known_replica = None
    source, to, log = p.p.cyrus.dir, f'{b.where}/copy', f'{b.where}/peers.log'
    key = tls_key(b.where)
    row = f'seed {b.messages} messages'

    def mailsync():
        *figures, wire = b.seed_once(p)
        b.seeded = True
        return (*figures, wire, p.r.cyrus.dir)

    def tar():
        port = free_port()
        server = tools.start(['sh', '-c', f'openssl s_server -quiet -naccept 1 -accept {port} -cert {key}/cert -key {key}/key | lz4 -d -q | tar -C {to} -xpf -'], log,
                             stdin=subprocess.PIPE)        # at the end of its input s_server would turn in circles
        time.sleep(.3)
        wire, t = b.wire(), time.monotonic()
        client = tools.start(['sh', '-c', f'tar -C {source} --format=posix -cf - {" ".join(STORE_ROOTS)} | lz4 -1 -q -c '
                              f'| openssl s_client -quiet -no_ign_eof -nocommands -connect 127.0.0.1:{port}'], log)
        one = tools.wait(client, 600, 'tar, lz4, s_client')
        two = tools.wait(server, 600, 's_server, lz4, tar')
        return time.monotonic() - t, one, two, b.wire() - wire, to

    def rsync():
        port = free_port()
        with open(f'{b.where}/rsyncd.conf', 'w') as f:
            f.write(f'address = 127.0.0.1\nuid = root\ngid = root\nuse chroot = no\n[store]\npath = {source}\nread only = yes\n')
        daemon = tools.start(['rsync', '--daemon', '--no-detach', f'--config={b.where}/rsyncd.conf', f'--port={port}'], log)
        time.sleep(.3)
        wire, t = b.wire(), time.monotonic()
        client = tools.start(['rsync', '-aH', *(f'rsync://127.0.0.1:{port}/store/{x}' for x in STORE_ROOTS), to + '/'], log)
        two = tools.wait(client, 600, 'rsync')
        wall, wire = time.monotonic() - t, b.wire() - wire
        time.sleep(.1)
        daemon.terminate()
        one = tools.wait(daemon, 30, 'rsync --daemon', good=(0, 20, -15))
        return wall, one, two, wire, to

    def cp():
        t = time.monotonic()
        c = tools.wait(tools.start(['cp', '-a', *(f'{source}/{x}' for x in STORE_ROOTS), to], log), 600, 'cp')
        return time.monotonic() - t, c, 0, 0, to

    names = {'mailsync seed': mailsync, 'tar, lz4, TLS': tar, 'rsync -aH': rsync, 'cp -a': cp}
    for k, name in b.turns(list(names)):
        tools.remove(to)
        os.mkdir(to)
        tools.sync_file_system(b.where)
        wall, one, two, wire, where = names[name]()
        durable = wall + tools.sync_file_system(b.where)
        if name == 'mailsync seed':
            if k == 0:
                found = diff.differences(p.p.roots, p.r.roots)
                if found:
                    raise tools.Ended(f'{len(found)} differences after seed: {diff.sentence(found[0])}')
        elif tools.count_names(f'{to}/{x}' for x in STORE_ROOTS) < b.names:
            raise tools.Ended(f'{name}: names are missing')
        us = 'mailsync seed'
        b.add(row, 'wall', 's', name, wall, us)
        b.add(row, 'wall, and sync after it', 's', name, durable, us)
        b.add(row, 'CPU, source', 's', name, one, us)
        if name != 'cp -a':
            b.add(row, 'CPU, destination', 's', name, two, us)
            if b.o.own_network:
                b.add(row, 'wire', 'MB', name, wire / 1e6, us)
    tools.remove(to)


def tls_key(where):
    tools.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=bench', '-days', '2',
               '-keyout', f'{where}/key', '-out', f'{where}/cert'], 30)
    return where


# ---- 2
def lag(b):
    n = 30 if b.o.quick else 200
    p = b.pair()
    port = p.p.cyrus.port['lmtp']
    boxes = {u: p.p.cyrus.tool('mbpath', 'user/' + imap.user(u)).split()[-1] for u in range(4)}
    rng, serial = random.Random(1), [0]

    def mail():
        serial[0] += 1
        return imap.message(rng, f'lag-{serial[0]}', 10_000)

    def idle(seen):
        """milliseconds from LMTP's 250 until mailsync says flushed, or until the message and the grown index are in the replica's store"""
        out = []
        with imap.Lmtp(port) as l:
            for i in range(n):
                u = i % 4
                l.deliver([imap.user(u)], mail())
                t = time.monotonic()
                if seen:
                    tools.wait_for_index(boxes[u], boxes[u].replace(p.p.cyrus.dir, p.r.cyrus.dir, 1), 10)
                else:
                    barrier(p)
                out.append(1e3 * (time.monotonic() - t))
                time.sleep(.03)
        return out

    def nothing():
        """the price of asking, when there is nothing to wait for"""
        out = []
        for _ in range(n // 4):
            t = time.monotonic()
            barrier(p)
            out.append(1e3 * (time.monotonic() - t))
            time.sleep(.02)
        return out

    def busy():
        """50 a second; every fourth is asked for"""
        out, todo = [], queue.Queue()

        def asker():
            while (t := todo.get()) is not None:
                barrier(p)
                out.append(1e3 * (time.monotonic() - t))
        askers = [threading.Thread(target=asker, daemon=True) for _ in range(4)]
        for a in askers:
            a.start()
        with imap.Lmtp(port) as l:
            start, count = time.monotonic(), 4 * (n // 2)
            for i in range(count):
                time.sleep(max(0, start + i / 50 - time.monotonic()))
                l.deliver([imap.user(i % 4)], mail())
                if i % 4 == 3:
                    todo.put(time.monotonic())
            rate = count / (time.monotonic() - start)
        for a in askers:
            todo.put(None)
        for a in askers:
            a.join(60)
        b.add('lag at 50/s', 'deliveries done', '1/s', 'LMTP 10 KB', rate)
        return out

    variants = {('lag, idle', 'mailsync, flushed'): lambda: idle(False), ('lag, idle', 'mailsync, in the replica\'s store'): lambda: idle(True),
                ('lag, idle', 'bare loop (Python)'): lambda: bare(b, n), ('lag, idle', 'asking, nothing written'): nothing,
                ('lag at 50/s', 'mailsync, flushed'): busy}
    for _, (row, name) in b.turns(list(variants)):
        got = variants[row, name]()
        for q, label in ((.5, 'p50'), (.99, 'p99')):
            b.add(row, label, 'ms', name, quantile(got, q), reference='mailsync, flushed')
    b.done(p)


def bare(b, n):
    directory = f'{b.where}/bare'
    tools.remove(directory)
    os.mkdir(directory)
    loop = [sys.executable, '-B', f'{HERE}/loop.py']
    with subprocess.Popen([*loop, 'sink', f'{b.where}/bare.log'], stdout=subprocess.PIPE, text=True) as sink:
        with subprocess.Popen([*loop, 'source', directory, sink.stdout.readline().strip()], stdout=subprocess.PIPE, text=True) as source:
            source.stdout.readline()
            out, data = [], os.urandom(10_000)
            for i in range(n):
                fd = os.open(f'{directory}/{i}', os.O_WRONLY | os.O_CREAT)
                os.write(fd, data)
                t = time.monotonic_ns()
                os.close(fd)
                out.append((int(source.stdout.readline()) - t) / 1e6)
                time.sleep(.01)
            source.kill()
        sink.kill()
    return out


# ---- 3
def wire(b):
    n = 10 if b.o.quick else 30
    p = b.pair(wired=True)
    box = p.p.cyrus.tool('mbpath', 'user/' + imap.user(0)).split()[-1]
    rng, serial = random.Random(2), [0]
    counters = lambda: (sum(w.up for w in p.wire.wires), sum(w.down for w in p.wire.wires), tools.batch_bytes(p))

    def measured(row, events, act, less=0):
        barrier(p, 'applied')
        time.sleep(.3)
        before = counters()
        act()
        barrier(p, 'applied')
        time.sleep(.1)
        up, down, batch = ((x - y) / events for x, y in zip(counters(), before))
        less = less() if callable(less) else less
        b.add(row, 'up (TLS)', 'B', 'mailsync', up)
        b.add(row, 'down (TLS)', 'B', 'mailsync', down)
        b.add(row, 'batches', 'B', 'mailsync', batch)
        if less:
            b.add(row, 'body, lz4 -1', 'B', 'mailsync', less)
            b.add(row, 'up less body', 'B', 'mailsync', up - less)

    def deliveries(size):
        def act():
            with imap.Lmtp(p.p.cyrus.port['lmtp']) as l:
                for _ in range(n):
                    serial[0] += 1
                    l.deliver([imap.user(0)], imap.message(rng, f'wire-{serial[0]}', size))
                    barrier(p, 'applied')
        return act

    def body():
        newest = sorted((f for f in os.listdir(box) if f.endswith('.') and f[:-1].isdigit()), key=lambda f: int(f[:-1]))[-n:]
        return statistics.mean(len(tools.run(['lz4', '-1', '-q', '-c', f'{box}/{f}'], 10).stdout) for f in newest)

    def flags(one_by_one):
        def act():
            with imap.Imap(p.p.cyrus.port['imap'], imap.user(0)) as s:
                s.enter('INBOX')
                uids = s.uids()[-n:]
                for u in uids if one_by_one else [','.join(uids)]:
                    s.on(u, 'STORE', '+FLAGS.SILENT', '(\\Answered)' if one_by_one else '(\\Flagged)')
                    if one_by_one:
                        barrier(p, 'applied')
        return act

    def silence():
        before = counters()
        time.sleep(3)
        after = counters()
        b.add('wire at rest', 'up + down', 'B/s', 'mailsync', (after[0] + after[1] - before[0] - before[1]) / 3)

    for k in range(b.rounds):
        measured('wire, 2 KB delivery', n, deliveries(2000), body)
        measured('wire, 10 KB delivery', n, deliveries(10_000), body)
        measured('wire, flag change', n, flags(True))
        measured(f'wire, flag in a burst of {n}', n, flags(False))
        if k == 0:
            silence()
    b.done(p)


# ---- 4
def database(b):
    size = 10_000_000 if b.o.quick else 100_000_000
    p = b.pair(('--users', 4, '--messages', 100), cyrus=False, seed=False)
    path, there = f'{p.p.cyrus.conf}/big.db', f'{p.r.cyrus.conf}/big.db'
    rng = random.Random(3)
    with open(path, 'wb') as f:
        for _ in range(size // 1_000_000):
            f.write(rng.randbytes(500_000) + b'mailbox\x00' * 62_500)
    p.p.cyrus.own(path)
    p.seed(timeout=300)
    p.start_daemon('r')
    p.wait_now(patience=120)
    if os.path.getsize(there) != size:
        raise tools.Ended('the file was not seeded')
    copy, port = f'{b.where}/big.copy', free_port()
    shutil.copyfile(path, copy)
    with open(f'{b.where}/rsyncd.conf', 'w') as f:
        f.write(f'address = 127.0.0.1\nuid = root\ngid = root\nuse chroot = no\n[store]\npath = {b.where}\nread only = no\n')
    daemon = tools.start(['rsync', '--daemon', '--no-detach', f'--config={b.where}/rsyncd.conf', f'--port={port}'], f'{b.where}/peers.log')
    row, each = f'database of {size // 10**6} MB, 280 bytes changed', max(2, 20 // b.rounds)
    time.sleep(.3)
    for _ in range(b.rounds):
        ms = {'mailsync, flushed': [], 'rsync --inplace': []}
        wires = {'mailsync, flushed': [], 'rsync --inplace': []}
        batches = []
        for _ in range(each):
            barrier(p, 'applied')
            bytes_before, w = tools.batch_bytes(p), b.wire()
            with open(path, 'r+b', buffering=0) as f:
                for _ in range(10):
                    f.seek(rng.randrange(size - 8))
                    f.write(rng.randbytes(8))
                f.seek(0, 2)
                f.write(rng.randbytes(200))
            t = time.monotonic()
            barrier(p)
            ms['mailsync, flushed'].append(1e3 * (time.monotonic() - t))
            wires['mailsync, flushed'].append(b.wire() - w)
            batches.append(tools.batch_bytes(p) - bytes_before)
            barrier(p, 'applied')
            w, t = b.wire(), time.monotonic()
            tools.run(['rsync', '--inplace', '--no-whole-file', '-I', path, f'rsync://127.0.0.1:{port}/store/big.copy'], 60)
            ms['rsync --inplace'].append(1e3 * (time.monotonic() - t))
            wires['rsync --inplace'].append(b.wire() - w)
        for name, values in ms.items():
            b.add(row, 'p50', 'ms', name, quantile(values, .5), reference='mailsync, flushed')
            if b.o.own_network:
                b.add(row, 'wire with TCP/IP', 'B', name, quantile(wires[name], .5), 'mailsync, flushed')
        b.add(row, 'batch', 'B', 'mailsync, flushed', quantile(batches, .5))
    if tools.run(['cmp', path, there], 60).returncode:
        raise tools.Ended('big.db differs')
    daemon.terminate()
    tools.wait(daemon, 30, 'rsync --daemon', good=(0, 20, -15))
    b.done(p)


# ---- 5
def sustained(b):
    secs = 3 if b.o.quick else 10
    for row, unit in ((f'storm, {secs} s', 'changes/s'), (f'LMTP, 6 connections, {secs} s', 'deliveries/s')):
        p = b.pair(('--users', 40, '--messages', 4000), cyrus=False) if unit == 'changes/s' else b.pair()
        serial = 0
        for _, name in b.turns(['without mailsync', 'primary only', 'both ends here']):
            ends = {'without mailsync': '', 'primary only': 'p', 'both ends here': 'pr'}[name]
            for side in 'rp':
                if p.side(side).running and side not in ends:
                    p.stop_daemon(side)
            for side in ends:
                if not p.side(side).running:
                    p.start_daemon(side)
                    if side == 'p':
                        tools.running(p)
            if ends == 'pr':
                p.wait_now(patience=180)
            elif ends == 'p':
                ask(p.p, {'positionNow': {'timeoutSeconds': 120}}, 130)
            tools.sync_file_system(b.where)
            serial += 1
            before = {s: tools.cpu(p.side(s).daemon.pid) for s in ends}
            if unit == 'changes/s':
                work = Background('storm.py', p.p.cyrus.dir, '--rate', 20_000, '--secs', 600, '--seed', serial)
            else:
                ports = [x for k, v in p.p.cyrus.port.items() for x in (f'--{k}', v)]
                work = Background('load.py', *ports, '--users', 8, '--clients', 6, '--mode', 'deliver', '--rate', 0, '--seed', serial)
            with work:
                time.sleep(.5)  # its workers start
                everything = tools.machine_cpu()
                t = time.monotonic()
                time.sleep(secs)
                everything = (tools.machine_cpu() - everything) / (time.monotonic() - t)
                done = work.stop()
            t = time.monotonic()
            rate = done['operations'] / done['secs']
            b.add(row, 'rate', unit, name, rate, reference='without mailsync')
            b.add(row, 'CPU of the machine per operation', 'ms', name, 1e3 * everything / rate, reference='without mailsync')
            if ends == 'pr':
                barrier(p, timeout=180)
                b.add(row, 'until flushed, after the last', 's', name, time.monotonic() - t)
            elif ends == 'p':
                ask(p.p, {'positionNow': {'timeoutSeconds': 180}}, 190)
                b.add(row, 'until journaled, after the last', 's', name, time.monotonic() - t)
            for s in ends:
                used = tools.cpu(p.side(s).daemon.pid) - before[s]
                b.add(row, f'CPU of the {"primary" if s == "p" else "replica"} per operation', 'ms', name, 1e3 * used / done['operations'])
        b.done(p)


# ---- 6
def memory(b):
    p = b.seeded_pair()
    for side, name in ((p.p, 'primary'), (p.r, 'replica')):
        for metric, value in zip(('resident', 'resident at most', 'of it anonymous'), tools.memory(side.daemon.pid)):
            b.add(f'memory, {b.messages} messages', metric, 'MB', name, value)
    # The kernel counts what the process was before it became another program, that is, this one.
    if b.seed_memory > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:
        b.add(f'memory, {b.messages} messages', 'resident at most', 'MB', 'replica, while it was seeded', b.seed_memory / 1024)
    tools.sync_file_system(b.where)
    p.restart('p')
    tools.running(p)
    p.wait_now(patience=300)
    for metric, value in zip(('resident', 'resident at most', 'of it anonymous'), tools.memory(p.p.daemon.pid)):
        b.add(f'memory, {b.messages} messages', metric, 'MB', 'primary, started again', value)


ROWS = {'seed': seed, 'verify': audit.verify, 'differences': audit.differences, 'beside': beside.verify, 'daemons': beside.daemons, 'lag': lag, 'sync': cyrus_sync.sync, 'wire': wire, 'db': database, 'memory': memory,
        'sustained': sustained}
