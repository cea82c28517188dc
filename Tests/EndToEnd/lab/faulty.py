"""The daemon under strace, which kills it at one system call or makes that call fail.

A point is a system call by name and its number in that thread which makes it for the so-manieth time first: strace
counts each thread for itself. A first run without a fault tells which points there are. A point with a path is among the
calls about that file alone.
"""
import collections
import re
import shutil
import subprocess

# What changes something on disk, and what makes it durable; write(2) is for pipes, events and the terminal here.
CALLS = ('pwrite64', 'pwritev', 'fdatasync', 'fsync', 'syncfs', 'sync_file_range', 'rename', 'renameat', 'renameat2', 'link', 'linkat', 'symlinkat', 'unlink',
         'unlinkat', 'ftruncate', 'fallocate', 'mkdir', 'mkdirat', 'open', 'openat', 'openat2', 'fchmod', 'fchown', 'utimensat', 'fsetxattr', 'copy_file_range')
OPENS = ('open', 'openat', 'openat2')
LINE = re.compile(r'^(\d+) +(\w+)\((.*)$')

Point = collections.namedtuple('Point', 'call number about path', defaults=[None])


def works():
    """whether there is a strace that may trace here"""
    return bool(shutil.which('strace')) and subprocess.run(
        ['strace', '-qq', '-e', 'inject=sync:error=EIO', '-e', 'trace=none', 'true'], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def counting(trace):
    """what goes before the daemon's command line to have all its calls written to the file `trace`"""
    # -D: the program is our child, and strace is its grandchild
    return ['strace', '-D', '-f', '-qq', '-y', '-s', '120', '-o', trace, '-e', 'trace=' + ','.join(CALLS), '-e', 'signal=none']


def at(point, what, trace):
    """... to have `what` (`signal=SIGKILL`, `error=EIO`) happen at `point`"""
    return ['strace', '-D', '-f', '-qq', '-y', '-s', '120', '-o', trace, '-e', f'trace={point.call}', '-e', 'signal=none',
            '-e', f'inject={point.call}:{what}:when={point.number}'] + (['-P', point.path] if point.path else [])


def without_flushes():
    """... to have it believe that it has flushed"""
    flushes = 'fdatasync,fsync,syncfs,sync_file_range'
    return ['strace', '-D', '-f', '-qq', '-o', '/dev/null', '-e', f'trace={flushes}', '-e', 'signal=none', '-e', f'inject={flushes}:retval=0']


def points(trace, below):
    """the points of a counted run that are about something below the directory `below`; each with the line that shows it"""
    seen, found = collections.Counter(), {}
    with open(trace, errors='replace') as f:
        for line in f:
            m = LINE.match(line)
            if not m:                                        # the end of a call that was told before
                continue
            thread, call, rest = m.groups()
            seen[thread, call] += 1
            if below not in rest or call in OPENS and 'O_CREAT' not in rest:
                continue
            found.setdefault((call, seen[thread, call]), rest.strip().replace(below, '…')[:100])
    return [Point(call, number, about) for (call, number), about in sorted(found.items())]


def happened(trace):
    """the line of the error that was put in, if it came to it"""
    with open(trace, errors='replace') as f:
        return next((x.strip() for x in f if '(INJECTED)' in x), None)


def spread(rng, items, count):
    """`count` of them, evenly over their order and one at random of each stretch"""
    if count >= len(items):
        return list(items)
    edges = [k * len(items) // count for k in range(count + 1)]
    return [rng.choice(items[a:b]) for a, b in zip(edges, edges[1:])]
