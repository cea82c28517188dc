"""What the rows have in common: processes with a deadline and their CPU, the loopback's byte counter, mailsync's control socket."""
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(PROJECT, 'Tests/EndToEnd'))
from lab import ports, processes                           # noqa: E402
import pair                                                # noqa: E402
import proxy                                               # noqa: E402

LAB = os.path.join(PROJECT, 'Tests/EndToEnd/lab')
ports.FIRST, ports.LAST = 28100, 28900
_libc = ctypes.CDLL(None, use_errno=True)
_TICK = os.sysconf('SC_CLK_TCK')
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1


# ---- the loopback
def own_network():
    """a network namespace of our own, in which only we speak, so that the counter of its loopback is the wire; False without the right"""
    if _libc.unshare(CLONE_NEWNET):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack('16sh14x', b'lo', IFF_UP))
    return True


def loopback_bytes():
    with open('/proc/self/net/dev') as f:
        for line in f:
            name, _, rest = line.partition(':')
            if name.strip() == 'lo':
                return int(rest.split()[0])
    raise RuntimeError('no loopback')


class CountingWire(proxy.Wire):
    """counts each direction: `up` from the end that listens (the primary), `down` from the end that dials"""
    up = down = 0

    def _pump(self, pair_, source, sink):
        try:
            while data := source.recv(1 << 16):
                if source is pair_[0]:
                    self.down += len(data)
                else:
                    self.up += len(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for s in pair_:
                proxy.reset(s)


# ---- processes
def run(argv, timeout, **more):
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True, timeout=timeout, **more)


class Ended(Exception):
    """a program ended badly, or not in time"""


def start(argv, log, **more):
    with open(log, 'ab') as f:
        return subprocess.Popen(argv, **{'stdin': subprocess.DEVNULL, 'stdout': f, 'stderr': f, 'start_new_session': True, **more})


def wait(process, timeout, what, good=(0,)):
    """CPU seconds of a process, once it has ended, and of the children it waited for"""
    usage = usage_of(process, timeout, what, good)
    return usage.ru_utime + usage.ru_stime


def usage_of(process, timeout, what, good=(0,)):
    """what wait4 tells of a process, once it has ended"""
    deadline = time.monotonic() + timeout
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            raise Ended(f'{what}: not within {timeout} s')
        time.sleep(.002)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in good:
        raise Ended(f'{what}: exit {process.returncode}')
    return usage


def cpu(pid):
    """CPU seconds of a running process"""
    with open(f'/proc/{pid}/stat') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def machine_cpu():
    """CPU seconds of everything on this machine since it started, idling and waiting excepted"""
    with open('/proc/stat') as f:
        user, nice, system, _, _, irq, softirq = (int(x) for x in f.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / _TICK


def memory(pid):
    """MB: resident now, the most that ever was, and that part which is no file's"""
    with open(f'/proc/{pid}/status') as f:
        kb = {k: int(v.split()[0]) for k, _, v in (x.partition(':') for x in f) if k.startswith(('VmRSS', 'VmHWM', 'RssAnon'))}
    return kb['VmRSS'] / 1024, kb['VmHWM'] / 1024, kb['RssAnon'] / 1024


# ---- files
def sync_file_system(path):
    """seconds until all of the file system is on disk"""
    fd = os.open(path, os.O_RDONLY)
    t = time.monotonic()
    _libc.syncfs(fd)
    os.close(fd)
    return time.monotonic() - t


def count_names(directories):
    n = 0
    for d in directories:
        for _, dirs, files in os.walk(d):
            n += len(dirs) + len(files)
    return n


def remove(*paths):
    for p in paths:
        shutil.rmtree(p, ignore_errors=True)


def make_store(directory, *arguments, timeout=1800):
    done = run([sys.executable, '-B', f'{LAB}/store.py', directory, *map(str, arguments)], timeout)
    return json.loads(done.stdout)


# ---- mailsync
def ask(side, request, timeout=60):
    """one question to a daemon: a Swift enum as JSON, {"case": {...}}"""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(timeout)
        s.connect(side.state + '/control')
        s.sendall(json.dumps(request).encode() + b'\n')
        line = b''
        while not line.endswith(b'\n'):
            more = s.recv(1 << 20)
            if not more:
                break
            line += more
    answer = json.loads(line)
    if 'failed' in answer or 'notInTime' in answer:
        raise Ended(f'{side.name}: {list(request)[0]}: {answer}')
    return answer


def barrier(p, level='flushed', timeout=60):
    """returns when all that was written before has reached `level`: what `mailsync wait --now` does, without starting a program"""
    position = ask(p.primary, {'positionNow': {'timeoutSeconds': timeout}}, timeout + 5)['position']['_0']
    ask(p.primary, {'wait': {'position': position, 'level': level, 'timeoutSeconds': timeout}}, timeout + 5)


def wait_for_index(here, there, patience, every=.0003):
    """returns when a mailbox of the replica is as long as the primary's is now"""
    deadline = time.monotonic() + patience
    names = ('cyrus.index', 'cyrus.cache')
    want = [os.stat(f'{here}/{x}').st_size for x in names]
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if [os.stat(f'{there}/{x}').st_size for x in names] >= want:
                return
        time.sleep(every)
    raise Ended(f'{there} did not grow')


def batch_bytes(p):
    return p.status(p.primary)['capture']['batchBytes']


def running(p):
    """waits until the primary has taken stock of its store"""
    processes.until(lambda: p.status(p.primary)['state'] != 'starting', 600, 'a primary that has started', every=.05)


def quantile(values, q):
    v = sorted(values)
    return v[min(len(v) - 1, int(q * len(v)))]


def load_average():
    return ' '.join(f'{x:.1f}' for x in os.getloadavg())
