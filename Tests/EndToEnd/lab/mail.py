"""Messages, and the ten items of the cache record that Cyrus's parser makes of each."""
import base64
import hashlib
import random
import struct
import time


def _item(b):
    return struct.pack('>I', len(b)) + b + bytes(-len(b) % 4)


def http_date(t):
    return time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime(t)).encode()


class Mail:
    """A pool of text and attachments, and messages cut from it with the cache record Cyrus would make."""

    def __init__(self, seed=7, pool=2_000_000, host=b'lab'):
        self.raw, self.host = random.Random(seed).randbytes(pool // 57 * 57), host
        self.text = base64.encodebytes(self.raw).replace(b'\n', b'\r\n')          # 57 raw bytes <-> one line of 78
        self.lines = len(self.text) // 78

    def message(self, rng, ident, size, when, session=b'', lmtp=True, rcpt=b'list', date=None, attach=.2):
        """-> (bytes, cache bytes, header size, sentdate, gmtime, message-id, Date text)"""
        host, pool = self.host, self.lines
        d = date or http_date(when)
        mid = b'<' + ident + b'@' + host + b'>'
        s = rng.randrange(5000)
        name, box = b'Sender %d' % s, b's%d' % s
        subj = b'Message ' + ident
        head = b''
        if lmtp:
            head = (b'Return-Path: <' + box + b'@' + host + b'>\r\nReceived: from ' + host + b' (localhost [127.0.0.1])\r\n\t by ' + host + b' (Cyrus 3.6.1-Debian-3.6.1-4+deb12u5) with LMTPA;\r\n\t '
                    + d + b'\r\nX-Cyrus-Session-Id: ' + session + b'\r\nX-Sieve: CMU Sieve 3.0\r\n')
        head += (b'Message-ID: ' + mid + b'\r\nFrom: "' + name + b'" <' + box + b'@' + host + b'>\r\nTo: ' + rcpt + b'@' + host + b'\r\nDate: ' + d
                 + b'\r\nSubject: ' + subj + b'\r\nMIME-Version: 1.0\r\n')
        extra = b'X-Cyrus-Session-Id: ' + session + b'\r\n' if lmtp else b''
        room = size - len(head) - 60
        if size > 1500 and rng.random() < attach:
            ct = b'Content-Type: multipart/mixed; boundary="=_%s"\r\n' % ident
            n1 = max(1, min(20, room // 156))
            n2 = max(1, (room - n1 * 78 - 420) // 78)
            a, b = rng.randrange(max(1, pool - n1)), rng.randrange(max(1, pool - n2))
            if n2 > pool:
                n2 = pool
            p1, p2 = self.text[a * 78:(a + n1) * 78], self.text[b * 78:(b + n2) * 78]
            raw = self.raw[b * 57:(b + n2) * 57]
            bound = b'--=_' + ident
            h1 = b'Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
            h2 = b'Content-Type: application/octet-stream; name="a.bin"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename="a.bin"\r\n\r\n'
            pre = bound + b'\r\n'
            mid1 = b'\r\n' + bound + b'\r\n'
            body = b''.join((pre, h1, p1, mid1, h2, p2, b'\r\n', bound, b'--\r\n'))
            head += ct + b'\r\n'
            hs = len(head)
            o1 = hs + len(pre)
            o2 = o1 + len(h1) + len(p1) + len(mid1)
            bs = (b'(("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "8BIT" %d %d NIL NIL NIL NIL)("APPLICATION" "OCTET-STREAM" ("NAME" "a.bin") NIL NIL "BASE64" %d NIL ("ATTACHMENT" ("FILENAME" "a.bin")) NIL NIL) "MIXED" ("BOUNDARY" "=_%s") NIL NIL NIL)'
                  % (len(p1), n1, len(p2), ident))
            b0 = b'(("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "8BIT" %d %d)("APPLICATION" "OCTET-STREAM" ("NAME" "a.bin") NIL NIL "BASE64" %d) "MIXED")' % (len(p1), n1, len(p2))
            nl = body.count(b'\n')
            sec = (struct.pack('>6I20x2I', 3, 0, hs, hs, len(body), 0xffff, 0, nl)
                   + struct.pack('>5I', o1, len(h1), o1 + len(h1), len(p1), 0x00080000) + b'utf-8\0\0\0' + hashlib.sha1(p1).digest() + struct.pack('>2I', len(p1), n1)
                   + struct.pack('>5I', o2, len(h2), o2 + len(h2), len(p2), 2) + hashlib.sha1(raw).digest() + struct.pack('>4I', len(raw), n2, 0, 0))
        else:
            ct = b'Content-Type: text/plain\r\n'
            n = max(1, min(room // 78, pool))
            a = rng.randrange(pool - n + 1)
            body = self.text[a * 78:(a + n) * 78]
            head += ct + b'\r\n'
            hs, bl = len(head), len(body)
            g = hashlib.sha1(body).digest()
            bs = b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" %d %d NIL NIL NIL NIL)' % (bl, n)
            b0 = b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" %d %d)' % (bl, n)
            sec = (struct.pack('>6I', 2, 0, hs, hs, bl, 0xffff) + g + struct.pack('>2I', bl, n)
                   + struct.pack('>5I', 0, hs, hs, bl, 0x000c0000) + b'us-ascii\0\0\0\0' + g + struct.pack('>3I', bl, n, 0))
        f = b'(("' + name + b'" NIL "' + box + b'" "' + host + b'"))'
        env = b'("' + d + b'" "' + subj + b'" ' + f + b' ' + f + b' ' + f + b' ((NIL NIL "' + rcpt + b'" "' + host + b'")) NIL NIL NIL "' + mid + b'")'
        cache = b''.join((_item(env), _item(bs), _item(b0), _item(sec), _item(extra + ct), _item(name + b' <' + box + b'@' + host + b'>'),
                          _item(b'<' + rcpt + b'@' + host + b'>'), bytes(8), _item(b'"' + subj + b'"')))
        return head + body, cache, hs, when // 86400 * 86400, when, mid, d


def sieve_message(user, host, name, ident, text, when):
    """the message in #sieve that holds a script, and its cache record"""
    g = hashlib.sha1(text).digest()
    u = user + b'@' + host
    d = http_date(when)
    cd = b'Content-Type: application/sieve; charset=utf-8\r\nContent-Length: %d\r\nContent-Disposition: attachment;\r\n\tfilename="%s.sieve"\r\n' % (len(text), ident)
    head = b'From: <' + u + b'>\r\nSubject: ' + name + b'\r\nDate: ' + d + b'\r\nMessage-ID: <' + g.hex().encode() + b'@' + host + b'>\r\n' + cd + b'MIME-Version: 1.0\r\n\r\n'
    n, hs, bl = text.count(b'\n'), len(head), len(text)
    f = b'((NIL NIL "' + user + b'" "' + host + b'"))'
    env = b'("' + d + b'" "' + name + b'" ' + f + b' ' + f + b' ' + f + b' NIL NIL NIL NIL "<' + g.hex().encode() + b'@' + host + b'>")'
    bs = b'("APPLICATION" "SIEVE" ("CHARSET" "utf-8") NIL NIL "7BIT" %d NIL ("ATTACHMENT" ("FILENAME" "%s.sieve")) NIL NIL)' % (bl, ident)
    b0 = b'("APPLICATION" "SIEVE" ("CHARSET" "utf-8") NIL NIL "7BIT" %d)' % bl
    sec = (struct.pack('>6I', 2, 0, hs, hs, bl, 0xffff) + g + struct.pack('>2I', bl, n) + struct.pack('>5I', 0, hs, hs, bl, 0) + g + struct.pack('>3I', bl, n, 0))
    cache = b''.join((_item(env), _item(bs), _item(b0), _item(sec), _item(cd), _item(b'<' + u + b'>'), bytes(12), _item(b'"' + name + b'"')))
    return head + text, cache, hs
