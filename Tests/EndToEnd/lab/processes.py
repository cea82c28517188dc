"""Processes that we started: their offspring, their end, and the account they run under.

The harness makes itself the reaper of its orphans (prctl PR_SET_CHILD_SUBREAPER). So whatever becomes of a Cyrus
master or a daemon killed with -9, its children stay below our own pid and are found by walking /proc from there;
nothing is ever looked up by name.
"""
import ctypes
import os
import pwd
import signal
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def adopt_orphans():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent():
    """for a child after fork(): it is killed when the thread that made it ends, however that ends"""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def account(name='cyrus'):
    """keyword arguments of Popen that make the child run as `name`"""
    p = pwd.getpwnam(name)
    return dict(user=p.pw_uid, group=p.pw_gid, extra_groups=os.getgrouplist(name, p.pw_gid))


def peak(pid):
    """bytes of memory that the process had at its most"""
    with open(f'/proc/{pid}/status') as f:
        return next(int(x.split()[1]) << 10 for x in f if x.startswith('VmHWM:'))


def has_account(name='cyrus'):
    try:
        pwd.getpwnam(name)
        return True
    except KeyError:
        return False


def _stat(pid):
    """(state, parent) of a process, or None"""
    try:
        with open(f'/proc/{pid}/stat') as f:
            fields = f.read().rsplit(')', 1)[1].split()
        return fields[0], int(fields[1])
    except (OSError, IndexError):
        return None


def offspring(pid):
    """pids below `pid`, without itself"""
    children = {}
    for name in os.listdir('/proc'):
        if name.isdigit() and (s := _stat(name)):
            children.setdefault(s[1], []).append(int(name))
    out, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        out += below
        todo += below
    return out


def alive(pid):
    """True while the process runs; one that ended under us is reaped"""
    s = _stat(pid)
    if s is None:
        return False
    if s[0] == 'Z':
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
        return False
    return True


def stopped(pid):
    """whether all its threads are, as SIGSTOP leaves them: one in the middle of a system call ends that first"""
    threads = [_stat(f'{pid}/task/{t}') for t in os.listdir(f'/proc/{pid}/task')]
    return all(s is None or s[0] == 'T' for s in threads)


def send(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def end(pids, patience=10.0):
    """wait until all are gone; what is left after `patience` seconds is killed"""
    if not until(lambda: not any(alive(p) for p in pids), patience, quiet=True):
        send([p for p in pids if alive(p)], signal.SIGKILL)
        until(lambda: not any(alive(p) for p in pids), 10, quiet=True)


def end_offspring():
    """the last resort at the end of a run: everything still below us"""
    below = offspring(os.getpid())
    send(below, signal.SIGKILL)
    end(below)


def until(condition, patience, what='', every=.02, quiet=False):
    """polls until `condition()` is true and returns its value; after `patience` seconds raises TimeoutError, or returns None if `quiet`"""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            if quiet:
                return None
            raise TimeoutError(f'not within {patience:g} s: {what}')
        time.sleep(every)


def become(name):
    """the rest of this process runs as `name`; nothing happens unless we are root"""
    if os.geteuid() == 0:
        a = account(name)
        os.setgroups(a['extra_groups'])
        os.setgid(a['group'])
        os.setuid(a['user'])
