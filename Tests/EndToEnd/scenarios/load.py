"""Several clients at work at once; then equal trees, a sound store, and a fail-over that shows the same over IMAP."""
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
