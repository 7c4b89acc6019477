"""Is this text what it promises: so many lines of so many decimal numbers? Answered at the speed of NumPy.

SciPy's Matrix Market parser reads past what it does not know (``3.0abc`` is 3, a surplus column is dropped).
These checks see every byte; they say only yes or no, and the slow search for the line to blame runs when
they say no.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Scan", "scan"]

BLANK, DIGIT, SIGN, DOT, EXPONENT, OTHER = range(6)
_CLASS = np.full(256, OTHER, np.uint8)
_CLASS[np.frombuffer(b" \t\r\n\v\f", np.uint8)] = BLANK
_CLASS[np.frombuffer(b"0123456789", np.uint8)] = DIGIT
_CLASS[np.frombuffer(b"+-", np.uint8)] = SIGN
_CLASS[ord(".")] = DOT
_CLASS[np.frombuffer(b"eE", np.uint8)] = EXPONENT

# _FOLLOWS[a, b]: whether b may come right after a in decimal numbers separated by blanks
_FOLLOWS = np.zeros((6, 6), bool)
_FOLLOWS[BLANK, [BLANK, DIGIT, SIGN, DOT]] = True
_FOLLOWS[DIGIT, [BLANK, DIGIT, DOT, EXPONENT]] = True
_FOLLOWS[SIGN, [DIGIT, DOT]] = True
_FOLLOWS[DOT, [BLANK, DIGIT, EXPONENT]] = True
_FOLLOWS[EXPONENT, [DIGIT, SIGN]] = True
_PAIR_FOLLOWS = _FOLLOWS.ravel()


class Scan:
    """lines: non-blank ones. numbers: whether each of them holds so many decimal numbers."""

    def __init__(self) -> None:
        self.lines = 0
        self.numbers = True


def scan(body: bytes, columns: int, step: int = 1 << 22) -> Scan:
    """Check ``body`` in pieces of whole lines; memory stays a small multiple of ``step``."""
    result = Scan()
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + step)
        end = len(body) if end < 0 else end + 1
        _piece(body[start:end], columns, result)
        start = end
    return result


def _piece(text: bytes, columns: int, result: Scan) -> None:
    codes = np.frombuffer(b"\n" + text + b"\n", np.uint8)
    kind = _CLASS[codes]
    pairs = kind[:-1] * np.uint8(6) + kind[1:]
    starts = np.flatnonzero((kind[:-1] == BLANK) & (kind[1:] != BLANK))
    line = np.searchsorted(np.flatnonzero(codes == 10), starts, "right")
    result.lines += int(np.count_nonzero(np.diff(line, prepend=-1)))
    if not result.numbers:
        return
    fits = bool(_PAIR_FOLLOWS[pairs].all()) and starts.size % max(columns, 1) == 0
    if fits and starts.size:
        rows = line.reshape(-1, columns)
        # the words of a line stay together, and no two lines share a row
        fits = bool((rows[:, 0] == rows[:, -1]).all() and (np.diff(rows[:, 0]) > 0).all())
    if fits:
        # within one word at most one dot, then at most one exponent
        marks = np.flatnonzero((kind == DOT) | (kind == EXPONENT))
        word = np.searchsorted(starts, marks, "left")
        same = word[1:] == word[:-1]
        first, second = kind[marks[:-1]], kind[marks[1:]]
        fits = not bool((same & ~((first == DOT) & (second == EXPONENT))).any())
    result.numbers = fits
