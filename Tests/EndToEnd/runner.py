"""A tiny test runner: groups of scenarios, one line for each, a closing line, and no leftovers."""
import inspect
import os
import shutil
import signal
import subprocess
import tempfile
import time
import traceback

from lab import processes

PATIENCE = 900                           # seconds until a scenario that hangs is given up


class Skip(Exception):
    pass


def scenario(title, long=False, patience=PATIENCE):
    """marks a method of a Group as a test; `long` ones run only with --long; given up after `patience` seconds"""
    def mark(f):
        f.scenario, f.long, f.patience = title, long, patience
        return f
    return mark


class Group:
    """Scenarios that belong together, run in the order they are written. The title is the class's docstring's first line."""
    needs_program = True

    def __init__(self, run):
        self.run = run

    @classmethod
    def title(cls):
        return inspect.getdoc(cls).splitlines()[0].rstrip('.')

    def scenarios(self):
        seen = {}
        for c in reversed(type(self).__mro__):              # a subclass repeats its base's, in their order
            for name, f in vars(c).items():
                if hasattr(f, 'scenario'):
                    seen[name] = getattr(self, name)
        return list(seen.values())

    def before(self):
        pass

    def after(self):
        """follows a scenario that succeeded, and may fail it"""

    def tear_down(self, failed):
        """follows every scenario"""

    def end(self):
        """follows the last scenario of the group"""

    def evidence(self):
        return []


class Run:
    """What the scenarios share: options, a directory, a random seed."""

    def __init__(self, program, run_as, quick=False, long=False, keep=False, kills=6, seed=None):
        self.program, self.run_as, self.quick, self.long, self.keep, self.kills = program, run_as, quick, long, keep, kills
        self.seed = seed if seed is not None else int(time.time()) % 100000
        self.dir = tempfile.mkdtemp(prefix='mailsync-e2e.')
        os.chmod(self.dir, 0o755)
        self.counter, self.removals = 0, []

    def directory(self):
        """a new one, not made yet"""
        self.counter += 1
        return f'{self.dir}/{self.counter}'

    def discard(self, path):
        """in the background: it takes longer than most scenarios"""
        self.removals.append(subprocess.Popen(['rm', '-rf', path], stdin=subprocess.DEVNULL))

    def close(self):
        if self.keep and any(name.isdigit() for name in os.listdir(self.dir)):
            print(f'kept: {self.dir}')
        else:
            shutil.rmtree(self.dir, ignore_errors=True)


class Deadline:
    """raises TimeoutError in the main thread when a scenario takes too long"""

    def __init__(self, patience):
        self.patience = patience

    def __enter__(self):
        def late(*_):
            raise TimeoutError(f'given up after {self.patience} s')
        signal.signal(signal.SIGALRM, late)
        signal.alarm(self.patience)

    def __exit__(self, *_):
        signal.alarm(0)


def reason(e):
    """the sentence of an exception; where it was raised, unless it is the verdict on the program"""
    from pair import Failure
    text = [x for x in str(e).splitlines() if x] or [repr(e)]
    if isinstance(e, Failure):
        return text
    where = [f for f in traceback.extract_tb(e.__traceback__) if '/EndToEnd/' in f.filename][-3:]
    return [f'{type(e).__name__}: {text[0]}'] + text[1:] + [f'at {os.path.basename(f.filename)}:{f.lineno} {f.line}' for f in reversed(where)]


def run_all(run, groups, word='', unable=None, listing=False):
    """runs what matches `word`; `unable` is why nothing can run here; returns the exit code"""
    counts, again, failures = dict(passed=0, failed=0, skipped=0), 0, []
    try:
        for make in groups:
            group = make(run)
            try:
                for test in group.scenarios():
                    name = f'{group.title()}: {test.scenario}'
                    if word.lower() not in name.lower():
                        continue
                    if listing:
                        print(name)
                        continue
                    why = unable or ('needs --long' if test.long and not run.long else None)
                    result, notes, secs = ('skipped', [why], 0) if why else _one(group, test)
                    if result == 'undecided':
                        again += 1
                        _tell('AGAIN  ', name, result, notes, secs)
                        result, notes, secs = _one(group, test)
                        result = 'failed' if result == 'undecided' else result
                    counts[result] += 1
                    if result == 'failed':
                        failures.append((name, notes[:3]))
                    _tell({'passed': 'ok     ', 'failed': 'FAIL   ', 'skipped': 'skip   '}[result], name, result, notes, secs)
            finally:
                group.end()
    except KeyboardInterrupt:
        print('interrupted')
        counts['failed'] += 1
    if listing:
        return 0
    # once more, as what was told of them is far above
    for name, notes in failures:
        print('\n         '.join(['failed: ' + name] + [x[:300] for x in notes]))
    tries = f', {again} tried again' if again else ''
    print('{passed} passed, {failed} failed, {skipped} skipped'.format(**counts) + tries, flush=True)
    return 1 if counts['failed'] else 0


def _tell(word, name, result, notes, secs):
    print(word + name + (f' ({notes[0]})' if result == 'skipped' else f' ({secs:.1f} s)'), flush=True)
    if result != 'skipped':
        for x in notes:
            print('         ' + x[:700], flush=True)


def _one(group, test):
    """what came of it; 'undecided' is no verdict on the program: something was not in time, or a Cyrus did not answer, as on a
    machine that stood still. That is tried once more, and told"""
    from pair import Failure, Late
    start, failed, notes = time.monotonic(), True, []
    try:
        with Deadline(getattr(test, 'patience', PATIENCE)):
            group.before()
            said = test()
            group.after()
        failed, notes = False, [said] if said else []
        return 'passed', notes, time.monotonic() - start
    except Skip as e:
        failed = False
        return 'skipped', [str(e)], 0
    except Exception as e:
        notes = reason(e)
        try:
            notes += group.evidence()
        except Exception as again:
            notes.append(f'(no evidence: {again!r})')
        is_verdict = isinstance(e, Failure) and not isinstance(e, Late)
        return 'failed' if is_verdict else 'undecided', notes, time.monotonic() - start
    finally:
        group.tear_down(failed)


def clean_up(run):
    for p in run.removals:
        p.wait()
    processes.end_offspring()
    run.close()
