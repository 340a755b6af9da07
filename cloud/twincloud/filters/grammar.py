"""Recursive descent over the tokens of a filter; kinds are checked on the way, depth and size are bounded.

filter = and { "or" and }
and    = not { "and" not }
not    = "not" not | "(" filter ")" | test
test   = field | field sign literal | field ("=" | "!=") "null"
       | field ["not"] "in" "(" literal { "," literal } ")" | field "has" text
field  = name { "." (name | text) }
"""

from __future__ import annotations

from typing import Final

from twincloud.filters.fields import Field, Fields, Kind
from twincloud.filters.literals import literal_of
from twincloud.filters.tokens import Sort, Token, refusal, tokens_of
from twincloud.filters.tree import All, Any, Literal, Node, Not, Op, Test

DEPTH_MAX: Final = 10
TERMS_MAX: Final = 50
_COMPARISONS: Final = {op.value: op for op in (Op.EQ, Op.NE, Op.LT, Op.LE, Op.GT, Op.GE, Op.PREFIX)}
_ORDERS: Final = frozenset({Op.LT, Op.LE, Op.GT, Op.GE})
_PREFIXED: Final = frozenset({Kind.TEXT, Kind.VALUE})


def tree_of(text: str, fields: Fields) -> Node:
    """The checked tree of a filter; raises InputError FILTER_INVALID with the column and what was expected."""
    reader = _Reader(tokens_of(text), fields)
    return reader.whole()


class _Reader:
    """The place in the tokens, and what was used of the bounds."""

    def __init__(self, tokens: list[Token], fields: Fields) -> None:
        self._tokens = tokens
        self._fields = fields
        self._at = 0
        self._depth = 0
        self._terms = 0

    @property
    def _now(self) -> Token:
        return self._tokens[self._at]

    def whole(self) -> Node:
        if len(self._tokens) == 1:
            raise refusal(1, "it is empty", expected='a test such as site = "mill"')
        node = self._or()
        if self._now.sort is not Sort.END:
            raise refusal(
                self._now.column, f"{self._now.shown} stands behind a whole filter", expected="and, or, or the end"
            )
        return node

    def _or(self) -> Node:
        parts = [self._and()]
        while self._takes(Sort.WORD, "or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _and(self) -> Node:
        parts = [self._not()]
        while self._takes(Sort.WORD, "and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _not(self) -> Node:
        opening = self._now
        if self._takes(Sort.WORD, "not"):
            self._deepen(opening)
            node: Node = Not(self._not())
        elif self._takes(Sort.SIGN, "("):
            self._deepen(opening)
            node = self._or()
            self._expect(")", f"the parenthesis of column {opening.column} is not closed")
        else:
            return self._test()
        self._depth -= 1
        return node

    def _test(self) -> Node:
        start = self._now
        self._count(start)
        field, path = self._field()
        sign = self._now
        if self._takes(Sort.WORD, "not"):
            if not self._takes(Sort.WORD, "in"):
                raise refusal(self._now.column, f"{self._now.shown} cannot follow a field and not", expected="in")
            return Not(Test(field.name, path, field.kind, Op.IN, self._several(field, sign)))
        if self._takes(Sort.WORD, "in"):
            return Test(field.name, path, field.kind, Op.IN, self._several(field, sign))
        if self._takes(Sort.WORD, "has"):
            return Test(field.name, path, field.kind, Op.HAS, (self._member(field, sign),))
        op = _COMPARISONS.get(sign.text) if sign.sort is Sort.SIGN else None
        if op is not None:
            self._at += 1
            return self._comparison(field, path, op, sign)
        if field.kind is Kind.BOOLEAN:
            return Test(field.name, path, field.kind, Op.EQ, (True,))
        signs = "has" if field.kind is Kind.NAMES else "=, !=, <, <=, >, >=, ^=, in or has"
        raise refusal(sign.column, f"{sign.shown} cannot follow {'.'.join(path)}", expected=signs)

    def _comparison(self, field: Field, path: tuple[str, ...], op: Op, sign: Token) -> Node:
        if op in (Op.EQ, Op.NE) and self._takes(Sort.WORD, "null"):
            test = Test(field.name, path, field.kind, Op.NULL, ())
            return test if op is Op.EQ else Not(test)
        self._check_op(field, op, sign)
        return Test(field.name, path, field.kind, op, (self._literal(field, op),))

    def _check_op(self, field: Field, op: Op, sign: Token) -> None:
        if field.kind is Kind.NAMES:
            raise refusal(sign.column, f"{field.name} holds names", expected="has, = null or != null")
        if op in _ORDERS and not field.kind.ordered:
            raise refusal(sign.column, f"{op} orders no {_noun(field)}", expected="=, !=, ^= or in")
        if op is Op.PREFIX and field.kind not in _PREFIXED:
            raise refusal(
                sign.column, f"^= tells how a text begins, and {field.name} is {field.kind}", expected="=, != or <"
            )

    def _several(self, field: Field, sign: Token) -> tuple[Literal, ...]:
        if field.kind is Kind.NAMES:
            raise refusal(sign.column, f"{field.name} holds names", expected="has")
        self._expect("(", "a list stands behind in")
        values = [self._literal(field, Op.EQ)]
        while self._takes(Sort.SIGN, ","):
            self._count(self._now)
            values.append(self._literal(field, Op.EQ))
        self._expect(")", "the list is not closed")
        return tuple(values)

    def _member(self, field: Field, sign: Token) -> str:
        if field.kind is not Kind.NAMES:
            raise refusal(sign.column, f"{field.name} is {field.kind}, it has no members", expected="=, != or in")
        token = self._now
        if token.sort is not Sort.TEXT:
            raise refusal(token.column, f"{token.shown} is no text", expected="a text in quotes")
        self._at += 1
        return token.text

    def _literal(self, field: Field, op: Op) -> Literal:
        token = self._now
        value = literal_of(token, field, op)
        self._at += 1
        return value

    def _field(self) -> tuple[Field, tuple[str, ...]]:
        first = self._now
        if first.sort is not Sort.NAME:
            raise refusal(first.column, f"{first.shown} stands where a test begins", expected="a field, not or (")
        self._at += 1
        steps = [first.text]
        while self._takes(Sort.SIGN, "."):
            step = self._now
            if step.sort not in (Sort.NAME, Sort.TEXT):
                raise refusal(
                    step.column, f"{step.shown} is no name", expected="a name, in quotes where it has other signs"
                )
            self._at += 1
            steps.append(step.text)
        path = tuple(steps)
        field = self._fields.find(path)
        if field is None:
            known = ", ".join(f.name for f in self._fields.fields)
            raise refusal(
                first.column, f"there is no field {'.'.join(path)[:80]!r}",
                expected=f"one of {known}", nearest=self._fields.nearest(path),
            )  # fmt: skip
        return field, path

    def _takes(self, sort: Sort, text: str) -> bool:
        hit = self._now.sort is sort and self._now.text == text
        self._at += hit
        return hit

    def _expect(self, text: str, why: str) -> None:
        if not self._takes(Sort.SIGN, text):
            raise refusal(self._now.column, f"{self._now.shown} stands where {text} is missing: {why}", expected=text)

    def _deepen(self, token: Token) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise refusal(token.column, f"it is nested deeper than {DEPTH_MAX}", expected=f"at most {DEPTH_MAX} levels")

    def _count(self, token: Token) -> None:
        self._terms += 1
        if self._terms > TERMS_MAX:
            raise refusal(token.column, f"it has more than {TERMS_MAX} terms", expected=f"at most {TERMS_MAX} terms")


def _noun(field: Field) -> str:
    return "texts" if field.kind is Kind.TEXT else "booleans"
