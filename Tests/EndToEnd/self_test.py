#!/usr/bin/env python3
"""Tests of the tests: the oracle on seeded faults, the scenarios on a stand-in that copies, and on one that is wrong.

A copy made at rest is a right replica, so nearly all scenarios must pass with stand_in.py. Those in IMPOSSIBLE must
not: a plain copy taken under load is no state a Cyrus could have left, and it copies damage faithfully. With each fault
of STAND_IN_FAULT the scenario beside it must fail.   self_test.py [--fast]: without the long first round.
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
IMPOSSIBLE = ('promotion: the primary dies in the middle', 'promotion: the old primary comes back as a replica', 'damage: a message with', 
              'damage: an index with a flipped bit in a record', 'damage: an index with a flipped bit in its header',
              *(f'crashes: {x}' for x in ('the daemon of the primary killed', 'the daemon of the replica killed', 'both', 'daemons killed', 'Cyrus killed')))
FAULTS = {'links': 'operations: a delivery to three recipients is one file', 'times': 'operations: a delivery to three recipients is one file',
          'modes': 'operations: a flag', 'lose': 'operations: a flag', 'content': 'operations: a flag', 'extra': 'operations: a flag',
          'early': 'operations: a flag', 'fence': 'promotion: the old primary is refused'}


def run(*arguments, fault=''):
    """(lines of the run, its exit code)"""
    p = subprocess.run([sys.executable, '-B', HERE + '/run.py', *arguments], capture_output=True, text=True,
                       env={**os.environ, 'MAILSYNC': HERE + '/stand_in.py', 'STAND_IN_FAULT': fault, 'KILLS': '10'})
    return (p.stdout + p.stderr).splitlines(), p.returncode


def main():
    bad = []

    def verdict(ok, what, lines=()):
        print(('ok     ' if ok else 'FAIL   ') + what, flush=True)
        if not ok:
            bad.append(what)
            print('\n'.join('         ' + x for x in lines))

    p = subprocess.run([sys.executable, '-B', HERE + '/lab/faults.py'], capture_output=True, text=True)
    verdict(p.returncode == 0, 'the oracle finds seeded faults: ' + (p.stdout.splitlines() or ['nothing'])[-1], (p.stdout + p.stderr).splitlines()[-20:])
    for fault, word in FAULTS.items():
        lines, code = run('--quick', '-k', word, fault=fault)
        failed = [x for x in lines if x.startswith('FAIL')]
        verdict(code == 1 and failed, f'fault "{fault}" is noticed: ' + ' '.join(lines[2:3]).strip()[:100], lines)
    if '--fast' not in sys.argv:
        lines, code = run('--quick')
        print('\n'.join('       | ' + x for x in lines))
        failed = [x[7:] for x in lines if x.startswith('FAIL')]
        wrong = [x for x in failed if not x.startswith(IMPOSSIBLE)]
        missing = [x for x in IMPOSSIBLE if not any(f.startswith(x) for f in failed)]
        verdict(not wrong and not missing, 'the scenarios on a copy: ' + lines[-1], ['should pass: ' + x for x in wrong] + ['should fail: ' + x for x in missing])
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
