"""The row beside Cyrus's own replication: sync_client -r with `sync_repeat_interval: 0`, its quickest setting, and sync_server."""
import os
import random
import threading
import time

import tools
from lab import imap, processes
from lab.instance import BIN, Instance
from lab.ports import free_port
from tools import Ended

PROGRAMS = ('sync_client', 'sync_server')


def installed():
    return all(os.path.exists(BIN + x) for x in PROGRAMS)


class Synced(Instance):
    """One end of Cyrus's own replication; `role` is primary or replica."""

    def __init__(self, directory, role, port):
        self.role, self.sync_port = role, port
        options = dict(sync_log='yes', sync_host='127.0.0.1', sync_port=str(port), sync_authname='admin', sync_password='pw',
                       sync_repeat_interval='0') if role == 'primary' else {}
        super().__init__(directory, options)

    def write_configuration(self):
        super().write_configuration()
        with open(self.cyrus_conf) as f:
            text = f.read()
        if self.role == 'replica':
            text = text.replace('SERVICES {\n', f'SERVICES {{\n csync cmd="sync_server -C {self.imapd_conf}" listen="127.0.0.1:{self.sync_port}"'
                                ' prefork=1 maxchild=20 proto="tcp4"\n')
        else:
            text += f'DAEMON {{\n syncclient cmd="sync_client -C {self.imapd_conf} -r"\n}}\n'
        with open(self.cyrus_conf, 'w') as f:
            f.write(text)

    def cpu(self):
        """seconds that its sync_client or sync_server has used"""
        total = 0.0
        for pid in processes.offspring(self.master.pid):
            try:
                with open(f'/proc/{pid}/comm') as f:
                    if f.read().strip() in PROGRAMS:
                        total += tools.cpu(pid)
            except FileNotFoundError:
                pass                                       # it has just ended
        return total


class SyncPair:
    """What a Pair is for mailsync, as far as the row needs it."""

    def __init__(self, where, users):
        port = free_port()
        self.ends = self.p, self.r = [Synced(f'{where}/{role}', role, port) for role in ('primary', 'replica')]
        for s in reversed(self.ends):
            s.create()
            s.start()
        imap.make_users(self.p.port['imap'], users)

    def cpu(self):
        return [s.cpu() for s in self.ends]

    def close(self):
        for s in self.ends:
            s.kill()


class MailsyncPair:
    def __init__(self, bench):
        self.bench, self.pair = bench, bench.pair()
        self.p, self.r = self.pair.p.cyrus, self.pair.r.cyrus

    def cpu(self):
        return [tools.cpu(s.daemon.pid) for s in (self.pair.p, self.pair.r)]

    def close(self):
        self.bench.done(self.pair)


class Probe:
    """deliveries of 10 KB to four users, and when their files are in the replica's store"""

    def __init__(self, ends):
        self.ends, self.rng, self.serial = ends, random.Random(4), 0
        self.boxes = [ends.p.tool('mbpath', 'user/' + imap.user(u)).split()[-1] for u in range(4)]
        self.next = [1 + max((int(f[:-1]) for f in os.listdir(box) if f.endswith('.') and f[:-1].isdigit()), default=0) for box in self.boxes]

    def deliver(self, lmtp):
        """the path that the message will have in the replica's store"""
        u = self.serial % 4
        self.serial += 1
        lmtp.deliver([imap.user(u)], imap.message(self.rng, f'sync-{self.serial}', 10_000))
        self.next[u] += 1
        return f'{self.boxes[u]}/{self.next[u] - 1}.'.replace(self.ends.p.dir, self.ends.r.dir, 1)

    def until_there(self, path, since, patience=60):
        while not os.path.exists(path):
            if time.monotonic() > since + patience:
                raise Ended(f'{path}: not within {patience} s')
            time.sleep(.0005)
        return 1e3 * (time.monotonic() - since)

    def idle(self, count):
        out = []
        with imap.Lmtp(self.ends.p.port['lmtp']) as lmtp:
            for _ in range(count):
                path = self.deliver(lmtp)
                out.append(self.until_there(path, time.monotonic()))
                time.sleep(.03 + .1 * self.rng.random())   # not in step with who polls
        return out

    def busy(self, count, rate=50):
        """(milliseconds of every fourth, CPU milliseconds of both ends for each delivery, deliveries a second)"""
        out, threads, before = [], [], self.ends.cpu()
        with imap.Lmtp(self.ends.p.port['lmtp']) as lmtp:
            start = time.monotonic()
            for i in range(count):
                time.sleep(max(0, start + i / rate - time.monotonic()))
                path = self.deliver(lmtp)
                if i % 4 == 3:
                    t = time.monotonic()
                    threads.append(threading.Thread(target=lambda p=path, t=t: out.append(self.until_there(p, t)), daemon=True))
                    threads[-1].start()
            took = time.monotonic() - start
        for t in threads:
            t.join(90)
        return out, [1e3 * (x - y) / count for x, y in zip(self.ends.cpu(), before)], count / took


def sync(b):
    if not installed():
        raise Ended("no sync_client: Debian's package cyrus-replication")
    n = 30 if b.o.quick else 100
    peer, us = 'Cyrus sync_client', 'mailsync'
    where = f'{b.where}/sync'
    os.mkdir(where)
    os.chmod(where, 0o755)
    ends = {us: MailsyncPair(b), peer: SyncPair(where, range(8))}
    try:
        probes = {name: Probe(e) for name, e in ends.items()}
        with imap.Lmtp(ends[peer].p.port['lmtp']) as lmtp:                 # it takes some ten seconds to connect
            probes[peer].until_there(probes[peer].deliver(lmtp), time.monotonic(), 90)
        for _, name in b.turns(list(ends)):
            idle = probes[name].idle(n)
            busy, used, rate = probes[name].busy(4 * n)
            for row, values in (('file at the replica, idle', idle), ('file at the replica, 50/s', busy)):
                for q, label in ((.5, 'p50'), (.99, 'p99')):
                    b.add(row, label, 'ms', name, tools.quantile(values, q), us)
            b.add('file at the replica, 50/s', 'deliveries done', '1/s', name, rate)
            for label, value in zip(('CPU, primary, a delivery', 'CPU, replica, a delivery'), used):
                b.add('file at the replica, 50/s', label, 'ms', name, value, us)
    finally:
        ends[peer].close()
        ends[us].close()
        tools.remove(where)
