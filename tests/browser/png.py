"""Screenshots made small: a PNG of at most 256 colours, which is plenty for text, lines and areas."""

from __future__ import annotations

import struct
import zlib
from collections import Counter

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks(data):
    at = len(SIGNATURE)
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + size]
        at += size + 12


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def rows_of(data):
    """Width and the rows (bytes of red, green, blue) of a PNG as Chromium writes it: 8 bits, RGB or RGBA, not interlaced."""
    header = next(content for kind, content in chunks(data) if kind == b"IHDR")
    width, _, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    assert depth == 8
    assert colour in (2, 6)
    assert not interlaced
    step = 3 if colour == 2 else 4
    raw = zlib.decompress(b"".join(content for kind, content in chunks(data) if kind == b"IDAT"))
    size, above, rows = width * step, bytearray(width * step), []
    for start in range(0, len(raw), size + 1):
        row = _unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + size]), above, step)
        above = row
        if step == 4:
            row = bytearray(row)
            del row[3::4]
        rows.append(bytes(row))
    return width, rows


def _unfiltered(kind, row, above, step):
    if kind == 2:
        return bytearray((a + b) & 255 for a, b in zip(row, above, strict=True))
    if kind:
        for at in range(len(row)):
            left = row[at - step] if at >= step else 0
            up, corner = above[at], above[at - step] if at >= step else 0
            guess = {1: left, 3: (left + up) // 2, 4: _paeth(left, up, corner)}[kind]
            row[at] = (row[at] + guess) & 255
    return row


def _paeth(left, up, corner):
    near = left + up - corner
    return min((abs(near - left), 0, left), (abs(near - up), 1, up), (abs(near - corner), 2, corner))[2]


def distance(one, other):
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 + (one[2] - other[2]) ** 2


def small(data):
    """The same picture in 256 colours: the most used, then those farthest from them; every other becomes the nearest."""
    width, rows = rows_of(data)
    used = Counter(row[at : at + 3] for row in rows for at in range(0, len(row), 3))
    palette = [colour for colour, _ in used.most_common(224)]
    far = {colour: min(map(distance, palette, [colour] * len(palette))) for colour in used}
    while len(palette) < 256:  # a small spot of its own colour, as the star of a required field, keeps it
        palette.append(max(far, key=far.__getitem__))
        far = {colour: min(at, distance(colour, palette[-1])) for colour, at in far.items()}
    index = {colour: number for number, colour in enumerate(palette)}
    for colour in used.keys() - index.keys():
        index[colour] = min(range(256), key=lambda number: distance(colour, palette[number]))
    lines = b"".join(b"\0" + bytes(index[row[at : at + 3]] for at in range(0, len(row), 3)) for row in rows)
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(chunk(kind, content) for kind, content in parts)
