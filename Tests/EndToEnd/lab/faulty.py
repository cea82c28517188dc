"""The daemon under strace, which kills it at one system call or makes that call fail.

strace counts the calls of each thread for itself, and of one name only those that have one of the paths it was told (`-P`: of a descriptor, of a
directory, or the name itself as it was given). So a point is a system call by name, a kind of file (`Files.kind`: the journal, each file of the state
directory, `.mailsync`, a store's files by what they are), and the number of that call among those of a thread that have a path of this kind. Two runs
without a fault tell which points there are: the calls they have in common. Other kinds, in other threads, do not count; if several threads
come to the same number of the same kind (the journal is opened by one thread and written by another), the call fails in each, or the first is killed.

Not a point is what has no path that can be known before: what is written through a descriptor into a mailbox that was made in the same session, or
into a shadow copy of its files. Nor is opening without O_CREAT, nor a call that only one of those runs made (a second segment, a seed, an audit).
"""
import collections
import functools
import os
import re
import shutil
import signal
import string
import subprocess

# What changes something on disk, and what makes it durable; write(2) is for pipes, events and the terminal here.
CALLS = ('pwrite64', 'pwritev', 'fdatasync', 'fsync', 'syncfs', 'sync_file_range', 'rename', 'renameat', 'renameat2', 'link', 'linkat', 'symlinkat', 'unlink',
         'unlinkat', 'ftruncate', 'fallocate', 'mkdir', 'mkdirat', 'open', 'openat', 'openat2', 'fchmod', 'fchown', 'utimensat', 'fsetxattr', 'copy_file_range')
OPENS = ('open', 'openat', 'openat2')
OF_BYTES = ('pwrite64', 'pwritev', 'fsetxattr')               # their strings are no paths
FLUSHES = ('fdatasync', 'fsync', 'syncfs', 'sync_file_range')
OWN = '.mailsync'                        # what is on its way to its place, in each root
LINE = re.compile(r'^(\d+) +(\w+)\((.*)$')
RESUMED = re.compile(r'^(\d+) +<\.\.\. \w+ resumed>(.*)$')
MESSAGE = re.compile(r'\d+\.')
DATABASE = re.compile(r'cyrus\.\w+|\w+\.(db|seen|sub)')
LETTERS = string.ascii_lowercase + string.digits              # of a mailbox's uniqueid

Point = collections.namedtuple('Point', 'call kind number about')


class Call(collections.namedtuple('Call', 'thread name text')):
    """One of a trace; `text` is what follows its bracket."""

    @property
    def changes(self):
        return self.name not in OPENS or 'O_CREAT' in self.text

    @property
    def paths(self):
        """what strace compares with each -P"""
        return self._of_descriptors + self._names

    @property
    def path(self):
        """what it is about; of two, where it goes"""
        return os.path.normpath(os.path.join('', *self._of_descriptors[-1:], *self._names[-1:]))

    @property
    def _arguments(self):
        return self.text.split(',', 1)[0] if self.name in OF_BYTES else self.text.rsplit(') = ', 1)[0]

    @property
    def _of_descriptors(self):
        return re.findall(r'<(/[^>]*)>', self._arguments)

    @property
    def _names(self):
        return re.findall(r'"([^"]*)"', self._arguments)


class Files:
    """What is below the directory of an end, as it is now, by its kind."""

    def __init__(self, side):
        self.below, self.state, self.roots = side.cyrus.dir, side.state, set(side.roots.values())
        self.present = [p for top in (self.state, *self.roots) for d, _, names in os.walk(top) for p in (d, *(f'{d}/{n}' for n in names))]

    def kind(self, path):
        """None if it is no file of ours"""
        if path == self.state:
            return 'state'
        if path.startswith(self.state + '/'):
            name, _, below = path[len(self.state) + 1:].partition('/')
            if name.startswith('.') and name.endswith('.new'):
                name = name[1:-4]
            return f'state/{name}/' if below or os.path.isdir(f'{self.state}/{name}') else f'state/{name}'
        root = next((r for r in self.roots if path == r or path.startswith(r + '/')), None)
        if path == root or not root:
            return root and 'a root'
        first, name = path[len(root) + 1:].split('/')[0], os.path.basename(path)
        if first in (OWN, 'quota'):
            return first
        return 'a message' if MESSAGE.fullmatch(name) else name if DATABASE.fullmatch(name) else 'a directory'

    def paths(self, kind):
        """all that strace must be told to see the calls about files of this kind; it sees others with them"""
        # of these there are ever more, and the old ones rest
        present = {p for p in self.present if self.kind(p) == kind} if kind not in ('a message', 'state/quarantine/') else set()
        return present.union(self._to_come(kind))

    def _to_come(self, kind):
        if kind == OWN:
            return [OWN] + [f'{r}/{OWN}{x}' for r in self.roots for x in ['', *(f'/new-{k}' for k in range(100))]]
        if kind == 'a message':
            return [f'{d}{name}' for d in ['', *(x + '/' for x in self._busiest)] for name in self._messages]
        if kind == 'a directory':
            tops = [f'{r}/uuid' for r in self.roots if os.path.isdir(f'{r}/uuid')]
            return tops + [f'{t}/{x}{y}' for t in tops for x in LETTERS for y in ['', *('/' + z for z in LETTERS)]]
        if kind == 'state/quarantine/':                      # in a directory that was just made a name is all
            ids = [os.path.basename(d) for d in self._busiest]
            return [self.state + '/quarantine', 'partition-default', 'uuid', *ids, *(x for i in ids for x in i[:2]), *self._messages]
        if kind.startswith('state/') and not kind.endswith('/'):
            name = kind[6:]
            return [name, f'.{name}.new', f'{self.state}/{name}', f'{self.state}/.{name}.new']
        return [kind] if '/' not in kind else []

    @functools.cached_property
    def _newest(self):
        """the highest UID in each mailbox that has messages"""
        newest = {}
        for p in self.present:
            if self.kind(p) == 'a message':
                directory, name = os.path.split(p)
                newest[directory] = max(newest.get(directory, 0), int(name[:-1]))
        return newest

    @property
    def _busiest(self):
        return sorted(self._newest, key=self._newest.get)[-4:]

    @property
    def _messages(self):
        """the names of those that come: in a new mailbox, in one of the busiest"""
        newest = max(self._newest.values(), default=0)
        return [f'{uid}.' for uid in {*range(1, 20), *range(max(newest - 20, 1), newest + 20)}]


def works():
    """whether there is a strace that may trace here"""
    return bool(shutil.which('strace')) and subprocess.run(
        ['strace', '-qq', '-e', 'inject=sync:error=EIO', '-e', 'trace=none', 'true'], stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def counting(trace):
    """what goes before the daemon's command line to have all its calls written to the file `trace`"""
    # -D: the program is our child, and strace is its grandchild
    return ['strace', '-D', '-f', '-qq', '-y', '-s', '120', '-o', trace, '-e', 'trace=' + ','.join(CALLS), '-e', 'signal=none']


def at(point, what, paths, trace):
    """... to have `what` (`signal=SIGKILL`, `error=EIO`) happen at `point`, of which `paths` are those of its kind"""
    return ['strace', '-D', '-f', '-qq', '-y', '-s', '120', '-o', trace, '-e', f'trace={point.call}', '-e', 'signal=none',
            '-e', f'inject={point.call}:{what}:when={point.number}'] + [x for p in paths for x in ('-P', p)]


def let_go(daemon):
    """the daemon (its pid) goes on without strace, and so without faults"""
    with open(f'/proc/{daemon}/status') as f:
        tracer = int(re.search(r'^TracerPid:\s+(\d+)', f.read(), re.M)[1])
    os.kill(tracer, signal.SIGKILL)                          # of SIGTERM it takes no notice


def without_flushes():
    """... to have it believe that it has flushed"""
    flushes = ','.join(FLUSHES)
    return ['strace', '-D', '-f', '-qq', '-o', '/dev/null', '-e', f'trace={flushes}', '-e', 'signal=none', '-e', f'inject={flushes}:retval=0']


def calls(trace):
    """those of a trace; one that was interrupted by another thread's is put together"""
    begun = {}
    with open(trace, errors='replace') as f:
        for line in f:
            if m := LINE.match(line.rstrip()):
                thread, name, text = m.groups()
                if text.endswith(' <unfinished ...>'):
                    begun[thread] = Call(thread, name, text.removesuffix(' <unfinished ...>'))
                else:
                    yield Call(thread, name, text)
            elif (m := RESUMED.match(line.rstrip())) and m[1] in begun:
                call = begun.pop(m[1])
                yield call._replace(text=call.text + m[2])
    yield from begun.values()


def points(trace, files):
    """(the points of a counted run, its calls that are none); `files` are those from before it"""
    made = [(c, files.kind(c.path) if c.changes else None) for c in calls(trace)]
    known = {kind: files.paths(kind) for kind in {kind for _, kind in made if kind}}
    seen, found, lost = collections.Counter(), {}, []
    for call, own in made:
        matching = [kind for kind, paths in known.items() if not paths.isdisjoint(call.paths)]
        for kind in matching:
            seen[call.thread, call.name, kind] += 1
        if own in matching:
            found.setdefault((call.name, own, seen[call.thread, call.name, own]), call.text.replace(files.below, '…')[:100])
        elif own:
            lost.append(call)
    return [Point(call, kind, number, about) for (call, kind, number), about in sorted(found.items())], lost


def failed(trace):
    """the calls that failed as they were told to"""
    return [c for c in calls(trace) if c.text.endswith('(INJECTED)')]


def unreturned(trace):
    """the call at which it was killed, in a list"""
    return [c for c in calls(trace) if c.text.endswith('= ?') or ') = ' not in c.text][-1:]


def spread(rng, points, count):
    """`count` of them: first one at random of each call and kind, then the others"""
    points = rng.sample(points, len(points))
    before = collections.Counter()
    turn = {}
    for p in points:
        turn[p] = before[p.call, p.kind]
        before[p.call, p.kind] += 1
    return sorted(points, key=turn.get)[:count]
