"""Driving a Cyrus: LMTP, IMAP, ManageSieve and DAV clients; and the sweep, everything one can see over IMAP.

A client's bye() returns only when the server has closed the connection: then the server process has let go of the
mailbox and written all it had to write. Tests rely on it instead of sleeping.
"""
import base64
import hashlib
import http.client
import imaplib
import random
import re
import socket
import time

imaplib._MAXLINE = 50_000_000
for _command in ('SETMETADATA', 'GETMETADATA', 'UNSELECT'):
    imaplib.Commands[_command] = ('AUTH', 'SELECTED')
TIMEOUT = 60


def _prompt(s):
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.settimeout(TIMEOUT)


def drain(s):
    """reads until the peer has closed"""
    try:
        while s.recv(65536):
            pass
    except OSError:
        pass
    s.close()


class Refused(Exception):
    """the server said no"""


class Imap(imaplib.IMAP4):
    """A session as `user`, opened by the administrator in his name. Every command that is answered NO raises Refused."""

    def __init__(self, port, user='admin'):
        super().__init__('127.0.0.1', port, TIMEOUT)
        _prompt(self.sock)
        self.authenticate('PLAIN', lambda _: (user.encode() if user != 'admin' else b'') + b'\0admin\0pw')

    def say(self, command, *arguments):
        typ, data = self._simple_command(command, *arguments)
        if typ != 'OK':
            raise Refused(f'{command} {" ".join(map(str, arguments))}: {typ} {data}')
        return data

    def enter(self, mailbox, readonly=False):
        """selects; returns the number of messages"""
        typ, data = self.select(quoted(mailbox), readonly)
        if typ != 'OK':
            raise Refused(f'SELECT {mailbox}: {typ} {data}')
        return int(data[0])

    def uids(self, what='ALL'):
        typ, data = self.uid('SEARCH', what)
        return data[0].decode().split() if typ == 'OK' and data[0] else []

    def on(self, uid, command, *arguments):
        """a UID command on one message"""
        typ, data = self.uid(command, uid, *arguments)
        if typ != 'OK':
            raise Refused(f'UID {command} {uid} {arguments}: {typ} {data}')
        return data

    def put(self, mailbox, message, flags='', when=None):
        typ, data = self.append(quoted(mailbox), f'({flags})', when and imaplib.Time2Internaldate(when), message)
        if typ != 'OK':
            raise Refused(f'APPEND {mailbox}: {typ} {data}')

    def lines(self, command, untagged, *arguments):
        """untagged answers to a command"""
        self.say(command, *arguments)
        return [x for x in self._untagged_response('OK', [None], untagged)[1] if x is not None]

    def bye(self):
        try:
            self._command('LOGOUT')
        except (OSError, imaplib.IMAP4.error):
            pass
        self.state = 'LOGOUT'
        drain(self.sock)
        self.file.close()

    def __exit__(self, *_):
        self.bye()


def quoted(mailbox):
    return '"' + mailbox.replace('\\', '\\\\').replace('"', '\\"') + '"'


class Conversation:
    """lines over a connection; the server begins, and `_answer` reads what it says"""
    FAREWELL = b''

    def __init__(self, port):
        self.sock = socket.create_connection(('127.0.0.1', port), TIMEOUT)
        _prompt(self.sock)
        self.file = self.sock.makefile('rb')
        self._answer()

    def bye(self):
        try:
            self.sock.sendall(self.FAREWELL + b'\r\n')
        except OSError:
            pass
        drain(self.sock)
        self.file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bye()


class Lmtp(Conversation):
    FAREWELL = b'QUIT'

    def __init__(self, port):
        super().__init__(port)
        self.sock.sendall(b'LHLO lab\r\n')
        self._answer()

    def _answer(self):
        # lmtpd does not set TCP_NODELAY: unless we acknowledge at once, every message costs 40 ms
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        while True:
            line = self.file.readline()
            if not line:
                raise EOFError('lmtpd has closed')
            if line[3:4] != b'-':
                return line

    def deliver(self, users, message):
        """returns the number of recipients that were acknowledged"""
        self.sock.sendall(b'MAIL FROM:<sender@lab>\r\n' + b''.join(b'RCPT TO:<%s>\r\n' % u.encode() for u in users) + b'DATA\r\n')
        self._answer()
        known = sum(self._answer().startswith(b'2') for _ in users)
        line = self._answer()
        if not line.startswith(b'354'):
            raise Refused(f'LMTP: {line!r}')
        self.sock.sendall(message + b'.\r\n')
        return sum(self._answer().startswith(b'250') for _ in range(known))


class ManageSieve(Conversation):
    FAREWELL = b'LOGOUT'

    def __init__(self, port, user):
        super().__init__(port)
        self._say(b'AUTHENTICATE "PLAIN" "%s"' % base64.b64encode(user.encode() + b'\0admin\0pw'))

    def _answer(self):
        while True:
            line = self.file.readline()
            if line[:2] == b'OK':
                return
            if line[:2] in (b'NO', b'BY') or not line:
                raise Refused(f'sieve: {line!r}')

    def _say(self, line):
        self.sock.sendall(line + b'\r\n')
        self._answer()

    def put(self, name, script):
        text = script.encode()
        self._say(b'PUTSCRIPT "%s" {%d+}\r\n%s' % (name.encode(), len(text), text))

    def activate(self, name):
        self._say(b'SETACTIVE "%s"' % name.encode())

    def delete(self, name):
        self._say(b'DELETESCRIPT "%s"' % name.encode())


class Dav:
    def __init__(self, port, user):
        self.user, self.http = user, http.client.HTTPConnection('127.0.0.1', port, timeout=TIMEOUT)
        self.login = 'Basic ' + base64.b64encode(f'{user}:pw'.encode()).decode()

    def ask(self, method, path, body=None, kind='text/xml'):
        """path is below the user's home; raises Refused on an answer that is not 2xx"""
        self.http.request(method, path, body, {'Authorization': self.login, 'Content-Type': kind})
        r = self.http.getresponse()
        r.read()
        if r.status // 100 != 2:
            raise Refused(f'{method} {path}: {r.status} {r.reason}')

    def put_event(self, name, calendar='Default'):
        text = ('BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//lab//EN\r\nBEGIN:VEVENT\r\nUID:%s\r\nDTSTAMP:20261122T120000Z\r\n'
                'DTSTART:20261123T090000Z\r\nDTEND:20261123T100000Z\r\nSUMMARY:meeting %s\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n' % (name, name))
        self.ask('PUT', f'/dav/calendars/user/{self.user}/{calendar}/{name}.ics', text, 'text/calendar; charset=utf-8')

    def put_card(self, name):
        text = 'BEGIN:VCARD\r\nVERSION:3.0\r\nUID:%s\r\nN:%s;A;;;\r\nFN:A %s\r\nEMAIL:%s@lab\r\nEND:VCARD\r\n' % ((name,) * 4)
        self.ask('PUT', f'/dav/addressbooks/user/{self.user}/Default/{name}.vcf', text, 'text/vcard; charset=utf-8')

    def bye(self):
        """httpd answers once it has written; this ends the connection as well"""
        s = self.http.sock
        if s:
            try:
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            drain(s)
        self.http.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bye()


# ---------------------------------------------------------------- messages
# lines of 76 characters, so that every 78 bytes end in CRLF
_pool = base64.encodebytes(random.Random(7).randbytes(57 * 25_000)).replace(b'\n', b'\r\n')


def message(rng, ident, bytes=None):
    """text that does not compress to nothing; sizes are lognormal"""
    n = bytes or int(min(300_000, max(500, rng.lognormvariate(8.8, 1.2))))
    at = rng.randrange(max(78, len(_pool) - n) // 78) * 78
    head = ('Message-ID: <%s@lab>\r\nFrom: "Sender" <s%d@lab>\r\nTo: list@lab\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n'
            'Subject: message %s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n' % (ident, rng.randrange(500), ident))
    body = (_pool[at:] + _pool * (n // len(_pool)))[:max(78, n // 78 * 78)]
    return head.encode() + body


def user(number):
    return 'u%05d' % number


def make_users(port, numbers, boxes=('Sent', 'Drafts', 'Archive'), quota=4_000_000):
    """every fifth user lives on the second partition; the administrator gets all rights"""
    a = Imap(port)
    for i in numbers:
        for box in ('',) + tuple('/' + b for b in boxes):
            a.say('CREATE', quoted(f'user/{user(i)}{box}'), *(['second'] if i % 5 == 4 else []))
            a.say('SETACL', quoted(f'user/{user(i)}{box}'), 'admin', 'lrswipkxtecdan')
        a.say('SETQUOTA', quoted(f'user/{user(i)}'), f'(STORAGE {quota})')
    a.bye()


# ---------------------------------------------------------------- the sweep
_UID, _FLAGS = re.compile(rb'UID (\d+)'), re.compile(rb'FLAGS \(([^)]*)\)')
_FACTS = re.compile(rb'(MODSEQ \(\d+\)|INTERNALDATE "[^"]*"|RFC822\.SIZE \d+)')
_OWN = '/shared/vendor/cmu/cyrus-imapd/'
_METADATA = f'(/private/comment /shared/comment /private/specialuse {_OWN}uniqueid {_OWN}partition {_OWN}synccrcs {_OWN}lastupdate)'
_STATUS = '(MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)'


def users(port):
    with Imap(port) as a:
        return sorted(name[5:] for name in _names(a.lines('LIST', 'LIST', '""', '"user/%"')))


def _names(lines):
    out = []
    for x in lines:
        if isinstance(x, tuple):                            # the name came as a literal
            out.append(x[1].decode())
        elif x and b') ' in x:
            out.append(x.decode().split(') ', 1)[1].split(' ', 1)[1].strip('"'))
    return out


def sweep(port, only=None):
    """(everything, troubles): per user and mailbox what IMAP shows of it, down to the digest of each message.

    Nothing is changed: mailboxes are examined, bodies peeked. A mailbox that shows fewer messages than it announces
    is a trouble of its own: Cyrus leaves out what it cannot read, without an error."""
    all, troubles = {}, []
    for u in only or users(port):
        with Imap(port, u) as s:
            all[u + ' quota'] = sorted(str(x) for x in s.lines('GETQUOTAROOT', 'QUOTA', 'INBOX'))
            all[u + ' subscriptions'] = sorted(_names(s.lines('LSUB', 'LSUB', '""', '"*"')))
            for box in sorted(set(_names(s.lines('LIST', 'LIST', '""', '"*"')))):
                try:
                    all[u + ' ' + box] = _mailbox(s, box, troubles)
                except (Refused, imaplib.IMAP4.error) as e:
                    troubles.append(f'{u} {box}: {e}')
    return all, troubles


def _mailbox(s, box, troubles):
    status = s.lines('STATUS', 'STATUS', quoted(box), _STATUS)
    seen = dict(status=str(status[-1]).rsplit('(', 1)[-1])
    for what, command, *entries in (('acl', 'GETACL'), ('metadata', 'GETMETADATA', _METADATA)):
        try:
            seen[what] = sorted(str(x) for x in s.lines(command, command.removeprefix('GET'), quoted(box), *entries))
        except (Refused, imaplib.IMAP4.error):
            seen[what] = 'not shown'                        # another user's mailbox
    exists = s.enter(box, readonly=True)
    messages = {}
    if exists:
        for x in s.on('1:*', 'FETCH', '(FLAGS RFC822.SIZE INTERNALDATE MODSEQ BODY.PEEK[])'):
            if not isinstance(x, tuple):
                continue
            uid = int(_UID.search(x[0])[1])
            flags = sorted(f for f in _FLAGS.search(x[0])[1].split() if f != b'\\Recent')
            facts = sorted(_FACTS.findall(x[0]))
            messages[uid] = (b' '.join(flags + facts).decode(), hashlib.sha1(x[1]).hexdigest())
            if b'RFC822.SIZE %d' % len(x[1]) not in facts:
                troubles.append(f'{box}: message {uid} has {len(x[1])} bytes, announced as {facts}')
    if len(messages) != exists:
        troubles.append(f'{box}: {exists} messages announced, {len(messages)} shown')
    seen['messages'] = messages
    s.say('UNSELECT')
    return seen


def differences(a, b):
    """sentences about two sweeps, few and readable"""
    out = [f'only the first shows {k}' for k in sorted(a.keys() - b.keys())] + [f'only the second shows {k}' for k in sorted(b.keys() - a.keys())]
    for k in sorted(a.keys() & b.keys()):
        if a[k] == b[k]:
            continue
        if not isinstance(a[k], dict):
            out.append(f'{k}: {a[k]} / {b[k]}')
            continue
        out += [f'{k}: {f}: {a[k][f]} / {b[k][f]}' for f in a[k] if f != 'messages' and a[k][f] != b[k][f]]
        m, n = a[k]['messages'], b[k]['messages']
        out += [f'{k}: message {u}: {m.get(u, "none")} / {n.get(u, "none")}' for u in sorted(m.keys() | n.keys()) if m.get(u) != n.get(u)]
    return out


def now():
    return int(time.time())
