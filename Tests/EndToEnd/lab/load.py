#!/usr/bin/env python3
"""load.py --imap PORT --lmtp PORT --sieve PORT --http PORT [options]: several clients at work on a live Cyrus.

Each client is a thread with a random stream of its own; a user's mailboxes are made, renamed and removed by one client
only, mail is delivered to anybody by anyone. Ends at the end of its standard input, then prints a line of JSON. All
sessions are closed by then, and the server has let go of every mailbox.
"""
import argparse
import collections
import imaplib
import json
import os
import random
import sys
import threading
import time

if __name__ == '__main__':
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from lab.imap import Dav, Imap, Lmtp, ManageSieve, Refused, message, quoted, user    # noqa: E402

MIXED = dict(deliver=30, several=6, flag=20, keyword=5, seen=6, expunge=6, append=8, copy=6, move=5, create=2, rename=1, delete=1,
             subscribe=2, unsubscribe=1, sieve=1, quota=1, metadata=2, annotation=2, acl=1, event=1)
MIXES = dict(mixed=MIXED, deliver=dict(deliver=85, several=15), move=dict(move=2, pass_on=1), dav=dict(sieve=60, event=20, deliver=20))


class Client:
    def __init__(self, a, number):
        self.a, self.number = a, number
        self.rng = random.Random(f'{a.seed}/{number}')
        self.mine = [i for i in range(a.users) if i % a.clients == number] or [number % a.users]
        self.boxes = {i: ['INBOX', 'INBOX/Sent', 'INBOX/Archive'] for i in self.mine}
        self.sessions, self.lmtp, self.made, self.may = {}, None, 0, False
        self.done, self.refused, self.broken, self.first = collections.Counter(), 0, 0, []

    def name(self):
        self.made += 1
        return f'{self.a.seed}-{self.number}-{self.made}'

    def session(self, who):
        if who not in self.sessions:
            if len(self.sessions) > 4:
                self.sessions.pop(next(iter(self.sessions))).bye()
            self.sessions[who] = Imap(self.a.imap, who)
        return self.sessions[who]

    def run(self, stopped):
        names, chances = list(MIXES[self.a.mode]), list(MIXES[self.a.mode].values())
        start, n = time.monotonic(), 0
        while not stopped.is_set():
            if self.a.rate:
                stopped.wait(max(0, start + n * self.a.clients / self.a.rate - time.monotonic()))
            n += 1
            op = self.rng.choices(names, chances)[0]
            try:
                getattr(self, op)(self.rng.choice(self.mine))
                self.done[op] += 1
            except Refused as e:
                self.refused += 1
                self.first = self.first or [f'{op}: {e}']
            except (imaplib.IMAP4.error, OSError, EOFError) as e:
                self.broken += 1
                self.first = self.first or [f'{op}: {e!r}']
                self.close()
        self.close()

    def close(self):
        for s in self.sessions.values():
            s.bye()
        self.sessions = {}
        if self.lmtp:
            self.lmtp.bye()
            self.lmtp = None

    # ---- operations on user number i
    def send(self, users):
        if not self.lmtp:
            self.lmtp = Lmtp(self.a.lmtp)
        return self.lmtp.deliver([user(x) for x in users], message(self.rng, self.name()))

    def deliver(self, i):
        self.send([self.rng.randrange(self.a.users)])

    def several(self, i):
        self.send(self.rng.sample(range(self.a.users), min(self.a.users, self.rng.randint(2, 5))))

    def some(self, i):
        """(session, uid) of a message in one of the user's mailboxes"""
        s = self.session(user(i))
        s.enter(self.rng.choice(self.boxes[i]))
        uids = s.uids()
        return s, self.rng.choice(uids) if uids else None

    def flag(self, i):
        s, uid = self.some(i)
        if uid:
            s.on(uid, 'STORE', self.rng.choice('+-') + 'FLAGS', self.rng.choice(['\\Flagged', '\\Answered', '\\Deleted', '\\Draft', '\\Seen']))

    def keyword(self, i):
        s, uid = self.some(i)
        if uid:
            s.on(uid, 'STORE', '+FLAGS', f'$label{self.rng.randrange(20)}')

    def seen(self, i):
        s, uid = self.some(i)
        if uid:
            s.on(uid, 'FETCH', '(BODY[TEXT])')

    def expunge(self, i):
        s, uid = self.some(i)
        if uid:
            s.on(uid, 'STORE', '+FLAGS.SILENT', '\\Deleted')
            s.say('EXPUNGE')

    def append(self, i):
        self.session(user(i)).put(self.rng.choice(self.boxes[i]), message(self.rng, self.name()), '\\Seen')

    def copy(self, i):
        s, uid = self.some(i)
        if uid:
            s.on(uid, 'COPY', quoted(self.rng.choice(self.boxes[i])))

    def move(self, i):
        s, uid = self.some(i)
        if uid:
            s.on(uid, 'MOVE', quoted(self.rng.choice(self.boxes[i])))

    def pass_on(self, i):
        """from one user to another, or to and fro a shared mailbox; by one who may, in mailboxes that nobody renames"""
        s, boxes = self.session('admin'), ['user/' + user(x) for x in range(self.a.users)] + ['shared']
        if not self.may:
            s.create('shared')                                   # another client may have
            s.say('SETACL', 'shared', 'admin', 'lrswipkxtecdan')
            self.may = True
        source, target = self.rng.sample(boxes, 2)
        s.enter(source)
        uids = s.uids()
        if uids:
            s.on(self.rng.choice(uids), 'MOVE', quoted(target))

    def create(self, i):
        box = 'INBOX/f' + self.name()
        s = self.session(user(i))
        s.say('CREATE', quoted(box))
        self.boxes[i].append(box)
        s.say('SUBSCRIBE', quoted(box))

    def rename(self, i):
        if len(self.boxes[i]) > 3:
            new = 'INBOX/r' + self.name()
            self.session(user(i)).say('RENAME', quoted(self.boxes[i][-1]), quoted(new))
            self.boxes[i][-1] = new

    def delete(self, i):
        if len(self.boxes[i]) > 3:
            self.session(user(i)).say('DELETE', quoted(self.boxes[i].pop()))

    def subscribe(self, i):
        self.session(user(i)).say('SUBSCRIBE', quoted(self.rng.choice(self.boxes[i])))

    def unsubscribe(self, i):
        self.session(user(i)).say('UNSUBSCRIBE', quoted(self.rng.choice(self.boxes[i])))

    def sieve(self, i):
        with ManageSieve(self.a.sieve, user(i)) as s:
            name = f's{self.rng.randrange(3)}'
            s.put(name, 'require ["fileinto"];\nif header :contains "subject" "zz%s" { fileinto "INBOX"; }\n' % self.name())
            s.activate(name)

    def quota(self, i):
        self.session('admin').say('SETQUOTA', quoted('user/' + user(i)), f'(STORAGE {4_000_000 + self.rng.randrange(1000)})')

    def metadata(self, i):
        self.session(user(i)).say('SETMETADATA', quoted(self.rng.choice(self.boxes[i])), f'(/private/comment "note {self.name():>24}")')  # of one length: never less, once there

    def annotation(self, i):
        s, uid = self.some(i)
        if uid:
            s.on(uid, 'STORE', 'ANNOTATION', f'(/comment (value.priv "{self.name()}"))')

    def acl(self, i):
        self.session('admin').say('SETACL', quoted('user/' + user(i)), user(self.rng.randrange(self.a.users)) + 'x', self.rng.choice(['lr', 'lrs', 'lrswi']))

    def event(self, i):
        with Dav(self.a.http, user(i)) as d:
            d.put_event('e' + self.name())


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for o in ('imap', 'lmtp', 'sieve', 'http'):
        ap.add_argument('--' + o, type=int, required=True)
    ap.add_argument('--users', type=int, default=10)
    ap.add_argument('--clients', type=int, default=4)
    ap.add_argument('--seed', type=int, default=1)
    ap.add_argument('--rate', type=float, default=0, help='operations a second of all clients; 0: as many as possible')
    ap.add_argument('--mode', choices=MIXES, default='mixed')
    a = ap.parse_args()
    stopped, clients, start = threading.Event(), [Client(a, k) for k in range(a.clients)], time.monotonic()
    threads = [threading.Thread(target=c.run, args=(stopped,), daemon=True) for c in clients]
    for t in threads:
        t.start()
    while os.read(0, 4096):
        pass
    stopped.set()
    for t in threads:
        t.join()
    done = sum((c.done for c in clients), collections.Counter())
    print(json.dumps(dict(operations=sum(done.values()), refused=sum(c.refused for c in clients), broken=sum(c.broken for c in clients),
                          secs=round(time.monotonic() - start, 2), first=[x for c in clients for x in c.first], by_kind=done)))


if __name__ == '__main__':
    main()
