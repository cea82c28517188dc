"""Work in a process of its own (load.py, storm.py) that ends when its standard input does, so also when we die."""
import contextlib
import json
import os
import signal
import subprocess
import sys

from . import processes

HERE = os.path.dirname(os.path.abspath(__file__))


class Background:
    """A program of this directory, started at once. stop() returns the JSON it prints last."""

    def __init__(self, program, *arguments):
        self.program, self.killed = program, False
        self.process = subprocess.Popen([sys.executable, '-B', f'{HERE}/{program}', *map(str, arguments)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    @property
    def running(self):
        return self.process.poll() is None

    def stop(self, patience=60):
        try:
            out, err = self.process.communicate(timeout=patience)      # closes its input first
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f'{self.program} did not end within {patience} s') from None
        if self.process.returncode:
            raise RuntimeError(f'{self.program}: exit {self.process.returncode}: {err.decode().strip()[-600:]}')
        return json.loads(out)

    def tree(self):
        """pids of the process and its workers"""
        return [self.process.pid] + processes.offspring(self.process.pid)

    @contextlib.contextmanager
    def paused(self):
        """it stands still for the time of the block, wherever it is"""
        all = self.tree()
        processes.send(all, signal.SIGSTOP)
        try:
            yield
        finally:
            processes.send(all, signal.SIGCONT)

    def kill(self):
        if self.running:
            self.killed = True
            processes.send(self.tree(), signal.SIGKILL)     # its workers hold our pipes
        self.process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
