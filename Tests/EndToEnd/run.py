#!/usr/bin/env python3
"""End-to-end tests of mailsync: real Cyrus instances, real daemons, real load. See README.md beside this file.

Environment: MAILSYNC (the program; default .build-release/release/mailsync of this project), MAILSYNC_USER (whom it runs
as; default cyrus), KILLS, SEED, LONG=1, TMPDIR.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from lab import instance, processes                        # noqa: E402
from runner import Run, clean_up, run_all                  # noqa: E402
from scenarios import GROUPS                               # noqa: E402

DEFAULT = os.path.join(os.path.dirname(os.path.dirname(HERE)), '.build-release/release/mailsync')


def unable():
    """why nothing can be tested here, or None"""
    if os.geteuid() != 0:
        return 'needs root, to run Cyrus under its own account'
    if not instance.installed():
        return 'needs Cyrus IMAP in ' + instance.BIN
    return None


def own_copy(program, directory):
    """a copy that a build may replace beneath us; a script stays where its modules are"""
    with open(program, 'rb') as f:
        if f.read(4) != b'\x7fELF':
            return program
    copy = directory + '/mailsync'
    shutil.copyfile(program, copy)
    os.chmod(copy, 0o755)
    return copy


def works(program, account):
    """None, or why `program` cannot be the one under test"""
    try:
        p = subprocess.run([program, '--help'], capture_output=True, text=True, timeout=30, cwd='/', **account)
    except OSError as e:
        return str(e)
    missing = [s for s in ('init', 'fingerprint', 'check', 'seed', 'run', 'status', 'wait', 'promote') if s not in p.stdout + p.stderr]
    if missing:
        return f'its --help does not name {", ".join(missing)}; exit {p.returncode} {p.stderr.strip()[-200:]}'
    return None


def interrupted(*_):
    raise KeyboardInterrupt                                  # also where SIGINT was ignored, as in a shell's background


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('-k', dest='word', default='', help='only scenarios whose name has this in it')
    ap.add_argument('--quick', action='store_true', help='shorter loads, fewer kills')
    ap.add_argument('--long', action='store_true', default=os.environ.get('LONG') == '1', help='the large ones too')
    ap.add_argument('--keep', action='store_true', help='leave the directories of failed scenarios')
    ap.add_argument('--list', action='store_true')
    a = ap.parse_args()
    program, user = os.path.abspath(os.environ.get('MAILSYNC', DEFAULT)), os.environ.get('MAILSYNC_USER', instance.OWNER)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    processes.adopt_orphans()
    run = Run(program, user, a.quick, a.long, a.keep, int(os.environ.get('KILLS', 3 if a.quick else 6)),
              int(os.environ['SEED']) if 'SEED' in os.environ else None)
    try:
        why = unable()
        if not why and not a.list:
            if not os.path.exists(program):
                print(f'run.py: {program}: not there\nrun.py: hint: build it, or name it in MAILSYNC', file=sys.stderr)
                return 1
            account = processes.account(user) if user != 'root' else {}
            deadline = time.monotonic() + 60
            while True:
                run.program = own_copy(program, run.dir)
                bad = works(run.program, account)
                # one that was written a moment ago may still be in the making
                if not bad or time.time() - os.path.getmtime(program) > 10 or time.monotonic() > deadline:
                    break
                time.sleep(1)
            if bad:
                print(f'run.py: {program}: not a mailsync that {user} can run: {bad}', file=sys.stderr)
                return 1
            print(f'# {program} as {user}, seed {run.seed}', flush=True)
        return run_all(run, GROUPS, a.word, why, a.list)
    finally:
        clean_up(run)


if __name__ == '__main__':
    sys.exit(main())
