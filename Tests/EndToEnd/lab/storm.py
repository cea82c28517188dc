#!/usr/bin/env python3
"""storm.py DIR --rate R --secs S [--mix M]: many changes a second to the store of an instance, without a Cyrus (mutate.py).

Open loop: operation k is due at start + k/rate, late or not. An operation that finds nothing to do becomes a flag
change. It ends after --secs, at SIGTERM, or when its standard input ends; then it prints a line of JSON.

--mix: cyrus | deliver | flags | names, or deliver=40,flag=30,... of
  deliver multi append flag keyword select seen expunge expire copy create rename delete purge subscribe quota
"""
import argparse
import collections
import json
import os
import random
import select
import signal
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab import processes                                  # noqa: E402
from lab.mutate import Worker                              # noqa: E402

MIXES = {
    'cyrus': 'deliver=34,multi=6,append=6,flag=24,keyword=2,select=8,seen=2,expunge=7,expire=.6,copy=4,create=1,rename=.5,delete=.6,purge=.3,subscribe=1,quota=.5',
    'deliver': 'deliver=85,multi=15', 'flags': 'flag=1', 'names': 'create=4,rename=3,delete=3,purge=2,subscribe=1',
}


class Stop:
    """Told by SIGTERM. No threading.Event: its lock may be held by the very thread that the handler interrupts."""

    def __init__(self):
        self.told = False
        self.reading, self.writing = os.pipe()
        signal.signal(signal.SIGTERM, self.tell)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def tell(self, *_):
        self.told = True
        os.write(self.writing, b'.')

    def wait(self, seconds):
        select.select([self.reading], [], [], seconds)


def work(a, number):
    """one worker's share of the schedule; a user belongs to one worker, shared files are protected by Cyrus's locks alone"""
    stop, w = Stop(), Worker(a, number)
    names, weights = zip(*[(k, float(v)) for k, v in (x.split('=') for x in MIXES.get(a.mix, a.mix).split(','))])
    schedule = random.Random(f'{a.seed}/ops')
    done, idle, late = collections.Counter(), 0, 0.0
    for k in range(int(a.rate * a.secs)):
        op = schedule.choices(names, weights)[0]
        user = int(len(w.names) * schedule.random() ** a.skew)
        if user % a.workers != number:
            continue
        due = a.t0 + k / a.rate
        stop.wait(max(0, due - time.monotonic()))
        if stop.told:
            break
        late = max(late, time.monotonic() - due)
        w.extra = []
        r = w.OPS[op](w, random.Random(a.seed << 32 | k), w.names[user])
        if not r and op != 'flag':
            op = 'flag'
            r = w.flag(random.Random(a.seed << 32 | k), w.names[user])
        if r:
            done[op] += 1
        else:
            idle += 1
    return dict(done=done, idle=idle, late=late)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('dir')
    ap.add_argument('--rate', type=float, default=200)
    ap.add_argument('--secs', type=float, default=10)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--mix', default='cyrus')
    ap.add_argument('--workers', type=int, default=2)
    ap.add_argument('--no-fsync', dest='fsync', action='store_false')
    ap.add_argument('--median', type=float, default=4000)
    ap.add_argument('--sigma', type=float, default=1.4)
    ap.add_argument('--skew', type=float, default=2.0, help='1: all users alike; more: the first users get more')
    ap.add_argument('--lockpath', help="imapd.conf's mboxname_lockpath, if set")
    a = ap.parse_args()
    d = os.path.abspath(a.dir)
    a.conf, a.parts, a.start = d + '/conf', dict(default=d + '/part1', second=d + '/part2'), int(time.time())
    if any('counters.db' in f for _, _, f in os.walk(a.conf + '/user')):
        sys.exit('counters.db: this store has conversations, which are not kept up here')
    os.umask(0o077)
    processes.become('cyrus')
    a.t0 = time.monotonic() + .2
    workers = []
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])     # until there is somebody to take it
    for number in range(a.workers):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                processes.die_with_parent()
                out = json.dumps(work(a, number))
                os.write(w, out.encode())
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        os.close(w)
        workers.append((pid, r))

    def end(*_):
        processes.send([p for p, _ in workers], signal.SIGTERM)
    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def at_end_of_input():
        while os.read(0, 100):
            pass
        end()
    threading.Thread(target=at_end_of_input, daemon=True).start()
    outs = [os.fdopen(r).read() for _, r in workers]
    if any([os.waitpid(p, 0)[1] for p, _ in workers]) or '' in outs:
        sys.exit('a worker failed')
    outs = [json.loads(x) for x in outs]
    done = collections.Counter()
    for o in outs:
        done.update(o['done'])
    print(json.dumps(dict(operations=sum(done.values()), idle=sum(o['idle'] for o in outs), secs=round(time.monotonic() - a.t0, 2),
                          latest_ms=round(1e3 * max(o['late'] for o in outs)), by_kind=done)))


if __name__ == '__main__':
    main()
