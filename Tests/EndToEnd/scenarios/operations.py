"""Every operation of Cyrus's, one at a time, on a live pair; after each the replica must equal the primary.

The daemons look for themselves only once a day here, so nothing but the hints of the moment can bring a change over.
"""
import os

from lab import diff
from lab.imap import Dav, Imap, Lmtp, ManageSieve, message, quoted
from runner import scenario

from .common import DAY, PairGroup

A, B, C, SECOND = 'u00000', 'u00001', 'u00002', 'u00004'    # the last one lives on the second partition


DELAYED = object()


def operation(title, changes=True):
    """`changes`: it must change something that is shipped, or the scenario has tested nothing; DELAYED: unless expunge is immediate"""
    def mark(f):
        f.changes = changes
        return scenario(title)(f)
    return mark


class Operations(PairGroup):
    """operations"""
    options, metapartition, shared, made = {}, False, True, 0

    def before(self):
        if self.pair is None:
            self.make(options=self.options, metapartition=self.metapartition, settings={'sweep_period': DAY}).start()
        self.port = self.pair.p.cyrus.port
        self.tool = self.pair.p.cyrus.tool
        self.at_start = diff.signature(self.pair.p.roots)

    def after(self):
        self.pair.compare_trees(patience=20)
        self.pair.command(self.pair.p, 'check', '--store')          # nothing that Cyrus does is an alarm

    def scenarios(self):
        return [self.checked(t) for t in super().scenarios()]

    def checked(self, test):
        def run():
            said = test()
            must = test.changes is True or test.changes is DELAYED and self.options.get('expunge_mode') != 'immediate'
            if must and diff.signature(self.pair.p.roots) == self.at_start:
                raise RuntimeError('the operation changed nothing on the primary')
            return said
        run.scenario, run.long = test.scenario, test.long
        return run

    # ---- small parts
    def name(self):
        self.made += 1
        return f'{self.run.seed}-{self.made}'

    def deliver(self, *users, bytes=None):
        with Lmtp(self.port['lmtp']) as l:
            got = l.deliver(users, message(self.rng, self.name(), bytes))
        if got != len(users):
            raise RuntimeError(f'delivered to {got} of {len(users)}')

    def imap(self, user='admin'):
        return Imap(self.port['imap'], user)

    def newest(self, s, box='INBOX'):
        s.enter(box)
        return s.uids()[-1]

    def box(self, user, parent='INBOX'):
        """a new mailbox with two messages"""
        box = f'{parent}/b{self.name()}'
        with self.imap(user) as s:
            s.say('CREATE', quoted(box))
            for _ in range(2):
                s.put(box, message(self.rng, self.name()))
        return box

    def user(self):
        """a new user with some mail"""
        user = 'v' + self.name().replace('-', '')
        with self.imap() as a:
            for b in ('', '/Sent', '/Archive'):
                a.say('CREATE', quoted(f'user/{user}{b}'))
                a.say('SETACL', quoted(f'user/{user}{b}'), 'admin', 'lrswipkxtecdan')
        self.deliver(user)
        return user

    def settled(self):
        """what was prepared is over on the replica, and the step proper is measured from here"""
        self.pair.wait_now()
        self.at_start = diff.signature(self.pair.p.roots)

    # ---- mail
    @operation('a delivery')
    def delivery(self):
        self.deliver(A)

    @operation('a delivery to three recipients is one file there too')
    def delivery_to_three(self):
        self.deliver(A, B, C)

    @operation('a delivery to three recipients on two partitions')
    def delivery_to_two_partitions(self):
        self.deliver(A, B, SECOND)

    @operation('two hundred deliveries, until deliver.db is repacked')
    def many_deliveries(self):
        path = self.pair.p.cyrus.conf + '/deliver.db'
        self.deliver(A)
        inodes = {os.stat(path).st_ino}
        for _ in range(10):
            with Lmtp(self.port['lmtp']) as l:
                for _ in range(20):
                    l.deliver([B], message(self.rng, self.name(), 600))
            inodes.add(os.stat(path).st_ino)
        if len(inodes) == 1:
            raise RuntimeError(f'deliver.db was not repacked: {os.path.getsize(path)} bytes')

    @operation('a message of three megabytes')
    def large_message(self):
        self.deliver(B, bytes=3_000_000)

    @operation('an append')
    def append(self):
        with self.imap(A) as s:
            s.put('INBOX/Sent', message(self.rng, self.name()), '\\Seen')

    @operation('an append with an internal date of long ago')
    def append_old(self):
        with self.imap(A) as s:
            s.put('INBOX/Sent', message(self.rng, self.name()), when=915148800)

    @operation('a flag')
    def flag(self):
        self.deliver(A)
        self.settled()
        with self.imap(A) as s:
            s.on(self.newest(s), 'STORE', '+FLAGS', '\\Flagged')

    @operation('a keyword that is new in the mailbox')
    def keyword(self):
        self.deliver(A)
        self.settled()
        with self.imap(A) as s:
            s.on(self.newest(s), 'STORE', '+FLAGS', '$k' + self.name().replace('-', ''))

    @operation('a message read by the owner')
    def seen_by_owner(self):
        self.deliver(A)
        self.settled()
        with self.imap(A) as s:
            s.on(self.newest(s), 'FETCH', '(BODY[])')

    @operation('a message read by another user')
    def seen_by_other(self):
        self.deliver(A)
        with self.imap() as a:
            a.say('SETACL', f'user/{A}', B, 'lrs')
        self.settled()
        with self.imap(B) as s:
            s.on(self.newest(s, f'user/{A}'), 'STORE', '+FLAGS', '\\Seen')

    @operation('an expunge')
    def expunge(self):
        self.deliver(A)
        self.settled()
        with self.imap(A) as s:
            s.on(self.newest(s), 'STORE', '+FLAGS', '\\Deleted')
            s.say('EXPUNGE')

    @operation('a copy')
    def copy(self):
        self.deliver(A)
        self.settled()
        with self.imap(A) as s:
            s.on(self.newest(s), 'COPY', 'INBOX/Archive')

    @operation('a move')
    def move(self):
        self.deliver(A)
        self.settled()
        with self.imap(A) as s:
            s.on(self.newest(s), 'MOVE', 'INBOX/Archive')

    @operation('a message annotation')
    def annotation(self):
        self.deliver(A)
        self.settled()
        with self.imap(A) as s:
            s.on(self.newest(s), 'STORE', 'ANNOTATION', f'(/comment (value.priv "{self.name()}"))')

    @operation('a delivery into a mailbox that a client has open')
    def delivery_while_selected(self):
        self.deliver(A)
        with self.imap(A) as s:
            s.enter('INBOX')
            self.settled()
            self.deliver(A)
            s.say('NOOP')
            self.pair.compare_trees(patience=20)
            s.on(s.uids()[-1], 'STORE', '+FLAGS', '\\Answered')
            self.pair.compare_trees(patience=20)

    # ---- mailboxes
    @operation('a mailbox made')
    def create(self):
        with self.imap(A) as s:
            s.say('CREATE', quoted('INBOX/b' + self.name()))

    @operation('mailboxes with odd names, and mail in them')
    def odd_names(self):
        with self.imap(B) as s:
            for name in ('a blank', 'dot.ted', 'M&APY-bel', "quote'd", 'UPPER', '-dash'):
                s.say('CREATE', quoted(f'INBOX/{name}'))
                s.put(f'INBOX/{name}', message(self.rng, self.name()))
            s.say('DELETE', 'INBOX/UPPER')

    @operation('a mailbox made, filled and removed at once')
    def short_life(self):
        box = self.box(A)
        with self.imap(A) as s:
            s.say('DELETE', quoted(box))

    @operation('a mailbox renamed')
    def rename(self):
        box = self.box(A)
        self.settled()
        with self.imap(A) as s:
            s.say('RENAME', quoted(box), quoted('INBOX/r' + self.name()))

    @operation('a mailbox renamed with those below it')
    def rename_tree(self):
        box = self.box(A)
        self.box(A, self.box(A, box))
        self.settled()
        with self.imap(A) as s:
            s.say('RENAME', quoted(box), quoted('INBOX/t' + self.name()))

    @operation('two mailboxes that exchange their names')
    def exchange(self):
        one, two, middle = self.box(A), self.box(A), 'INBOX/x' + self.name()
        self.settled()
        with self.imap(A) as s:
            for old, new in ((one, middle), (two, one), (middle, two)):
                s.say('RENAME', quoted(old), quoted(new))

    @operation('a mailbox removed')
    def delete(self):
        box = self.box(A)
        self.settled()
        with self.imap(A) as s:
            s.say('DELETE', quoted(box))

    @operation('a mailbox removed and made again')
    def delete_and_create(self):
        box = self.box(A)
        self.settled()
        with self.imap(A) as s:
            s.say('DELETE', quoted(box))
            s.say('CREATE', quoted(box))
            s.put(box, message(self.rng, self.name()))

    @operation('a user moved to another partition')
    def change_partition(self):
        user = self.user()
        self.settled()
        with self.imap() as a:
            a.say('RENAME', f'user/{user}', f'user/{user}', 'second')

    @operation('so many changes that mailboxes.db is repacked')
    def repack(self):
        path = self.pair.p.cyrus.conf + '/mailboxes.db'
        inode = os.stat(path).st_ino
        with self.imap() as a:
            for n in range(600):
                a.say('SETACL', f'user/{B}', 'someone', 'lr' if n % 2 else 'lrs')
                if os.stat(path).st_ino != inode:
                    return
        raise RuntimeError('mailboxes.db was not repacked')

    @operation('an access right')
    def acl(self):
        with self.imap() as a:
            a.say('SETACL', f'user/{A}', 'n' + self.name().replace('-', ''), 'lrs')

    @operation('a quota')
    def quota(self):
        with self.imap() as a:
            a.say('SETQUOTA', f'user/{A}', f'(STORAGE {4_100_000 + self.rng.randrange(1000)})')

    @operation('a subscription, and one taken back')
    def subscribe(self):
        with self.imap(C) as s:
            s.say('SUBSCRIBE', 'INBOX/Sent')
            s.say('SUBSCRIBE', 'INBOX/Archive')
            s.say('UNSUBSCRIBE', 'INBOX/Sent')

    @operation('metadata of a mailbox')
    def metadata(self):
        with self.imap(A) as s:
            s.say('SETMETADATA', 'INBOX/Sent', f'(/private/comment "{self.name()}" /private/specialuse "\\\\Sent")')

    @operation('metadata of the server')
    def server_metadata(self):
        with self.imap() as a:
            a.say('SETMETADATA', '""', f'(/shared/comment "{self.name()}")')

    # ---- users
    @operation('a user made')
    def create_user(self):
        self.user()

    @operation('a user renamed')
    def rename_user(self):
        user = self.user()
        with self.imap(user) as s:
            s.say('SUBSCRIBE', 'INBOX/Sent')
        self.settled()
        with self.imap() as a:
            a.say('RENAME', f'user/{user}', f'user/w{user[1:]}')

    @operation('a user removed')
    def delete_user(self):
        user = self.user()
        self.settled()
        with self.imap() as a:
            a.say('DELETE', f'user/{user}')

    @operation('a user removed and made again')
    def delete_and_create_user(self):
        user = self.user()
        self.settled()
        with self.imap() as a:
            a.say('DELETE', f'user/{user}')
            a.say('CREATE', f'user/{user}')
        self.deliver(user)

    @operation('a user denied')
    def deny_user(self):
        self.tool('cyr_deny', '-m', 'closed ' + self.name(), 'nobody')

    # ---- sieve and DAV
    @operation('a sieve script put and made active')
    def sieve(self):
        with ManageSieve(self.port['sieve'], A) as s:
            s.put('one', f'if header :contains "subject" "{self.name()}" {{ keep; }}\n')
            s.activate('one')

    @operation('another sieve script made active, and the first removed')
    def sieve_exchange(self):
        with ManageSieve(self.port['sieve'], B) as s:
            for name in ('first', 'other'):
                s.put(name, f'if header :contains "subject" "{self.name()}" {{ keep; }}\n')
                s.activate(name)
                self.settled()
            s.delete('first')

    @operation('a calendar event put, put again and removed')
    def event(self):
        name = self.name()
        with Dav(self.port['http'], A) as d:
            d.put_event(name)
            d.put_event(name)
            d.put_event(name + 'b')
            d.ask('DELETE', f'/dav/calendars/user/{A}/Default/{name}.ics')

    @operation('a contact put')
    def contact(self):
        with Dav(self.port['http'], C) as d:
            d.put_card(self.name())

    # ---- Cyrus's tools
    def expunged(self):
        """a user one of whose messages is expunged"""
        user = self.user()
        for _ in range(3):
            self.deliver(user)
        with self.imap(user) as s:
            s.enter('INBOX')
            s.on('1,3', 'STORE', '+FLAGS', '\\Deleted')
            s.say('EXPUNGE')
        self.settled()
        return user

    @operation('unexpunge', changes=DELAYED)
    def unexpunge(self):
        user = self.expunged()
        self.tool('unexpunge', '-a', f'user/{user}')

    @operation('cyr_expire -X: expunged messages go for good', changes=DELAYED)
    def expire_expunged(self):
        self.expunged()
        self.tool('cyr_expire', '-X', '0')

    @operation('cyr_expire -D: removed mailboxes go for good', changes=DELAYED)
    def expire_deleted(self):
        box = self.box(A)
        with self.imap(A) as s:
            s.say('DELETE', quoted(box))
        with self.imap() as a:
            a.say('DELETE', 'user/' + self.user())
        self.settled()
        self.tool('cyr_expire', '-D', '0')

    @operation('cyr_expire -E: deliver.db is pruned', changes=False)
    def expire_duplicates(self):
        self.deliver(A)
        self.settled()
        self.tool('cyr_expire', '-E', '0')

    @operation('ctl_cyrusdb -c: a checkpoint', changes=False)
    def checkpoint(self):
        self.tool('ctl_cyrusdb', '-c')

    @operation('reconstruct after a message was lost')
    def reconstruct(self):
        user = self.user()
        for _ in range(3):
            self.deliver(user)
        with self.imap() as a:
            where = self.directory_of(a, user)
        self.settled()
        os.unlink(where + '/2.')
        self.tool('reconstruct', '-r', f'user/{user}')

    def directory_of(self, admin, user):
        """where the messages of an INBOX are"""
        out = self.tool('mbpath', f'user/{user}').strip().splitlines()[-1]
        if not os.path.isdir(out):
            raise RuntimeError(f'mbpath: {out}')
        return out

    @operation('quota -f after a quota was wrong')
    def quota_fix(self):
        user = self.user()
        with self.imap() as a:
            a.say('SETQUOTA', f'user/{user}', '(STORAGE 5000)')
        self.settled()
        path = f'{self.pair.p.cyrus.conf}/quota/v/user.{user}'
        with open(path, 'r+b') as f:
            b = f.read()
            f.seek(0)
            f.write(b.replace(b'(S (', b'(S (9', 1))
        self.pair.wait_now()
        self.tool('quota', '-f')

    @operation('squatter: its index stays at home', changes=False)
    def squatter(self):
        self.tool('squatter', '-v', check=False)

    @operation('dav_reconstruct', changes=False)
    def dav_reconstruct(self):
        with Dav(self.port['http'], A) as d:
            d.put_event(self.name())
        self.settled()
        self.tool('dav_reconstruct', A)

    @operation('at rest a wait is answered, and the replica is sound', changes=False)
    def rest(self):
        self.pair.wait_now(patience=10)
        self.pair.check_replica()


class OperationsWithConversations(Operations):
    """operations with conversations and sync_log"""
    options = {'conversations': 'yes', 'sync_log': 'yes'}

    @operation('ctl_conversationsdb -R')
    def rebuild_conversations(self):
        self.deliver(A)
        self.settled()
        self.tool('ctl_conversationsdb', '-R', '-r')

    @operation('so many messages that conversations.db is repacked')
    def repack_conversations(self):
        with self.imap(A) as s:
            for n in range(60):
                s.put('INBOX/Sent', message(self.rng, self.name(), 600))
                s.enter('INBOX/Sent')
                s.on(s.uids()[-1], 'STORE', '+FLAGS', '\\Flagged')


class OperationsWithImmediateExpunge(Operations):
    """operations with immediate expunge and delete"""
    options = {'expunge_mode': 'immediate', 'delete_mode': 'immediate'}


class OperationsInLegacyDirectories(Operations):
    """operations in the legacy directory layout"""
    options = {'mailbox_legacy_dirs': 'yes'}


class OperationsWithMetadataPartition(Operations):
    """operations with a metadata partition, locks elsewhere"""
    options, metapartition = {'mboxname_lockpath': '{dir}/locks'}, True
