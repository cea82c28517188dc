#!/usr/bin/env python3
"""Runs every target of mailsync-fuzz for a while, from a corpus made of Fixtures; exits 1 if one finds something.

usage: run.py PROGRAM [TARGET...]      FUZZ_SECONDS=60 each; FUZZ_JOBS at a time (default: the processors)

A finding is kept in .build-fuzz/found/TARGET/; `mailsync-fuzz TARGET FILE` shows it again. Once mended it goes to
Fixtures/fuzz/TARGET/, from where it is tried each time.

FUZZ_KEEP=1 keeps in Fixtures/fuzz/TARGET.hex, an input a line, the shortest inputs of those that reached something new, so
that the next run begins there. They are few on purpose: KEPT_BYTES of each target. FUZZ_GO_ON=1 begins where the last run
on this machine ended, with all that it came by.
"""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FIXTURES = f'{ROOT}/Fixtures'
WORK = f'{ROOT}/.build-fuzz'
KEPT_BYTES = 16384


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def unhex(path):
    """the bytes of a .hex file: two digits each, comments behind #"""
    text = re.sub(r'#.*', '', read(path).decode())
    return bytes.fromhex(''.join(text.split()))


def seeds():
    """target -> inputs to begin with"""
    wire = {os.path.basename(p)[:-4]: unhex(p) for p in sorted(glob.glob(f'{FIXTURES}/wire/*.hex'))}
    cyrus = {os.path.relpath(p, f'{FIXTURES}/cyrus'): read(p)
             for p in sorted(glob.glob(f'{FIXTURES}/cyrus/**', recursive=True)) if os.path.isfile(p)}
    messages = [v for k, v in wire.items() if k.startswith('message-')]
    records = [v for k, v in wire.items() if k.startswith('record-')]
    batches = [v for k, v in wire.items() if k.startswith('batch')]
    twoskip = [v for v in cyrus.values() if b'twoskip file' in v[:40] and len(v) < 65536]
    header = cyrus['mailbox/cyrus.header']
    lists = [b'%(A (1 2) "b c" {3}\r\nabc D NIL)', header[115:].rstrip(b'\n'), cyrus['quota-user.alice']]
    configuration = b'configdirectory: /c\npartition-default: /p\n# x\nsievedir: /s\nhashimapspool: yes\na: b \\\n c\n'
    mailsync = b'store: m\npeer.a: h:2009\npeer_fingerprint: SHA256:' + b'00' * 32 + b'\nsweep_period: 1h30m\njournal_max: 8G\n'
    delta = bytes.fromhex('72730236') + b'\x03abc' + b'\x45\x00\x10' + b'\x00'
    entry = b'Nuser.alice\0%(I abc T e P default V 1 C 1 F 2 M 3 A %(alice lrswip anyone p))'
    return {
        'frames': [b'\xff' + m for m in messages] + [b'\x10' + b''.join(messages)],
        'messages': [m[4:] for m in messages],
        'records': records,
        'batches': batches,
        'sealed': [b'\0\0\0\0\0\0\0\1' + r for r in records] + [b[28:36] + b[64:] for b in batches],
        'segments': [wire['segment'], wire['segment-head']],
        'deltas': [b'\x01' + delta],
        'signatures': [bytes.fromhex('727301470000080000000010') + bytes(20) * 3],
        'compressed': [b[28:32] + b[64:] for b in batches],
        'imapd-conf': [configuration, configuration + b'@include: other\n'],
        'mailsync-conf': [mailsync],
        'index': [cyrus['mailbox/cyrus.index']],
        'header': [header[115:], b'root\tid\nflag flag\nalice\tlr\t\n'],
        'cache': [cyrus['mailbox/cyrus.cache'][:8192]],
        'twoskip': twoskip,
        'skiplist': [v for v in cyrus.values() if b'skiplist file' in v[:40]],
        'mailboxes': [entry, b'Iabc\0%(N user.alice H (%(N user.bob)) P default T d)'],
        'quota': [cyrus['quota-user.alice'], b'100\n-1\n'],
        'dlist': lists,
        'small-databases': [v for k, v in cyrus.items() if k in ('sub.db', 'counters.db', 'dav.db.head')],
        'paths': [b'\0user/a/alice.sub', b'\2uuid/a/b/abc/1.', b'\1a/x/default.bc', b'\3domain/e/x.org/a/user/a/1.'],
    }


def kept(target):
    """what earlier runs came by"""
    path = f'{FIXTURES}/fuzz/{target}.hex'
    if not os.path.exists(path):
        return []
    with open(path) as f:
        return [bytes.fromhex(line) for line in f]


def keep(target, corpus, known):
    """of what libFuzzer added to a corpus, but not what it is given again anyway"""
    room, lines = KEPT_BYTES, []
    for data in sorted({read(p) for p in glob.glob(f'{corpus}/*')} - known, key=lambda d: (len(d), d)):
        room -= len(data)
        if room < 0:
            break
        lines.append(data.hex() + '\n')
    with open(f'{FIXTURES}/fuzz/{target}.hex', 'w') as f:
        f.writelines(lines)


def fuzz(program, target, inputs, seconds):
    corpus, found = f'{WORK}/corpus/{target}', f'{WORK}/found/{target}/'
    if not os.environ.get('FUZZ_GO_ON'):
        shutil.rmtree(corpus, ignore_errors=True)
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(found, exist_ok=True)
    before = set(os.listdir(found))
    for n, data in enumerate(inputs + kept(target) + [read(p) for p in sorted(glob.glob(f'{FIXTURES}/fuzz/{target}/*'))]):
        with open(f'{corpus}/{n}', 'wb') as f:
            f.write(data)
    argv = [program, target, f'-max_total_time={seconds}', '-timeout=5', '-rss_limit_mb=1024', '-max_len=32768', '-print_final_stats=1',
            f'-artifact_prefix={found}', '-seed=' + os.environ.get('SEED', '1'), corpus]
    done = subprocess.run(argv, capture_output=True, text=True, errors='replace', stdin=subprocess.DEVNULL, timeout=seconds + 120,
                          env={**os.environ, 'SWIFT_BACKTRACE': 'enable=no'})
    new = sorted(set(os.listdir(found)) - before)
    counts = dict(re.findall(r'stat::(\w+):\s+(\d+)', done.stderr))
    cover = re.findall(r'cov: (\d+)', done.stderr)
    line = f'{target}: {counts.get("number_of_executed_units", "?")} runs, {cover[-1] if cover else "?"} edges, {counts.get("peak_rss_mb", "?")} MiB'
    if done.returncode == 0 and not new:
        if os.environ.get('FUZZ_KEEP'):
            keep(target, corpus, set(inputs))
        return True, line
    why = [x for x in done.stderr.splitlines() if 'Fatal error' in x or 'ERROR' in x or 'Precondition' in x][:3]
    return False, '\n  '.join([f'{line}: exit {done.returncode}', *(found + n for n in new), *why])


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:]
    known = subprocess.run([program], capture_output=True, text=True).stdout.split()
    all_seeds = seeds()
    if set(known) != set(all_seeds):
        sys.exit(f'run.py: seeds and targets differ: {sorted(set(known) ^ set(all_seeds))}')
    seconds, good = int(os.environ.get('FUZZ_SECONDS', 60)), True
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get('FUZZ_JOBS', os.cpu_count()))) as pool:
        runs = [pool.submit(fuzz, program, t, all_seeds[t], seconds) for t in known if not wanted or t in wanted]
        for run in concurrent.futures.as_completed(runs):
            fine, text = run.result()
            good = good and fine
            print(('ok     ' if fine else 'FOUND  ') + text, flush=True)
    sys.exit(0 if good else 1)


if __name__ == '__main__':
    main()
