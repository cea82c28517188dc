"""What `make demo` shows."""
import os
import subprocess
import sys

from pair import Failure
from runner import Group, scenario

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../../demo/demo.py')


class Demonstration(Group):
    """demo"""

    @scenario('it tells its story to the end')
    def story(self):
        done = subprocess.run([sys.executable, '-B', DEMO], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors='replace',
                              env={**os.environ, 'MAILSYNC': self.run.program})
        proved = done.stdout.partition('What this proved')[2].splitlines()[1:]
        if done.returncode or not proved:
            raise Failure(f'exit {done.returncode}: {(done.stdout + done.stderr)[-2000:]}')
        return f'{len(proved)} points proved'
