"""Several clients at work at once; then equal trees, a sound store, and a fail-over that shows the same over IMAP."""
import contextlib
import random
import threading
import time

from lab import imap
from lab.imap import Imap, Refused
from runner import scenario

from .common import PairGroup, told


class Load(PairGroup):
    """load"""

    def work(self, secs, **kw):
        self.make(users=range(10), **kw).start()
        with self.pair.load(seed=self.run.seed) as b:
            self.watch(secs)
        self.judge()
        self.pair.fail_over()
        return told(b)

    @scenario('clients at work, then a fail-over')
    def default(self):
        return self.work(self.quick_or(8, 20))

    @scenario('clients at work, then a fail-over, with conversations')
    def conversations(self):
        return self.work(self.quick_or(5, 20), options={'conversations': 'yes'})

    @scenario('clients at work, then a fail-over, with immediate expunge')
    def immediate(self):
        return self.work(self.quick_or(4, 15), options={'expunge_mode': 'immediate', 'delete_mode': 'immediate'})

    @scenario('clients at work, then a fail-over, in legacy directories')
    def legacy(self):
        return self.work(self.quick_or(4, 15), options={'mailbox_legacy_dirs': 'yes'})

    @scenario('clients at work, then a fail-over, with a metadata partition')
    def metapartition(self):
        return self.work(self.quick_or(4, 15), metapartition=True)

    @scenario('users moved to and fro between partitions, while mail arrives')
    def to_and_fro(self):
        pair = self.make(users=range(8), settings=dict(removal_brake='off')).start()
        rounds = self.quick_or(6, 30)
        for number in range(rounds):
            with pair.load(seed=self.rng.randrange(10**6), rate=self.rng.choice((0, 100, 300)), clients=3):
                time.sleep(self.rng.random())
            with Imap(pair.p.cyrus.port['imap']) as a:
                for user in self.rng.sample(range(8), 3):
                    for partition in ('second', 'default') * self.rng.choice((1, 2)):
                        with contextlib.suppress(Refused):       # it is there already
                            a.say('RENAME', *['user/' + imap.user(user)] * 2, partition)
            pair.compare_trees()
        return f'{rounds} rounds'

    def remake(self, number, stop, counts):
        """mailboxes made, renamed and deleted by one user, as fast as Cyrus answers"""
        rng, mine = random.Random(self.run.seed + number), []
        with Imap(self.pair.p.cyrus.port['imap'], imap.user(number)) as s:
            for n in range(10**6):
                if stop.is_set():
                    break
                what = rng.choices(('create', 'rename', 'delete'), (40, 35, 25))[0] if mine else 'create'
                name = f'INBOX/made-{n}'
                if what == 'create':
                    s.say('CREATE', name)
                    s.put(name, imap.message(rng, f'{number}-{n}', 500))
                    mine.append(name)
                elif what == 'rename':
                    k = rng.randrange(len(mine))
                    s.say('RENAME', mine[k], name)
                    mine[k] = name
                else:
                    s.say('DELETE', mine.pop(rng.randrange(len(mine))))
                counts[number] += 1

    @scenario('mailboxes made, renamed and deleted without a rest: what is promoted then is sound')
    def remaking(self):
        pair = self.make(users=range(6), options={'delete_mode': 'immediate'}, settings=dict(removal_brake='off')).start()
        stop, counts = threading.Event(), [0] * 3
        workers = [threading.Thread(target=self.remake, args=(k, stop, counts)) for k in range(3)]
        for w in workers:
            w.start()
        self.watch(self.quick_or(4, 20))
        pair.kill('p')
        stop.set()
        for w in workers:
            w.join()
        pair.promote()
        return f'{sum(counts)} operations; {pair.check_replica()}'

    @scenario('one client after another in a hurry: deliveries only, as fast as they come')
    def deliveries(self):
        self.make(users=range(10)).start()
        with self.pair.load(seed=self.run.seed, rate=0, mode='deliver') as b:
            self.watch(self.quick_or(4, 15))
        self.judge()
        return told(b)

    @scenario('a storm of changes, faster than a Cyrus')
    def storm(self):
        self.make(store=['--users', 20, '--messages', 2000, '--median', 1500]).start(cyrus=False)
        with self.pair.storm(rate=self.quick_or(600, 1000), seed=self.run.seed) as b:
            self.watch(self.quick_or(5, 20))
        self.judge()
        return told(b)
