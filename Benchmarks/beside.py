"""What clients of a busy Cyrus lose to mailsync: they deliver all the while, and mailsync works beside them for a moment, and not."""
import contextlib
import multiprocessing
import random
import time

import tools
from lab import imap
from tools import Ended

# so many seconds in turn, each after a moment
WINDOW, SETTLED = 5, 3


def deliver(port, users, counts, number):
    """delivers to anybody, on and on, and counts"""
    rng, made = random.Random(number), 0
    while True:
        with contextlib.suppress(EOFError, OSError), imap.Lmtp(port) as l:     # lmtpd ends after so many messages
            while True:
                made += 1
                l.deliver([imap.user(rng.randrange(users))], imap.message(rng, f'beside-{number}-{made}'))
                counts[number] += 1


class Clients:
    """deliver until the end of `with`"""

    def __init__(self, pair, count):
        self.counts = multiprocessing.Array('Q', count)
        arguments = ((pair.p.cyrus.port['lmtp'], 8, self.counts, n) for n in range(count))
        self.processes = [multiprocessing.Process(target=deliver, args=a, daemon=True) for a in arguments]

    def __enter__(self):
        for c in self.processes:
            c.start()
        return self

    def __exit__(self, *_):
        for c in self.processes:
            c.kill()
            c.join()

    def window(self, b, name, reference, daemons=()):
        """the next seconds go to `name`'s account, and to that of `daemons`: (end, process)"""
        def now():
            return sum(self.counts), time.monotonic(), tools.machine_cpu(), *(tools.cpu(process.pid) for _, process in daemons)
        time.sleep(SETTLED)
        before = now()
        time.sleep(WINDOW)
        done, secs, *cpu = (y - x for x, y in zip(before, now()))
        if not done:
            raise Ended(f'no delivery in {WINDOW} s')
        row = f'LMTP, {len(self.counts)} connections'
        b.add(row, 'rate', 'deliveries/s', name, done / secs, reference)
        for who, used in zip(('machine', *(end for end, _ in daemons)), cpu):
            b.add(row, f'CPU of the {who} per delivery', 'ms', name, 1e3 * used / done, reference)


def verify(b):
    """`verify` back to back at its default rate, both daemons at work all the while"""
    p = b.pair(('--users', 80, '--messages', 20000))
    p.wait_now(patience=180)
    with Clients(p, 4) as clients:
        for _, name in b.turns(['without verify', 'verify back to back']):
            follow = p.background(p.p, 'verify', '--follow', '--json') if name != 'without verify' else None
            clients.window(b, name, 'without verify')
            if follow:
                follow.terminate()                           # SIGINT is ignored where this runs in a shell's background
                follow.wait(60)
    b.done(p)


def daemons(b):
    """the primary's daemon, and both ends'; each is started anew for its turn, and has caught up when the turn begins"""
    p = b.pair(('--users', 80, '--messages', 20000))
    p.wait_now(patience=180)
    ends = {'without mailsync': '', 'primary only': 'p', 'both ends here': 'pr'}
    with Clients(p, 6) as clients:                           # they leave user 79 to `lags`
        for _, name in b.turns(list(ends)):
            for side in 'rp':
                if p.side(side).running and side not in ends[name]:
                    p.stop_daemon(side)
            for side in ends[name]:
                if not p.side(side).running:
                    p.start_daemon(side)
            if name == 'both ends here':
                tools.barrier(p, 'applied')
            elif ends[name]:
                tools.running(p)
                tools.ask(p.p, {'positionNow': {'timeoutSeconds': 60}}, 70)
            clients.window(b, name, 'without mailsync', [('primary' if side == 'p' else 'replica', p.side(side).daemon) for side in ends[name]])
        for side in 'rp':
            if not p.side(side).running:
                p.start_daemon(side)
        tools.running(p)
        tools.barrier(p, 'applied')
        for _ in range(b.rounds):
            for secs in lags(p):
                b.add(f'LMTP, {len(clients.counts)} connections', 'from 250 until in the replica\'s store', 'ms', 'both ends here', 1e3 * secs)
    b.done(p)


def lags(p):
    """of ten deliveries to a user whom the clients leave alone: seconds until the replica's store has each"""
    rng, number = random.Random(), 79
    here = p.p.cyrus.tool('mbpath', 'user/' + imap.user(number)).split()[-1]
    with imap.Lmtp(p.p.cyrus.port['lmtp']) as l:
        for _ in range(10):
            l.deliver([imap.user(number)], imap.message(rng, f'beside-{rng.random()}'))
            t = time.monotonic()
            tools.wait_for_index(here, here.replace(p.p.cyrus.dir, p.r.cyrus.dir, 1), 60, every=.002)
            yield time.monotonic() - t
            time.sleep(rng.uniform(.1, .4))                  # at no particular time of a pause
