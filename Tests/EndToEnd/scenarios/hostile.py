"""Peers and clients that were broken into, or are merely broken: what they reach, and who else suffers."""
import contextlib
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import time

import peer
from lab import imap, processes
from lab.instance import OWNER
from pair import Failure
from runner import Skip, scenario

from .common import PairGroup

MIB = 1 << 20
OWN = processes.account(OWNER)
PACKAGING = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../../packaging')


def resident(process):
    """bytes"""
    with open(f'/proc/{process.pid}/statm') as f:
        return int(f.read().split()[1]) * os.sysconf('SC_PAGESIZE')


def log_of(side):
    with open(side.log, errors='replace') as f:
        return f.read()


class Hostile(PairGroup):
    """hostile"""

    def deliver(self, count=1, size=None):
        with imap.Lmtp(self.pair.p.cyrus.port['lmtp']) as l:
            for _ in range(count):
                l.deliver(['u00000', 'u00001'], imap.message(self.rng, f'hostile-{self.rng.random()}', size))

    def log_of(self, side, *words):
        text = log_of(side)
        for word in words:
            if word not in text:
                raise Failure(f'{side.name}: its log does not say "{word}"')

    def within(self, process, before, allowed):
        grown = resident(process) - before
        if grown > allowed:
            raise Failure(f'memory grew by {grown >> 20} MiB')
        return f'memory grew by {max(0, grown) >> 20} MiB'

    @scenario('a replica that says what no replica says is refused with the reason, and the others go on')
    def odd_replicas(self):
        pair = self.make(users=range(4)).start()
        self.deliver(3)
        pair.wait_now()
        newest = pair.positions('p')['journaled']
        for word, hello in (
                ('store is "mail1", the replica', peer.hello(b'other')),
                ('run one version on both ends', peer.hello(b'mail1', version=peer.VERSION + 1)),
                ('was promoted elsewhere', peer.hello(b'mail1', epoch=7)),
                ('ahead of this log', peer.hello(b'mail1', at=(1, 1 << 40))),
                ('forked from this one', peer.hello(b'mail1', at=newest, hash=b'\1' * 32))):
            with peer.dial(pair.r, pair.p.listen) as talk:
                talk.say(peer.HELLO, hello)
                peer.refused(talk.reason(), word)
            self.log_of(pair.p, word)
        rng = random.Random(self.run.seed)
        for nonsense in (b'', b'\0' * 4, struct.pack('>I', 0xffffffff), struct.pack('>IB', 30 * MIB, 1) + b'x' * 1000,
                         struct.pack('>IB', 5, 99) + b'abcd', *(rng.randbytes(300) for _ in range(20))):
            with peer.dial(pair.r, pair.p.listen) as talk:
                talk.sock.sendall(nonsense)
        self.deliver()
        pair.wait_now(patience=30)
        pair.compare_trees()

    @scenario('two hundred connections that say nothing, or half a handshake, again and again, while clients are at work')
    def flood(self):
        pair = self.make(users=range(4)).start()
        hello, strangers = peer.client_hello(), []
        # nothing, half a hello, all of it and nothing behind, its head and no more, a hello and nonsense
        beginnings = b'', hello[:len(hello) // 2], hello, hello[:5], hello + b'\x17\x03\x03\x00\x10' + bytes(16)
        try:
            said = self.besieged(strangers, beginnings, self.quick_or(3, 30))
            with pair.load(seed=self.run.seed):
                self.watch(self.quick_or(2, 10))
            pair.restart('r')                                # its handshake is one among them
            pair.wait_now(patience=30)
            self.are_closed(strangers)
        finally:
            for s in strangers:
                s.close()
        self.log_of(pair.p, 'have not shown who they are')
        self.judge()
        return said

    def besieged(self, strangers, beginnings, rounds):
        """200 connections to the primary in each round, that say one of `beginnings` and no more: they cost what those 64 do that may wait"""
        process = self.pair.p.daemon
        self.pair.wait_now()
        before, files, held = resident(process), len(os.listdir(f'/proc/{process.pid}/fd')), 0
        for _ in range(rounds):
            for k in range(200):
                s = socket.create_connection(('127.0.0.1', self.pair.p.listen), 10)
                strangers.append(s)
                with contextlib.suppress(ConnectionError):   # it was closed meanwhile
                    s.sendall(beginnings[k % len(beginnings)])
            processes.until(lambda: len(os.listdir(f'/proc/{process.pid}/fd')) - files < 100, 10, 'fewer than 100 descriptors more than before')
            held = max(held, len(os.listdir(f'/proc/{process.pid}/fd')) - files)
        if held < 30:
            raise Failure(f'{held} connections were kept: nobody listens')
        return f'{self.within(process, before, 30 * MIB)}, {held} descriptors'

    def are_closed(self, strangers):
        """by the deadline of the handshake, and a moment"""
        deadline = time.monotonic() + 15

        def is_closed(s):
            s.settimeout(max(.01, deadline - time.monotonic()))
            try:
                while s.recv(10_000):                        # what answers a hello
                    pass
            except ConnectionError:
                pass
            except TimeoutError:
                return False
            return True
        left = sum(not is_closed(s) for s in strangers)
        if left:
            raise Failure(f'{left} connections are kept that have not shown who they are for long')

    @scenario('a replica that asks for everything and reads nothing')
    def slow_reader(self):
        pair = self.make(users=range(4)).start()
        self.deliver()
        asked = self.quick_or(200, 1000) * MIB
        box = pair.p.cyrus.tool('mbpath', 'user/u00000').strip().splitlines()[-1]
        for k in range(asked // MIB):                        # which cannot be compressed
            with open(f'{box}/{9000 + k}.', 'wb') as f:
                f.write(self.rng.randbytes(MIB))
            pair.p.cyrus.own(f.name)
        pair.wait_now()
        slow = type(pair.r)('s', self.where, None, False)
        slow.cyrus.create()
        slow.cyrus.own_directory(slow.state, 0o700)
        pair.peer_port['s'] = pair.p.listen
        pair.configure(slow)
        pair.command(slow, 'init', '--role', 'replica')
        with open(pair.p.config, 'a') as f:
            f.write(f'peer_fingerprint.slow: {pair.command(slow, "fingerprint").stdout.strip()}\n')
        pair.restart('p')
        pair.wait_now()
        before = resident(pair.p.daemon)
        with peer.dial(slow, pair.p.listen) as talk:
            talk.say(peer.HELLO, peer.hello(b'mail1', purpose=peer.SEED_EMPTY))
            asked_at = time.monotonic()
            processes.until(lambda: len(pair.status('p')['replicas']) == 2, 20, 'the slow one is known')
            self.deliver(10, 200_000)
            # A wait is for all replicas: this one is never there.
            if not pair.is_behind(2):
                raise Failure('wait --now succeeded for a replica that reads nothing')
            processes.until(lambda: not pair.tree_differences(), 30, 'the other replica has all')
            said = self.within(pair.p.daemon, before, 50 * MIB)
            said += f' of {asked >> 20} asked for'
            if not self.run.quick:                           # takes as long as the program is patient
                processes.until(lambda: 'nothing heard from the other end for' in log_of(pair.p), 40, 'the end of a link at which nothing is said')
                said += f', {time.monotonic() - asked_at:.0f} s until the link was ended'
                if not pair.is_behind():
                    raise Failure('wait --now succeeded for a replica that reads nothing')
        return said

    # ---- a primary that was broken into
    def good(self, at, hash, n):
        return peer.batch((at[0], at[1] + 1), hash, peer.directory(b'partition-default', b'h%d' % n), 1)

    def bad_batches(self, at, hash, next_hash):
        """(word of the refusal, bytes): each follows `at` but for what is wrong with it"""
        epoch, sequence = at
        gone = peer.remove(b'partition-default', b'x')

        def made(payload=gone, count=1, at=(epoch, sequence + 1), hash=next_hash, **more):
            return peer.batch(at, hash, payload, count, **more)[0]
        zeros = b'\x1f\0\1\0' + b'\xff' * (64 * MIB // 255 - 1) + b'\0' + b'\x50' + bytes(5)
        yield 'a damaged batch', made()[:-1] + b'\xff'
        yield 'came where', made(at=(epoch, sequence + 5))
        yield 'does not follow', made(hash=b'\7' * 32)
        yield 'part of a seed', made(kind=1)
        yield 'in a log that is at epoch', made(at=(epoch - 1, sequence + 1))
        for path in (b'../x', b'/etc/passwd', b'a/../../x', b'a\0b', b'a//b'):
            yield 'cannot be read', made(peer.symlink(b'partition-default', path, b'/etc'))
        yield 'cannot be read', made(zeros, raw=64 * MIB)
        yield 'cannot be read', made(zeros, count=1 << 20, raw=64 * MIB)
        yield 'a damaged batch', made(gone, count=1 << 27, raw=1 << 27)
        yield 'is no batch', made(at=(epoch, (1 << 64) - 1))

    @scenario('a primary with the right key that sends what no primary sends')
    def odd_primary(self):
        if not peer.checksum():
            raise Skip('needs libxxhash, to seal batches')
        pair = self.make(users=range(4)).start()
        self.deliver(3)
        pair.compare_trees()
        outside = f'{self.where}/outside'
        pair.r.cyrus.own_directory(outside, 0o700)
        with open(f'{outside}/x', 'w') as f:
            f.write('precious')
        shutil.chown(f'{outside}/x', OWNER)
        pair.stop_daemon('p')
        process, before, n = pair.r.daemon, resident(pair.r.daemon), 0
        with peer.Impostor(pair.p) as impostor:
            words = None
            while words is None or n < len(words):
                talk, at, hash = impostor.welcome()
                with talk:
                    batch, chain = self.good(at, hash, n)
                    words = list(self.bad_batches((at[0], at[1] + 1), None, chain))
                    word, bad = words[n]
                    talk.say(peer.BATCH, batch)
                    talk.say(peer.BATCH, batch)              # twice is once
                    talk.say(peer.BATCH, bad)
                    peer.refused(talk.reason(), word)
                n += 1
            said = self.within(process, before, 400 * MIB)
            talk, _, _ = impostor.accept()
            with talk:
                talk.say(peer.REFUSE, b'\x07' + peer.text(b'go \x1b[2J\nmailsync: away'))
            processes.until(lambda: 'go \\x1B[2J\\x0Amailsync: away' in '\n'.join(pair.r.log_tail(40)), 15, 'the words of a refusal, made harmless')
            # Sealed, readable, and about what no primary ships, or meant to lead out.
            talk, at, hash = impostor.welcome()
            with talk:
                odd = b''.join([
                    peer.remove(b'configdirectory', b'lock'), peer.remove(b'configdirectory', b'proc'),
                    peer.symlink(b'partition-default', b'.mailsync/new-1', b'/etc'),
                    peer.symlink(b'partition-default', b'out', outside.encode()),
                    peer.remove(b'partition-default', b'out/x'), peer.symlink(b'partition-default', b'out/y', b'z'),
                    peer.directory(b'partition-default', b'out/d'), peer.remove(b'partition-nowhere', b'a')])
                batch, _ = peer.batch((at[0], at[1] + 1), hash, odd, 8)
                talk.say(peer.BATCH, batch)
                while True:                                  # until it is flushed; what fails is awaited, and not acked as applied
                    if peer.flushed(talk.hear_until(peer.ACK)[1]) > at[1]:
                        break
                processes.until(lambda: 'partition-nowhere/a' in '\n'.join(pair.r.log_tail(40)), 15, 'the last of them in the log')
        if os.listdir(outside) != ['x'] or open(f'{outside}/x').read() != 'precious':
            raise Failure(f'it got out of its roots: {os.listdir(outside)}')
        if pair.r.daemon.poll() is not None:
            raise Failure(f'the replica ended with {pair.r.daemon.returncode}')
        self.log_of(pair.r, 'lock never travels', 'refused:')
        # The true primary's log is another one now: the replica compares itself with it.
        pair.start_daemon('p')
        processes.until(lambda: not pair.tree_differences(), 90, 'the replica is what the primary is')
        pair.wait_now()
        pair.compare_trees()
        return f'{len(words)} refusals, {said}'

    @scenario('a client of the control socket that talks nonsense, or nothing')
    def control(self):
        pair = self.make(users=range(2)).start()
        rng = random.Random(self.run.seed)
        requests = [b'{"status":{}}', b'{"resume":{}}', b'{"wait":{"position":"1/1","level":"applied","timeoutSeconds":1}}', b'{"positionNow":{"timeoutSeconds":1}}',
                    b'{"verify":{"_0":{"depth":"metadata","repair":false,"path":"partition-default/user/u/u00000","maxRate":9999999}}}',
                    b'{"verify":{"_0":{"depth":"content","repair":true,"mailbox":"user/u00001","samplePart":1,"sampleParts":7}}}']
        odd = [b'', b'\n', b'{', b'[' * 60_000, b'null', b'{"wait":{"position":"1/1","level":"applied","timeoutSeconds":1e308}}',
               b'{"positionNow":{"timeoutSeconds":-1e308}}', b'{"wait":{"position":"9999999999/1","level":"x","timeoutSeconds":0}}', b'x' * 200_000]
        for _ in range(int(os.environ.get('REQUESTS', self.quick_or(300, 3000)))):
            data = bytearray(rng.choice(requests))
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(data))
                data[at:at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
                data = data or bytearray(b' ')
            odd.append(bytes(data))
        for side in (pair.p, pair.r):
            silent = []
            for _ in range(40):
                s = socket.socket(socket.AF_UNIX)
                s.connect(f'{side.state}/control')
                silent.append(s)
            for data in odd:
                if b'promote' in data or b'stop' in data:
                    continue
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(f'{side.state}/control')   # waits while many do, unlike with a timeout
                    s.settimeout(3)
                    try:
                        s.sendall(data + b'\n')
                        s.shutdown(socket.SHUT_WR)
                        answer = s.makefile('rb').readline()
                    except (BrokenPipeError, ConnectionResetError, TimeoutError):
                        continue                             # too long, and not read to the end; or a wait of a year
                    json.loads(answer)
            pair.status(side)
            for s in silent:
                s.close()
        self.deliver()
        pair.compare_trees()
        return f'{len(odd)} requests to either end'


class Confinement(PairGroup):
    """confinement"""

    @scenario('what the units of packaging leave to either daemon is enough for it, and no more than its own')
    def units(self):
        if subprocess.run(['unshare', '-m', 'mount', '--bind', '/', '/'], capture_output=True).returncode:
            raise Skip('no mount namespace can be made')
        pair = self.make(users=range(4)).start()
        for side, files in (pair.p, ['mailsync@.service', 'primary.conf']), (pair.r, ['mailsync@.service']):
            pair.stop_daemon(side)
            pair.start_daemon(side, under=self.unit(side, files), run_as='root')
        gone = f"{pair.p.roots['partition-default']}/gone"
        pair.p.cyrus.own_directory(gone, 0o700)
        with pair.load(seed=self.run.seed, clients=2, rate=80):
            self.watch(2)
        with open(gone + '/kept', 'w') as f:
            f.write('by the quarantine, on another mount')
        pair.p.cyrus.own(gone + '/kept')
        pair.wait_now()
        shutil.rmtree(gone)
        pair.compare_trees()
        if '/gone/kept' not in pair.command(pair.r, 'quarantine', 'list', '--config', pair.r.config, bare=True).stdout:
            raise Failure('what was removed is not in the quarantine')
        for side, place, may in [(pair.p, x, False) for x in pair.p.roots.values()] + [(pair.r, self.where, False), (pair.r, pair.r.state, True)]:
            tried = subprocess.run(['nsenter', '-t', str(side.daemon.pid), '-m', '-S', str(OWN['user']), '-G', str(OWN['group']),
                                    'touch', place + '/tried'],
                                   capture_output=True, text=True)
            if may != (tried.returncode == 0) or not may and 'Read-only' not in tried.stderr:
                raise Failure(f'{side.name}: a file in {place}: {tried.stderr or "can be made"}')

    def unit(self, side, files):
        """before a daemon's command line: it may write what these files of packaging let it, where Debian's paths are this side's; each is a mount
        of its own, as systemd makes them"""
        at = {k: [] for k in ('/var/lib/cyrus', '/var/spool/cyrus', '/var/spool/sieve', '/run/cyrus')}     # the lab's locks are in the first
        for name, root in side.roots.items():
            at['/var/spool/cyrus' if 'partition' in name else '/var/spool/sieve' if name == 'sievedir' else '/var/lib/cyrus'].append(root)
        said = {}
        for name in files:
            with open(os.path.join(PACKAGING, name)) as f:
                for key, value in (x.strip().split('=', 1) for x in f if '=' in x and not x.startswith('#')):
                    said[key] = said.get(key, []) + value.split() if value else []
        if said['ProtectSystem'] != ['strict'] or said['StateDirectory'] != ['mailsync/%i']:
            raise Failure(f'the unit is not what this test knows: {said}')
        writable, readable = ([r for path in said.get(key, []) for r in at[path.lstrip('-')]] for key in ('ReadWritePaths', 'ReadOnlyPaths'))
        script = ['set -e', 'export PATH=$PATH:/usr/sbin:/sbin', 'on=$(findmnt -nT "$1" -o TARGET)', 'shift']
        script += [f'mount --bind {x} {x}' for x in [side.state, *writable, *readable]]
        script += [f'mount -o remount,bind,ro {x}' for x in [*readable, '"$on"', '/']]
        drop = f'exec setpriv --reuid {OWN["user"]} --regid {OWN["group"]} --init-groups "$@"'
        return ['unshare', '-m', '--propagation', 'private', 'sh', '-c', '\n'.join([*script, drop]), 'sh', self.where]

    def astray(self, side, name):
        """the daemon's own directory `name` leads to one that is no part of what it may write"""
        pair = self.pair
        outside = f'{self.where}/outside-{side.name}'
        side.cyrus.own_directory(outside, 0o700)
        pair.stop_daemon(side)
        shutil.rmtree(f'{side.state}/{name}', ignore_errors=True)
        os.symlink(outside, f'{side.state}/{name}')
        pair.start_daemon(side)
        return outside

    def need(self, side):
        if 'landlock: not in this kernel' in log_of(side):
            raise Skip('this kernel has no Landlock')

    @scenario('the primary writes nothing but its state directory, whatever leads elsewhere')
    def primary(self):
        pair = self.make(users=range(4)).start()
        self.need(pair.p)
        # Within the store itself, which user cyrus may write: only Landlock is in the way.
        store = f"{pair.p.roots['partition-default']}/shadowed"
        pair.p.cyrus.own_directory(store, 0o700)
        pair.stop_daemon('p')
        shutil.rmtree(f'{pair.p.state}/shadow')
        os.symlink(store, f'{pair.p.state}/shadow')
        pair.start_daemon('p')
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            for n in range(40):
                l.deliver(['u00000'], imap.message(self.rng, f'm{n}'))
        pair.compare_trees()
        if os.listdir(store):
            raise Failure(f'the primary wrote into the store: {os.listdir(store)[:3]}')
        if 'Permission denied' not in log_of(pair.p):
            raise Failure('it did not even try')

    @scenario('the replica writes nothing but its roots and its state directory')
    def replica(self):
        pair = self.make(users=range(4)).start()
        self.need(pair.r)
        outside = self.astray(pair.r, 'quarantine')
        with imap.Lmtp(pair.p.cyrus.port['lmtp']) as l:
            l.deliver(['u00000'], imap.message(self.rng, 'gone soon'))
        pair.wait_now()
        gone = f"{pair.p.roots['partition-default']}/gone"
        pair.p.cyrus.own_directory(gone, 0o700)
        pair.wait_now()
        os.rmdir(gone)
        # what it may not keep it does not remove, nor say that it is applied
        processes.until(lambda: 'Permission denied' in log_of(pair.r), 20, 'that it tried')
        if os.listdir(outside):
            raise Failure(f'the replica wrote outside: {os.listdir(outside)[:3]}')

    @scenario('a promoted replica writes its state, and says that it still may write the store')
    def promoted(self):
        pair = self.make(users=range(4)).start()
        self.need(pair.r)
        pair.fail_over()
        if 'may write the store as it did before' not in log_of(pair.primary):
            raise Failure('it does not say so')
        pair.restart(pair.primary)
        if f'landlock: may write only {pair.primary.state};' not in log_of(pair.primary):
            raise Failure('started again it may still write the store')
        pair.demote()
        pair.compare_trees()
