#!/usr/bin/env python3
"""A stand-in for mailsync that simply copies, to test the tests: same commands, same exit codes, no replication.

`wait` makes the replica equal to the primary, which must be at rest; the two ends talk over their link only about who
they are. STAND_IN_FAULT makes it wrong on purpose: links, times, modes, lose, content, extra, fence, early.
"""
import argparse
import base64
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lab import diff                                        # noqa: E402

FAULT = os.environ.get('STAND_IN_FAULT', '')
USAGE, TRY_AGAIN, CONFIGURATION = 64, 75, 78


def key_values(path):
    with open(path) as f:
        return dict(x.strip().split(': ', 1) for x in f if ': ' in x)


def address(text):
    host, port = text.rsplit(':', 1)
    return host, int(port)


class End:
    def __init__(self, config):
        self.config = key_values(config)
        self.state = self.config['state']
        imapd = key_values(self.config['imapd_conf']) if os.path.exists(self.config['imapd_conf']) else {}
        self.roots = {k: v for k, v in imapd.items() if k in ('configdirectory', 'sievedir') or k.startswith(('partition-', 'metapartition-')) and '_' not in k}

    # ---- what is kept between runs
    def load(self):
        with open(self.state + '/state.json') as f:
            return json.load(f)

    def save(self, **changes):
        new = {**(self.load() if os.path.exists(self.state + '/state.json') else {}), **changes}
        with open(self.state + '/state.new', 'w') as f:
            json.dump(new, f)
        os.rename(self.state + '/state.new', self.state + '/state.json')

    def ask_peer(self, timeout=2):
        with socket.create_connection(address(self.config['peer']), timeout) as s:
            s.settimeout(timeout)
            return json.loads(s.makefile().readline())

    def ask_daemon(self, question, timeout):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(timeout)
            s.connect(self.state + '/control')
            s.sendall(json.dumps(question).encode() + b'\n')
            return json.loads(s.makefile().readline())

    # ---- the daemon
    def run(self):
        self.held = open(self.state + '/lock', 'w')
        fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        done = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: done.set())
        self.lock = threading.Lock()
        try:
            os.unlink(self.state + '/control')
        except FileNotFoundError:
            pass
        control = socket.socket(socket.AF_UNIX)
        control.bind(self.state + '/control')
        control.listen()
        link = socket.create_server(address(self.config['listen']))
        for listener, answer in ((control, self.answer), (link, lambda _: {**self.load(), 'roots': self.roots})):
            threading.Thread(target=self.serve, args=(listener, answer), daemon=True).start()
        done.wait()
        os._exit(0)

    def serve(self, listener, answer):
        while True:
            c, _ = listener.accept()
            threading.Thread(target=self.converse, args=(c, answer, listener.family), daemon=True).start()

    def converse(self, c, answer, family):
        with c:
            question = json.loads(c.makefile().readline()) if family == socket.AF_UNIX else None
            c.sendall(json.dumps(answer(question)).encode() + b'\n')

    def answer(self, question):
        if question == 'status':
            s = self.load()
            at = f"{s['epoch']}/{s['sequence']}"
            return dict(role=s['role'], epoch=s['epoch'], state='running', positions=dict.fromkeys(('journaled', 'shipped', 'received', 'flushed', 'applied'), at))
        if question == 'promote':
            return self.promote()
        if question['position'] and int(question['position'].split('/')[1]) > self.load()['sequence']:
            return TRY_AGAIN
        deadline = time.monotonic() + question['wait']
        while True:
            try:
                peer = self.ask_peer()
                me = self.load()
                if peer['epoch'] > me['epoch'] or peer['role'] == 'primary':
                    print('refused: the peer is in epoch', peer['epoch'], file=sys.stderr, flush=True)
                    if FAULT != 'fence':
                        return TRY_AGAIN
                with self.lock:
                    if FAULT == 'early':
                        threading.Timer(.5, mirror, (self.roots, peer['roots'])).start()
                    else:
                        mirror(self.roots, peer['roots'])
                self.save(sequence=me['sequence'] + 1)
                return 0
            except (OSError, ValueError):
                if time.monotonic() > deadline:
                    return TRY_AGAIN
                time.sleep(.05)

    def promote(self):
        self.save(role='primary', epoch=self.load()['epoch'] + 1)
        return 0


def mirror(source, target):
    """makes the target equal to the source, as far as it is shipped; what changes meanwhile comes out anyhow"""
    a, b = diff.scan(source), diff.scan(target)
    links, made = diff.links(a), {}
    lost = next((k for k in sorted(a, reverse=True) if diff.is_message(k)), None)
    for k in sorted(b.keys() - a.keys(), reverse=True):
        path, st = b[k]
        remove(path)
    for k in sorted(a):
        root, rest = k.split('/', 1)
        to = f'{target[root]}/{rest}'
        if k == lost and FAULT == 'lose':
            remove(to)
            continue
        try:
            first = made.get(links.get(k)) if k in links and FAULT != 'links' else None
            copy(*a[k], to, first)
            if k in links:
                made.setdefault(links[k], to)
            if k == lost and FAULT == 'content':
                with open(to, 'r+b') as f:
                    f.write(b'?')
            if FAULT == 'times' and diff.is_message(k):
                os.utime(to, ns=(0, a[k][1].st_mtime_ns + 1))
            if FAULT == 'modes' and k.endswith('.db'):
                os.chmod(to, 0o644)
        except OSError:
            pass
    if FAULT == 'extra':
        with open(target['configdirectory'] + '/left-over', 'w'):
            pass


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def copy(path, st, to, first):
    """one path, or one more name of `first`"""
    if stat.S_ISDIR(st.st_mode):
        if not os.path.isdir(to):
            remove(to)
            os.mkdir(to)
    elif first:
        if not (os.path.exists(to) and os.path.samefile(first, to)):
            remove(to)
            os.link(first, to)
        return
    else:
        remove(to)                                           # a new file: the old one may have other names
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(path), to)
        else:
            shutil.copyfile(path, to)
    if os.geteuid() == 0:
        os.chown(to, st.st_uid, st.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(st.st_mode):
        os.chmod(to, stat.S_IMODE(st.st_mode))
        os.utime(to, ns=(st.st_atime_ns, st.st_mtime_ns))


def main():
    ap = argparse.ArgumentParser(description='init fingerprint check seed run status wait promote inspect')
    ap.add_argument('command', choices=('init', 'fingerprint', 'check', 'seed', 'run', 'status', 'wait', 'promote', 'inspect'))
    ap.add_argument('--position')
    ap.add_argument('--config')
    ap.add_argument('--role')
    ap.add_argument('--json', action='store_true')
    ap.add_argument('--overwrite', action='store_true')
    ap.add_argument('--now', action='store_true')
    ap.add_argument('--level')
    ap.add_argument('--timeout', type=float, default=60)
    ap.error = lambda why: sys.exit(USAGE)
    a = ap.parse_args()
    end = End(a.config)
    if a.command == 'init':
        if a.role == 'primary' and os.path.exists(end.state + '/state.json') and end.load()['role'] == 'replica':
            return USAGE
        end.save(role=a.role, epoch=1, sequence=0)
    elif a.command == 'fingerprint':
        print('SHA256:' + base64.b64encode(hashlib.sha256(end.state.encode()).digest()).decode().rstrip('='))
    elif a.command == 'check':
        return 0 if os.path.exists(end.config['imapd_conf']) else CONFIGURATION
    elif a.command == 'run':
        end.run()
    elif a.command == 'seed' and end.load()['role'] == 'primary':
        return USAGE
    elif a.command == 'seed':
        for _ in range(100):
            try:
                mirror(end.ask_peer()['roots'], end.roots)
                break
            except OSError:                                  # it changes beneath us
                time.sleep(.1)
    elif a.command in ('status', 'promote', 'wait'):
        question = dict(wait=a.timeout, position=a.position) if a.command == 'wait' else a.command
        try:
            answer = end.ask_daemon(question, a.timeout + 5)
        except OSError:
            if a.command != 'promote':
                return TRY_AGAIN
            answer = end.promote()
        if a.command != 'status':
            return answer
        print(json.dumps(answer))
    return 0


if __name__ == '__main__':
    sys.exit(main())
