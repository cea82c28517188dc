#!/usr/bin/env python3
"""Writes the *.hex beside it: what mailsync's own formats look like, byte by byte.

Written from the comments that head Sources/Formats/Wire/*.swift and Journal/Segment.swift, not from the code below them:
a test that compares the two fails when either moves. Run it only when a format changes on purpose, and read the diff.
XXH3 comes from libxxhash, SHA-256 from Python.
"""
import ctypes, ctypes.util, hashlib, os, struct

HERE = os.path.dirname(os.path.abspath(__file__))
xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")


class H128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


xxhash.XXH3_64bits.restype = ctypes.c_uint64
xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
xxhash.XXH3_128bits.restype = H128
xxhash.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def xxh64(data): return xxhash.XXH3_64bits(data, len(data))


def digest(data):
    """Of a content of at most one page; 16 bytes, high half first."""
    h = xxhash.XXH3_128bits(data, len(data))
    return struct.pack(">QQ", h.high, h.low)


def leb(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def string(data): return leb(len(data)) + data


class Hex:
    """Pieces of bytes, each with what it means."""

    def __init__(self): self.pieces = []

    def add(self, data, comment):
        self.pieces.append((data, comment))
        return self

    def bytes(self): return b"".join(data for data, _ in self.pieces)

    def save(self, name, title):
        lines = ["# " + title]
        for data, comment in self.pieces:
            rows = [data[i:i + 16] for i in range(0, len(data), 16)] or [b""]
            for number, row in enumerate(rows):
                text = " ".join(f"{byte:02x}" for byte in row)
                lines.append(f"{text:<48}# {comment}" if number == 0 else text)
        with open(os.path.join(HERE, name), "w") as file: file.write("\n".join(lines) + "\n")


def path(hex, root, name, what="path"):
    hex.add(string(root), f"root of the {what}: {root.decode()}")
    hex.add(string(name), f"{what}: {name.decode(errors='replace')}")


def metadata(hex, mode, mtime, owner=None, group=None, attributes=()):
    flags = (owner is not None) | (group is not None) << 1 | bool(attributes) << 2
    hex.add(bytes([flags]), "metadata: flags" + " owner" * (owner is not None) + " group" * (group is not None)
            + " attributes" * bool(attributes))
    hex.add(struct.pack(">H", mode), f"mode {mode:o}")
    hex.add(struct.pack(">q", mtime), f"mtime {mtime} ns")
    if owner is not None: hex.add(leb(owner), f"owner {owner}")
    if group is not None: hex.add(leb(group), f"group {group}")
    if attributes:
        hex.add(leb(len(attributes)), f"{len(attributes)} attributes")
        for name, value in attributes: hex.add(string(name) + string(value), f"{name.decode()} = {value.decode()}")


MAIL, CONF = b"partition-default", b"configdirectory"
INDEX = b"uuid/7/4/74d3/cyrus.index"
MTIME = 1_700_000_000_123_456_789
OLD, NEW = digest(b"old"), digest(b"new")


def record(kind, comment, root, name):
    hex = Hex().add(bytes([kind]), f"kind: {comment}")
    path(hex, root, name)
    return hex


def records():
    hex = record(1, "directory", MAIL, b"uuid/7/4/74d3")
    metadata(hex, 0o755, MTIME)
    yield "record-directory.hex", "a directory that is to be there", hex

    hex = record(2, "whole", MAIL, b"uuid/7/4/74d3/1.")
    metadata(hex, 0o600, -1, owner=0, group=4_294_967_295, attributes=[(b"user.a", b"1"), (b"user.b", b"")])
    body = b"Subject: hello\r\n\r\nhello\r\n"
    hex.add(digest(body), "result: XXH3-128 of the content").add(string(body), "the content: a message")
    yield "record-whole.hex", "a file's whole content; all that metadata can tell", hex

    hex = record(3, "extents", MAIL, INDEX)
    metadata(hex, 0o600, MTIME)
    hex.add(OLD, "basis").add(NEW, "result").add(leb(16384), "the file has 16384 bytes then").add(leb(3), "3 extents")
    hex.add(leb(0) + string(b"head"), "at 0, 4 bytes")
    hex.add(leb(396) + string(b"record"), "396 behind the end of the one before, so at 400: 6 bytes")
    hex.add(leb(15974) + string(b"\0\0\0\0"), "15974 on, at 16380: 4 bytes, to the end")
    yield "record-extents.hex", "bytes of a file that change in place", hex

    hex = record(4, "delta", CONF, b"mailboxes.db")
    metadata(hex, 0o640, MTIME)
    hex.add(OLD, "basis").add(NEW, "result").add(leb(300), "the file has 300 bytes then")
    hex.add(string(bytes.fromhex("727302 36 0361626300".replace(" ", ""))), "librsync's delta, not looked into")
    yield "record-delta.hex", "librsync's delta", hex

    hex = record(5, "part", MAIL, b"uuid/7/4/74d3/2.")
    hex.add(NEW, "result, of the whole").add(leb(8 << 20), "offset 8388608").add(string(b"part"), "bytes")
    yield "record-part.hex", "a piece of a content too large for one batch", hex

    hex = record(6, "assembled", MAIL, b"uuid/7/4/74d3/2.")
    metadata(hex, 0o600, MTIME)
    hex.add(NEW, "result").add(leb((8 << 20) + 4), "bytes of the file")
    yield "record-assembled.hex", "a file whose content came before, in parts", hex

    hex = record(7, "link", MAIL, b"uuid/8/8/88aa/1.")
    path(hex, MAIL, b"uuid/7/4/74d3/1.", "target")
    hex.add(NEW, "result")
    yield "record-link.hex", "another name of a file", hex

    hex = record(8, "symlink", CONF, b"sieve-global")
    metadata(hex, 0o777, MTIME)
    hex.add(string(b"../sieve/global"), "the target, as readlink gives it: not a path of ours")
    yield "record-symlink.hex", "a symbolic link", hex

    hex = record(9, "metadata", CONF, b"user/a/alice.sub")
    metadata(hex, 0o644, MTIME)
    hex.add(NEW, "result: the content that stays")
    yield "record-metadata.hex", "a file whose content stays", hex

    hex = record(10, "remove", MAIL, "uuid/7/4/74d3/Entwürfe".encode() + b"\xff")
    yield "record-remove.hex", "a name that is to be gone; names are bytes, this one is not UTF-8", hex

    yield "record-keep.hex", "what is there is kept aside as well", record(11, "keep", MAIL, INDEX)

    def check(number, depth, directories):
        hex = record(12, "check", MAIL, b"")
        hex.add(struct.pack(">Q", number), f"number {number}").add(leb(7), f"audit {number - 7}").add(bytes([depth]), "depth: " + ["", "metadata", "content", "content, with the records of databases"][depth])
        hex.add(leb(len(directories)), f"{len(directories)} directories")
        before = b""
        for name, excluded in directories:
            shared = len(os.path.commonprefix([before, name]))
            hex.add(leb(shared) + string(name[shared:]), f"{name.decode()}: {shared} bytes as before, and the rest")
            hex.add(leb(len(excluded)) + b"".join(string(x) for x in excluded), f"{len(excluded)} names left out")
            before = name
        return hex

    hex = check(77, 2, [(b"uuid/7/4/74d3", []), (b"uuid/7/5/75aa", [b"1.", b"cyrus.index"])])
    hex.add(b"\x01", "claim: combined").add(struct.pack(">QQ", 1, 2), "digest 1, without owners 2")
    yield "record-check.hex", "what two directories hold together", hex

    hex = check(78, 1, [(b"uuid/7/4/74d3", []), (b"", [])]).add(b"\x02", "claim: entries")
    hex.add(leb(2) + struct.pack(">QQ", 3, 4), "2 entries").add(leb(1) + leb(1) + struct.pack(">Q", 5), "entry 1 without its owner: 5")
    hex.add(leb(0) + leb(0), "none in the root itself")
    yield "record-check-entries.hex", "what each holds", hex

    hex = check(84, 3, [(b"a", [])]).add(b"\x02", "claim: entries")
    hex.add(leb(1) + struct.pack(">Q", 3) + leb(0), "1 entry")
    yield "record-check-records.hex", "what one holds, and the records of databases that are otherwise are wanted", hex

    hex = check(79, 1, []).add(b"\x03", "claim: links").add(leb(1), "1 group").add(leb(2), "of 2 names")
    for root, name in ((MAIL, b"a/1."), (b"archivepartition-default", b"b/7.")): path(hex, root, name, "name")
    yield "record-check-links.hex", "names that are one file", hex

    hex = check(81, 2, [(b"a", []), (b"b/c", []), (b"a/x", []), (b"a/y", [b"1."])]).add(b"\x04", "claim: range from a through b/c")
    hex.add(leb(300), "300 directories").add(struct.pack(">QQ", 1, 2), "digest 1, without owners 2")
    yield "record-check-range.hex", "what all directories between two hold together, but for some", hex

    hex = check(82, 1, []).add(b"\x05", "claim: digests of links").add(struct.pack(">64Q", *range(64)), "of each part")
    yield "record-check-link-digests.hex", "which names are one file, all together", hex

    hex = check(83, 2, [(b"a", [])]).add(b"\x06\x01", "claim: a mailbox that is sound")
    yield "record-check-soundness.hex", "that Cyrus finds nothing wrong", hex


def position(epoch, sequence): return struct.pack(">IQ", epoch, sequence)


def batch(epoch, sequence, link, payload, raw_bytes, count, kind=0, time=MTIME):
    hex = Hex().add(b"MSB1", "magic").add(struct.pack(">I", epoch), f"epoch {epoch}")
    hex.add(struct.pack(">Q", sequence), f"sequence {sequence}").add(struct.pack(">q", time), f"time {time} ns")
    hex.add(struct.pack(">I", len(payload)), f"{len(payload)} payload bytes")
    hex.add(struct.pack(">I", raw_bytes), f"{raw_bytes} raw bytes").add(struct.pack(">I", count), f"{count} records")
    hex.add(struct.pack(">I", kind), "kind: " + ["log", "seed"][kind])
    hex.add(link, "link: the first half of the chain hash before")
    head = hex.bytes()
    hex.add(struct.pack(">Q", xxh64(struct.pack(">QQ", xxh64(head), xxh64(payload)))), "checksum")
    return hex.add(payload, "payload")


PREVIOUS = hashlib.sha256(b"the batch before").digest()


def plain_batch():
    payload = b"".join(hex.bytes() for name, _, hex in records() if name in ("record-metadata.hex", "record-remove.hex"))
    return batch(3, 4211, PREVIOUS[:16], payload, len(payload), 2)


def compressed_batch():
    # remove of partition-default, 60 times "a": an LZ4 block of literals, a match, and literals at the end.
    raw = b"\x0a" + string(MAIL) + string(b"a" * 60)
    literals = raw[:21]                                   # up to the first "a"
    block = bytes([0xFF, 21 - 15]) + literals + struct.pack("<H", 1) + bytes([54 - 19])
    block += bytes([5 << 4]) + b"a" * 5
    assert len(literals) + 54 + 5 == len(raw)
    return batch(3, 9, b"\0" * 16, block, len(raw), 1, kind=1)


def messages():
    def frame(kind, body):
        hex = Hex().add(struct.pack(">I", len(body.bytes()) + 1), "bytes that follow").add(bytes([kind]), "kind")
        hex.pieces += body.pieces
        return hex

    yield "message-hello.hex", "what a replica says first", frame(1, Hex()
        .add(struct.pack(">H", 3), "protocol 3").add(string("mail-Ü".encode()), "store: mail-Ü")
        .add(b"\x01", "purpose: stream").add(position(3, 4211), "flushed 3/4211").add(PREVIOUS, "chain hash there")
        .add(position(3, 4200), "applied 3/4200").add(position(3, 4150), "consistent after 3/4150")
        .add(struct.pack(">I", 4), "epoch seen: 4")
        .add(leb(1), "1 rule of naming").add(string(b"hashimapspool") + string(b"yes"), "hashimapspool: yes"))
    yield "message-welcome.hex", "what a primary answers", frame(2, Hex()
        .add(struct.pack(">H", 3), "protocol 3").add(position(3, 4211), "start 3/4211").add(PREVIOUS, "chain hash there")
        .add(position(3, 4150), "consistent after 3/4150"))
    yield "message-refuse.hex", "or this", frame(3, Hex()
        .add(b"\x04", "reason: fenced").add(string(b"epoch 4 was promoted elsewhere"), "text"))
    yield "message-batch.hex", "a sealed batch, the one of batch.hex", frame(4, Hex()
        .add(plain_batch().bytes(), "all bytes of the batch"))
    yield "message-ack.hex", "how far a replica is", frame(5, Hex()
        .add(position(3, 4213), "received 3/4213")
        .add(leb(0) + leb(1), "flushed 3/4212").add(leb(1) + leb(4099), "applied 2/4099"))
    yield "message-heartbeat.hex", "still here", frame(6, Hex()
        .add(struct.pack(">q", MTIME), "time").add(position(3, 4213), "journaled"))
    body = Hex().add(leb(2), "2 paths")
    path(body, MAIL, INDEX)
    path(body, CONF, b"")
    yield "message-resend.hex", "to be sent whole: a file, and all of a root", frame(7, body)
    body = Hex()
    path(body, MAIL, b"uuid/7", "directory")
    metadata(body, 0o755, MTIME)
    body.add(leb(3), "3 entries")
    body.add(string(b"4") + b"\x01" + leb(0), "4: a directory")
    body.add(string(b"1.") + b"\x02" + leb(300) + NEW, "1.: 300 bytes, digest known")
    body.add(string(b"cyrus.index") + b"\x00" + leb(1 << 46), "cyrus.index: as long as a file may be")
    yield "message-seed-listing.hex", "what a directory holds", frame(8, body)
    body = Hex()
    path(body, MAIL, b"uuid/7", "directory")
    body.add(leb(3), "3 items").add(string(b"1.") + b"\x00", "1.: there is nothing here")
    body.add(string(b"2.") + b"\x01" + OLD, "2.: a file with this content")
    body.add(string(b"cyrus.index") + b"\x02" + OLD + string(b"rs\x01G"), "cyrus.index: and a signature of it")
    yield "message-seed-want.hex", "what a replica wants of it", frame(9, body)
    yield "message-seed-end.hex", "all was sent", frame(10, Hex()
        .add(position(3, 4300), "consistent at 3/4300").add(struct.pack(">QQ", 7, 1 << 33), "7 files, 2^33 bytes")
        .add(NEW, "manifest"))
    yield "message-seed-plan.hex", "how many files there are", frame(14, Hex().add(struct.pack(">Q", 1 << 20), "2^20 files"))
    yield "message-verdict.hex", "a check held", frame(11, Hex().add(struct.pack(">Q", 77), "number 77").add(b"\x01", "equal"))
    yield "message-verdict-directories.hex", "or not: which directories", frame(11, Hex()
        .add(struct.pack(">Q", 77), "number 77").add(b"\x02" + leb(3), "3 directories")
        .add(b"\x01" + struct.pack(">Q", 9), "digest 9").add(b"\x02", "absent").add(b"\x03", "moved on"))
    body = Hex().add(struct.pack(">Q", 78), "number 78").add(b"\x03" + leb(3), "details of 3 directories").add(b"\x01", "found")
    body.add(leb(1) + struct.pack(">Q", 4), "1 entry is missing").add(leb(3), "3 are there instead")
    body.add(b"\x01\x07" + string(b"1.") + struct.pack(">H", 0o600) + leb(300) + struct.pack(">q", MTIME) + leb(0) + leb(8) + NEW,
             "1.: a file of 300 bytes, of user 0 and group 8")
    body.add(b"\x01" + bytes(range(20)), "its SHA-1")
    body.add(b"\x01\x08" + string(b"2.") + struct.pack(">H", 0o600) + leb(0) + struct.pack(">q", 0) + NEW + b"\x02" + OLD, "2.: with attributes, and keys and values")
    body.add(b"\x03\x04" + string(b"link") + struct.pack(">H", 0) + leb(0) + struct.pack(">q", 0) + OLD + b"\x00", "a symbolic link; no SHA-1")
    body.add(b"\x02", "absent").add(b"\x03", "moved on")
    yield "message-verdict-details.hex", "and what is there", frame(11, body)
    yield "message-verdict-links.hex", "or names that are several files", frame(11, Hex()
        .add(struct.pack(">Q", 79), "number 79").add(b"\x04" + leb(1) + leb(0), "group 0"))
    yield "message-verdict-range.hex", "or which marks there are in a range", frame(11, Hex()
        .add(struct.pack(">Q", 81), "number 81").add(b"\x06\x02", "owners ignored").add(leb(2) + struct.pack(">II", 5, 1 << 31), "2 marks")
        .add(leb(1) + struct.pack(">I", 6), "1 moved on"))
    body = Hex().add(struct.pack(">Q", 83), "number 83").add(b"\x07" + leb(1), "1 is unsound")
    path(body, MAIL, b"a/cyrus.index", "which")
    yield "message-verdict-unsound.hex", "or what Cyrus would find wrong", frame(11, body.add(string(b"checksum"), "why"))
    yield "message-verdict-lost.hex", "or it was not looked at", frame(11, Hex()
        .add(struct.pack(">Q", 80), "number 80").add(b"\x05" + string(b"replay"), "why"))
    yield "message-audit-request.hex", "an operator at the replica asks for an audit", frame(12, Hex()
        .add(struct.pack(">I", 5), "number 5").add(string(b"{}"), "JSON"))
    yield "message-audit-report.hex", "the last line for that operator", frame(13, Hex()
        .add(struct.pack(">I", 5), "number 5").add(string(b""), "nothing"))
    yield "message-place.hex", "where a replica's store is", frame(15, Hex()
        .add(string(b"mail2"), "host").add(leb(2), "2 roots").add(string(b"configdirectory") + string(b"/var/lib/cyrus"), "configdirectory")
        .add(string(b"partition-default") + string(b"/var/spool/cyrus"), "partition-default"))
    yield "message-paused.hex", "why a replica stands still", frame(16, Hex().add(string(b"no space"), "why"))
    yield "message-goes-on.hex", "it goes on", frame(16, Hex().add(string(b""), "nothing"))


def segment_head(hash, at):
    hex = Hex().add(b"MSJ1", "magic").add(at, "position before the first batch").add(b"\0" * 8, "unused")
    hex.add(hash, "chain hash there")
    return hex.add(struct.pack(">Q", xxh64(hex.bytes())), "checksum of what is before")


def segment():
    hex = segment_head(PREVIOUS, position(3, 4210))
    first = plain_batch().bytes()
    hex.add(first, "batch 3/4211")
    hash = hashlib.sha256(PREVIOUS + first).digest()
    hex.add(batch(3, 4212, hash[:16], b"", 0, 0).bytes(), "batch 3/4212, of no records")
    return hex.add(b"\0" * 32, "room written ahead")


for name, title, hex in list(records()) + list(messages()): hex.save(name, title)
plain_batch().save("batch.hex", "a batch of two records, not compressed")
compressed_batch().save("batch-compressed.hex", "a part of a seed: one record, compressed")
segment_head(PREVIOUS, position(3, 4210)).save("segment-head.hex", "the head of a segment")
segment().save("segment.hex", "a segment of two batches, with room written ahead")
