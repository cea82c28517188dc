#!/usr/bin/env python3
"""run.py [options]: mailsync and its peers on the same work, in turn, on this machine; prints one table. README.md says how it measures."""
import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import tools                                               # noqa: E402
from lab import instance, processes                        # noqa: E402
from rows import ROWS, Bench                               # noqa: E402


class Table:
    """(row, metric, unit) -> {name: values}, in the order they came"""

    def __init__(self):
        self.cells, self.reference, self.loads = {}, {}, {}

    def add(self, row, metric, unit, name, value, reference=None):
        self.cells.setdefault((row, metric, unit), {}).setdefault(name, []).append(value)
        if reference:
            self.reference[row, metric, unit] = reference

    def lines(self):
        """row, measure, who, min, median, max, ratio of the medians to the reference's"""
        for (row, metric, unit), names in self.cells.items():
            reference = names.get(self.reference.get((row, metric, unit)))
            base = statistics.median(reference) if reference and len(names) > 1 else 0
            for name, values in sorted(names.items(), key=lambda kv: kv[1] is not reference):   # the reference first
                m = statistics.median(values)
                yield (row, f'{metric}, {unit}', name, *map(figure, (min(values), m, max(values))), f'{m / base:.2f}' if base else '')

    def text(self):
        head = ('row', 'measure', 'who', 'min', 'median', 'max', 'ratio')
        body = list(self.lines())
        width = [max(map(len, column)) for column in zip(head, *body)]
        out, last = [], None
        for cells in [head, ['-' * w for w in width], *body]:
            shown = ['' if i < 2 and last and cells[:i + 1] == last[:i + 1] else c for i, c in enumerate(cells)]
            out.append('| ' + ' | '.join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(shown, width))) + ' |')
            last = cells
        return '\n'.join(out)

    def data(self):
        return [dict(row=row, metric=metric, unit=unit, who=name, values=values)
                for (row, metric, unit), names in self.cells.items() for name, values in names.items()]


    def json(self, o, failed):
        return json.dumps(dict(rounds=o.rounds, cpus=os.cpu_count(), load=self.loads, failed=failed, results=self.data()), indent=1)


def save(o, table, failed):
    if o.json and o.json != '-':
        with open(o.json, 'w') as f:
            f.write(table.json(o, failed) + '\n')


def figure(x):
    return f'{x:.0f}' if abs(x) >= 100 else f'{x:.1f}' if abs(x) >= 10 else f'{x:.2f}'


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--only', action='append', metavar='NAME', help=f'one of {", ".join(ROWS)}; may be repeated')
    ap.add_argument('--small', action='store_true', help='a store of 10 000 messages instead of 100 000')
    ap.add_argument('--million', action='store_true', help='a store of 1 000 000 messages for seed and memory')
    ap.add_argument('--quick', action='store_true', help='fewer samples, shorter loads')
    ap.add_argument('--json', metavar='FILE', nargs='?', const='-', help='the values as JSON, to FILE, or instead of the table')
    o = ap.parse_args()
    if unknown := set(o.only or ()) - set(ROWS):
        ap.error(f'no such row: {", ".join(unknown)}')
    program = os.environ.get('MAILSYNC', os.path.join(tools.PROJECT, '.build-release/release/mailsync'))
    if os.geteuid() or not instance.installed():
        sys.exit('run.py: needs root and an installed Cyrus IMAP 3.6, as the end-to-end tests do')
    if not os.path.exists(program):
        sys.exit(f'run.py: {program}: not there; build it, or set MAILSYNC')
    processes.adopt_orphans()
    o.own_network = tools.own_network()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    where = tempfile.mkdtemp(prefix='mailsync-bench.')
    os.chmod(where, 0o755)
    copy = shutil.copy2(program, where + '/mailsync')
    tools.run(['strip', copy], 60) if shutil.which('strip') and not o.quick else None
    table, failed = Table(), []
    bench = Bench(where, copy, o, table.add)
    print(f'{os.cpu_count()} CPUs, load {tools.load_average()}, {o.rounds} rounds, in {"a network of its own" if o.own_network else "the common network"}', file=sys.stderr)
    try:
        for name in o.only or ROWS:
            begun, load = time.monotonic(), tools.load_average()
            try:
                ROWS[name](bench)
            except Exception as e:                         # the other rows shall still be measured
                failed.append(f'{name}: {type(e).__name__}: {e}')
                print(failed[-1], file=sys.stderr)
                if os.environ.get('BENCH_TRACE'):
                    raise
            table.loads[name] = (load, tools.load_average())
            save(o, table, failed)
            print(f'{name}: {time.monotonic() - begun:.0f} s, load before and after: {load} / {tools.load_average()}', file=sys.stderr, flush=True)
    finally:
        bench.close()
        processes.end_offspring()
        shutil.rmtree(where, ignore_errors=True)
    if o.json != '-':
        print(table.text())
    else:
        print(table.json(o, failed))
    sys.exit(bool(failed))


if __name__ == '__main__':
    main()
