"""A throw-away Cyrus IMAP: its directories, configuration, processes and tools.

    DIR/etc/     imapd.conf, cyrus.conf
    DIR/conf     configdirectory          DIR/sieve   sievedir
    DIR/part1    partition-default        DIR/meta1   metapartition-default (only if asked for)
    DIR/part2    partition-second         DIR/syslog  what the instance said to syslog

Everybody's password is pw; admin is the administrator and may act as any user (SASL PLAIN with an authorization id).
Everything listens on 127.0.0.1 only. master runs in a mount namespace of its own, for the sake of one file: /dev/log,
which is a socket of ours. Without the right to make a namespace the instance runs without a syslog.
"""
import functools
import os
import shutil
import signal
import socket
import subprocess
import threading

from . import processes
from .ports import free_port

BIN = '/usr/lib/cyrus/bin/'
OWNER = 'cyrus'
RUNTIME = ('socket', 'db', 'log', 'msg', 'proc', 'quota', 'user', 'lock', 'sync', 'ptclient', 'backup')

# A /dev of our own: the usual devices bound from the real one, and log. The real /dev is not touched.
OWN_DEV = """set -e
mkdir -p "$1/dev"; mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for n in null zero full random urandom tty; do : > "$1/dev/$n"; mount --bind "/dev/$n" "$1/dev/$n"; done
mkdir "$1/dev/shm"; mount --bind /dev/shm "$1/dev/shm"; ln -s /proc/self/fd "$1/dev/fd"
: > "$1/dev/log"; mount --bind "$1/devlog" "$1/dev/log"
mount --rbind "$1/dev" /dev; cd /; shift; exec "$@"
"""
UNSHARE = ['unshare', '-m', '--propagation', 'private', 'sh', '-c']


def installed():
    return all(os.path.exists(BIN + n) for n in ('master', 'imapd', 'lmtpd', 'ctl_cyrusdb')) and processes.has_account(OWNER)


@functools.cache
def can_unshare():
    return bool(shutil.which('unshare')) and subprocess.run(
        UNSHARE + ['mount -t tmpfs tmpfs /mnt'], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


class LocalSocket:
    """a UNIX socket served by a thread of ours until close()"""
    kind = socket.SOCK_STREAM

    def __init__(self, path):
        if os.path.exists(path):
            os.unlink(path)
        self.socket = socket.socket(socket.AF_UNIX, self.kind)
        self.socket.bind(path)
        os.chmod(path, 0o666)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)      # wakes the thread
        except OSError:
            pass
        self.thread.join(5)
        self.socket.close()


class Syslog(LocalSocket):
    """what is sent to the socket goes to a file"""
    kind = socket.SOCK_DGRAM

    def __init__(self, path, file):
        self.file = file
        super().__init__(path)

    def serve(self):
        with open(self.file, 'ab', buffering=0) as out:
            while True:
                try:
                    b = self.socket.recv(65536)
                except OSError:
                    return
                if not b:
                    return
                out.write(b.rstrip(b'\0\n') + b'\n')


class Passwords(LocalSocket):
    """saslauthd, for whom the password of everybody is pw: four strings in, one out, each with its length in two bytes before it"""

    def serve(self):
        self.socket.listen(64)
        while True:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            with c:
                c.settimeout(5)
                try:
                    f = c.makefile('rb')
                    _user, password, _service, _realm = [f.read(int.from_bytes(f.read(2), 'big')) for _ in range(4)]
                    answer = b'OK' if password == b'pw' else b'NO'
                    c.sendall(len(answer).to_bytes(2, 'big') + answer)
                except OSError:
                    pass


class Instance:
    """One Cyrus. `options` are added to imapd.conf; a value of None takes a line out."""

    def __init__(self, directory, options=None, metapartition=False):
        self.dir = os.path.abspath(directory)
        self.name = os.path.basename(self.dir)
        self.port = {k: free_port() for k in ('imap', 'lmtp', 'sieve', 'http')}
        self.options, self.metapartition = dict(options or {}), metapartition
        self.imapd_conf, self.cyrus_conf = self.dir + '/etc/imapd.conf', self.dir + '/etc/cyrus.conf'
        self.roots = {'configdirectory': self.dir + '/conf', 'partition-default': self.dir + '/part1',
                      'partition-second': self.dir + '/part2', 'sievedir': self.dir + '/sieve'}
        if metapartition:
            self.roots['metapartition-default'] = self.dir + '/meta1'
        self.roots.update((k, v) for k, v in self.options.items() if k.startswith('archivepartition-'))
        self.master = self.syslog = self.passwords = None

    # ---- files
    @property
    def conf(self):
        return self.roots['configdirectory']

    @property
    def partitions(self):
        return {k[len('partition-'):]: v for k, v in self.roots.items() if k.startswith('partition-')}

    def create(self):
        """directories, configuration, the administrator; a store that lies there already stays"""
        os.makedirs(self.dir, exist_ok=True)
        os.chmod(self.dir, 0o755)
        os.makedirs(self.dir + '/etc', exist_ok=True)
        for d in self.roots.values():
            self.own_directory(d, 0o750)
        for d in RUNTIME:
            self.own_directory(self.conf + '/' + d, 0o755)
        self.write_configuration()
        return self

    def own_directory(self, path, mode):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        self.own(path)

    def own(self, path):
        a = processes.account(OWNER)
        os.chown(path, a['user'], a['group'])

    def write_configuration(self):
        o = {**self.roots, 'defaultpartition': 'default', 'sieveusehomedir': 'false', 'admins': 'admin', 'servername': 'lab',
             'allowplaintext': 'yes', 'sasl_pwcheck_method': 'saslauthd',
             'sasl_saslauthd_path': self.dir + '/etc/passwords', 'sasl_mech_list': 'PLAIN LOGIN', 'altnamespace': 'no',
             'unixhierarchysep': 'yes', 'virtdomains': 'off', 'umask': '077', 'hashimapspool': 'true',
             'lmtpsocket': self.conf + '/socket/lmtp', 'idlesocket': self.conf + '/socket/idle',
             'notifysocket': self.conf + '/socket/notify', 'syslog_prefix': self.name, 'duplicatesuppression': '1',
             'expunge_mode': 'delayed', 'delete_mode': 'delayed', 'annotation_allow_undefined': 'yes', 'allowusermoves': 'yes',
             'httpmodules': 'caldav carddav', 'lmtp_downcase_rcpt': 'yes', 'maxlogins_per_user': '0', 'imapidresponse': 'no'}
        if self.metapartition:
            o['metapartition_files'] = 'header index cache expunge annotations'
        o.update(self.options)
        for k, v in o.items():
            if k == 'mboxname_lockpath':
                self.own_directory(v, 0o755)
        with open(self.imapd_conf, 'w') as f:
            f.writelines(f'{k}: {v}\n' for k, v in o.items() if v is not None)
        services = [('imap', 'imapd', '-U 250', 2, 200), ('lmtp', 'lmtpd', '-a -U 250', 1, 40),
                    ('sieve', 'timsieved', '', 0, 20), ('http', 'httpd', '-U 30', 0, 20)]
        with open(self.cyrus_conf, 'w') as f:
            f.write(f'START {{\n recover cmd="ctl_cyrusdb -C {self.imapd_conf} -r"\n}}\nSERVICES {{\n')
            for name, program, arguments, prefork, maxchild in services:
                f.write(f' {name} cmd="{program} -C {self.imapd_conf} {arguments}" listen="127.0.0.1:{self.port[name]}"'
                        f' prefork={prefork} maxchild={maxchild} proto="tcp4"\n')
            f.write('}\nEVENTS {\n}\n')

    # ---- processes
    def _in_view(self, argv):
        return UNSHARE + [OWN_DEV, 'sh', self.dir] + argv if self.syslog else argv

    def start(self, patience=30):
        """returns when IMAP and LMTP greet"""
        self.passwords = Passwords(self.dir + '/etc/passwords')
        if can_unshare():
            self.syslog = Syslog(self.dir + '/devlog', self.dir + '/syslog')
        with open(self.dir + '/master.log', 'ab') as log:
            self.master = subprocess.Popen(
                self._in_view([BIN + 'master', '-C', self.imapd_conf, '-M', self.cyrus_conf, '-p', self.dir + '/cyrus.pid']),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        for service, greeting in (('imap', b'* OK'), ('lmtp', b'220')):
            processes.until(lambda: self._greets(service, greeting), patience, f'{service} of {self.dir} on port {self.port[service]}')

    def _greets(self, service, greeting):
        if self.master.poll() is not None:
            raise RuntimeError(f'master ended with {self.master.returncode}: {self.said()[-500:]}')
        try:
            with socket.create_connection(('127.0.0.1', self.port[service]), 2) as s:
                s.settimeout(5)
                return s.recv(100).startswith(greeting)
        except OSError:
            return False

    @property
    def running(self):
        return self.master is not None and self.master.poll() is None

    def stop(self, number=signal.SIGTERM):
        """ends master and everything below it"""
        if self.master is not None:
            all = [self.master.pid] + processes.offspring(self.master.pid)
            processes.send(all if number == signal.SIGKILL else [self.master.pid], number)
            processes.end(all)
            self.master.wait()
            self.master = None
        for s in (self.syslog, self.passwords):
            if s:
                s.close()
        self.syslog = self.passwords = None

    def kill(self):
        self.stop(signal.SIGKILL)

    # ---- tools
    def tool(self, name, *arguments, check=True, timeout=120):
        """runs a tool of Cyrus's as user cyrus; returns what it printed on both streams"""
        argv = [BIN + name, '-C', self.imapd_conf, *arguments]
        if self.syslog:
            argv = ['setpriv', '--reuid', OWNER, '--regid', str(processes.account(OWNER)['group']), '--init-groups'] + argv
            p = subprocess.run(self._in_view(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
        else:
            p = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, cwd='/',
                               **processes.account(OWNER))
        out = p.stdout.decode(errors='replace')
        if check and p.returncode:
            raise RuntimeError(f'{name} {" ".join(arguments)}: exit {p.returncode}: {out.strip()[-500:]}')
        return out

    def said(self):
        out = ''
        for name in ('master.log', 'syslog'):
            try:
                with open(f'{self.dir}/{name}', errors='replace') as f:
                    out += f.read()
            except FileNotFoundError:
                pass
        return out

    BAD_SIGNS = ('IOERROR', 'DBERROR', 'FATAL', 'SYNCERROR', 'corrupt', 'mismatch', 'Failed to', 'signaled to death')
    # lmtpd names a message's file in stage. by process and second; seen once in some hundred thousand: its own is there, and it ends
    STUMBLES = ('File exists> func=<append_newstage_full>', 'assertion failed: imap/append.c: 932: stage != NULL')
    HARMLESS = ('clean shutdown file missing', *STUMBLES)

    def stumbles(self):
        """how many processes ended over themselves"""
        return self.said().count(self.STUMBLES[1])

    def complaints(self):
        """lines of the syslog that speak of damage"""
        return [x for x in self.said().splitlines() if any(b in x for b in self.BAD_SIGNS) and not any(h in x for h in self.HARMLESS)]

    def findings(self):
        """what Cyrus's own tools say of the store: lines of reconstruct -n (index against files) and quota -f -n (sums); [] is good.
        The instance must run."""
        out = [x for x in self.tool('reconstruct', '-n', '-r', 'user').splitlines() if x.strip() and not mailbox_name(x)]
        out += [x for x in self.tool('quota', '-f', '-n').splitlines() if 'quota root' in x.lower() or 'was' in x.split() or 'fix' in x.lower()]
        return out


def mailbox_name(line):
    """reconstruct prints the name of every mailbox it has seen as users know it; in what it finds they are Cyrus's own, with dots"""
    return line.startswith('user/') and ':' not in line
