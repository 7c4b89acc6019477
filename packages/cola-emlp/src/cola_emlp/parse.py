"""Groups and representations written as text, read by a small grammar of our own (nothing is ever evaluated).

group :=  name [ "(" integers ")" ]  ( "*" name ... )*          SO(3)   S(5)*O(3)   SO13p   O(1,3)
map   :=  sum ( ("->" | ">>") sum )?                            T(2)->T(2)
sum   :=  product ( "+" product )*                              3V + T(2)
product := power ( "*" power )*                                 V*V   2*T(1,1)
power :=  atom ( "^" integer | "**" integer | ".T" )*           V^3   V.T
atom  :=  integer | [integer] ( "V" | "Scalar" | "T(p)" | "T(p,q)" | "(" map ")" )
"""

from __future__ import annotations

import re
from collections.abc import Callable

from . import families
from .errors import ParseError
from .groups import DirectProduct, Group
from .reps import Rep, Scalar, Sum, T, Tensor, V

_SIZED: dict[str, Callable[[int], Group]] = {
    name: getattr(families, name)
    for name in ("Trivial", "SO", "O", "S", "A", "Z", "C", "D", "Sp", "SL", "GL", "SU", "U", "Parity")
}
_FIXED: dict[str, Callable[[], Group]] = {
    name: getattr(families, name) for name in ("SO13p", "SO13", "O13", "SO11p", "SO11", "O11")
}
_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z][A-Za-z0-9]*)|(->|>>|\*\*|\.T\b|[()+*^,]))")
_MAX_LENGTH, _MAX_INTEGER, _MAX_NESTING, _MAX_LETTERS = 1000, 100_000, 50, 64


class _Reader:
    """Tokens of one text, read left to right; errors show where."""

    def __init__(self, text: str, what: str):
        if len(text) > _MAX_LENGTH:
            raise ParseError(f"{what} text is {len(text)} characters long; at most {_MAX_LENGTH} are read")
        self.text, self.what, self.at = text, what, 0
        if text.count("(") > _MAX_NESTING:
            raise ParseError(
                f"{what} text has {text.count('(')} parentheses; at most {_MAX_NESTING} are read"
            )
        self.tokens: list[tuple[str, int]] = []
        at = 0
        while text[at:].strip():
            m = _TOKEN.match(text, at)
            if m is None:
                raise self.error("unexpected character", at + len(text[at:]) - len(text[at:].lstrip()))
            self.tokens.append((m.group().strip(), m.end() - len(m.group().strip())))
            at = m.end()

    def error(self, message: str, where: int | None = None) -> ParseError:
        if where is None:
            where = self.tokens[self.at][1] if self.at < len(self.tokens) else len(self.text)
        shown = self.text if len(self.text) <= 60 else self.text[:57] + "..."
        return ParseError(f"cannot read the {self.what} {shown!r}: {message} (column {where + 1})")

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        token = self.peek()
        if token not in wanted:
            return ""
        self.at += 1
        return token

    def need(self, token: str) -> None:
        if not self.take(token):
            raise self.error(f"expected {token!r}")

    def integer(self) -> int:
        token = self.peek()
        if not token.isdigit():
            raise self.error("expected an integer")
        if int(token) > _MAX_INTEGER:
            raise self.error(f"integers up to {_MAX_INTEGER} are read")
        self.at += 1
        return int(token)

    def bounded(self, rep: Rep) -> Rep:
        """Refuse products of absurdly many factors before anything is made of them."""
        if isinstance(rep, Tensor) and len(rep.factors) > _MAX_LETTERS:
            raise self.error(f"tensor products of at most {_MAX_LETTERS} factors are read")
        return rep

    def integers(self) -> list[int]:
        out = [self.integer()]
        while self.take(","):
            out.append(self.integer())
        return out

    def end(self) -> None:
        if self.peek():
            raise self.error("did not expect more")


def parse_group(text: str) -> Group:
    """The group a text names. Raises ParseError, or GroupError for a size that makes no sense."""
    reader = _Reader(text, "group")
    factors = [_group(reader)]
    while reader.take("*"):
        factors.append(_group(reader))
    reader.end()
    return factors[0] if len(factors) == 1 else DirectProduct(factors)


def _group(reader: _Reader) -> Group:
    name = reader.peek()
    if name not in _SIZED and name not in _FIXED:
        raise reader.error("expected a group: " + ", ".join([f"{n}(n)" for n in _SIZED] + list(_FIXED)))
    reader.at += 1
    sizes: list[int] = []
    if reader.take("(") and not reader.take(")"):
        sizes = reader.integers()
        reader.need(")")
    if name in ("O", "SO") and len(sizes) == 2 and min(sizes) > 0:
        return families.Lorentz(sizes[0], sizes[1], "all" if name == "O" else "special")
    if len(sizes) != (name in _SIZED):
        raise reader.error(
            f"{name} takes {'one size, as in ' + name + '(3)' if name in _SIZED else 'no size'}"
        )
    return _SIZED[name](sizes[0]) if name in _SIZED else _FIXED[name]()


def parse_rep(text: str) -> Rep:
    """The representation a text names, without a group yet. Raises ParseError."""
    reader = _Reader(text, "representation")
    rep = _map(reader)
    reader.end()
    return rep


def _map(reader: _Reader) -> Rep:
    rep = _sum(reader)
    return rep >> _sum(reader) if reader.take("->", ">>") else rep


def _sum(reader: _Reader) -> Rep:
    rep = _product(reader)
    while reader.take("+"):
        rep = rep + _product(reader)
    return rep


def _product(reader: _Reader) -> Rep:
    copies, reps = 1, []
    while True:
        part = _power(reader)
        if isinstance(part, int):
            copies *= part
        else:
            reps.append(part)
        if not reader.take("*"):
            break
    if copies < 1:
        raise reader.error("a representation is repeated 1 or more times, not 0")
    rep = reader.bounded(Tensor.of(*reps)) if reps else Scalar
    return rep if copies == 1 else Sum.of((rep, copies))


def _power(reader: _Reader) -> Rep | int:
    rep = _atom(reader)
    while token := reader.take("^", "**", ".T"):
        if isinstance(rep, int):
            raise reader.error("only a representation has powers and a dual")
        if token == ".T":
            rep = rep.T
            continue
        exponent = reader.integer()
        if exponent > _MAX_LETTERS:
            raise reader.error(f"powers up to {_MAX_LETTERS} are read")
        rep = reader.bounded(rep**exponent)
    return rep


def _atom(reader: _Reader) -> Rep | int:
    token = reader.peek()
    if token.isdigit():
        copies = reader.integer()
        if reader.peek() not in ("V", "T", "Scalar", "("):
            return copies
        part = _power(reader)
        if copies < 1:
            raise reader.error("a representation is repeated 1 or more times, not 0")
        assert isinstance(part, Rep)
        return Sum.of((part, copies))
    if reader.take("V"):
        return V
    if reader.take("Scalar"):
        return Scalar
    if reader.take("T"):
        reader.need("(")
        indices = reader.integers()
        reader.need(")")
        if len(indices) > 2 or sum(indices) > _MAX_LETTERS:
            raise reader.error(f"T takes one or two integers that sum to at most {_MAX_LETTERS}")
        return T(*indices)
    if reader.take("("):
        rep = _map(reader)
        reader.need(")")
        return rep
    raise reader.error("expected V, T(p,q), Scalar, an integer or '('")
