#!/usr/bin/env bash
# Two mail servers on this machine, mail and clients, crashes, a fail-over and the way back; in about a minute.
#
# Needs the program (make build) and python3. As root and with Cyrus IMAP installed it runs two real Cyrus instances,
# on ports of 127.0.0.1 that nobody uses, beside whatever runs here; the system's own Cyrus is not touched. Without, it
# makes a small store and changes it as Cyrus would. Everything is in a temporary directory and gone at the end.
#
#     MAILSYNC   the program; default .build-release/release/mailsync
#     KEEP=1     leave the directory, to look around
#
# Exit status 0 if every comparison came out equal, 1 if one did not, 69 if it cannot run here.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/.."

program=${MAILSYNC:-.build-release/release/mailsync}
python=${PYTHON:-python3}

if [ ! -x "$program" ]; then
    echo "demo: $program: not there; run \"make demo\", or \"make build\" first" >&2
    exit 69
fi
if ! command -v "$python" > /dev/null; then
    echo 'demo: python3 is missing' >&2
    exit 69
fi
export MAILSYNC="$program"
# A journaled file system of its own if that can be had; with KEEP a place that stays.
if [ "${KEEP:-}" = 1 ]; then exec "$python" -B demo/demo.py "$@"; fi
exec .ci/on-scratch-disk "$python" -B demo/demo.py "$@"
