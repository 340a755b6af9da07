"""Conditional requests (RFC 9110, clause 13): entity tags, and what If-Match and If-None-Match ask of them.

    condition = condition_of(request)                     of a request that changes something
    condition = condition_of(request, required=True)      428 without If-Match (or If-None-Match: *, to create)
    condition.check(tag_of(record.revision))              412 with the tag of now; inside the transaction that changes
    condition.check(None)                                 nothing is there yet

    if unchanged(request, tag): ...                       304 of a GET

A document that people write has a strong tag, made of its revision: `"17"`. What is computed at the time of reading has
a weak one, `W/"..."`, which If-Match never matches.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from twinmodel.errors import ConflictError, InputError

TAGS_MAX = 64
HEADER_CHARS_MAX = 4_096
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_GAP = re.compile(r"[ \t]*(?:,[ \t]*)+")
_REVISION = re.compile(r'"(0|[1-9][0-9]{0,18})"')
_ANY = "*"


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of one header; `everything` stands for `*`: whatever there is, if there is anything."""

    everything: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    def match_strongly(self, current: str | None) -> bool:
        """Whether a tag is equal byte for byte, none being weak (If-Match)."""
        return current is not None and (self.everything or current in self.strong)

    def match_weakly(self, current: str | None) -> bool:
        """Whether a tag is equal, weak or not (If-None-Match)."""
        return current is not None and (self.everything or current.removeprefix("W/") in self.strong | self.weak)


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a change to be made; without either header, nothing."""

    if_match: Tags | None = None
    if_none_match: Tags | None = None

    @property
    def revisions(self) -> frozenset[int] | None:
        """Revisions that If-Match allows, None for any; for stores that compare numbers."""
        if self.if_match is None or self.if_match.everything:
            return None
        found = (_REVISION.fullmatch(tag) for tag in self.if_match.strong)
        return frozenset(int(one[1]) for one in found if one)

    def check(self, current: str | None, what: str = "it") -> None:
        """Lets a change pass; to be called in its transaction.

        Args:
            current: the tag of now, None when there is nothing.
            what: named in the error.

        Raises:
            ConflictError: PRECONDITION_FAILED with the fact `etag`, which becomes the answer's ETag.
        """
        if self.if_match is not None and not self.if_match.match_strongly(current):
            now = f"{what} is {current} now" if current is not None else f"{what} does not exist"
            raise ConflictError("PRECONDITION_FAILED", f"If-Match: {now}", etag=current or "")
        if self.if_none_match is not None and self.if_none_match.match_weakly(current):
            raise ConflictError(
                "PRECONDITION_FAILED",
                f"If-None-Match: {what} exists and is {current}",
                hint="send If-Match to change it, or use another name to make a new one",
                etag=current or "",
            )


def tag_of(revision: int) -> str:
    """The strong tag of a document's revision."""
    return f'"{revision}"'


def content_tag(content: bytes) -> str:
    """The strong tag of bytes that have no revision."""
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def weak_tag(*parts: object) -> str:
    """The weak tag of what is computed from these."""
    return f'W/"{"-".join(str(part) for part in parts)}"'


def condition_of(request: Request, *, required: bool = False) -> Condition:
    """What a request that changes something demands.

    Raises:
        InputError: REQUEST_INVALID for a header that is no list of tags.
        ConflictError: PRECONDITION_REQUIRED when it demands nothing and must.
    """
    condition = Condition(*(_tags(request.headers.getlist(name), name) for name in ("If-Match", "If-None-Match")))
    if required and condition.if_match is None and condition.if_none_match is None:
        raise ConflictError("PRECONDITION_REQUIRED", "the request changes what others may have changed meanwhile")
    return condition


def condition_of_tags(if_match: str | None) -> Condition:
    """What a request with this If-Match alone demands, None for none; raises REQUEST_INVALID."""
    return Condition(None if if_match is None else _tags([if_match], "If-Match"))


def unchanged(request: Request, current: str) -> bool:
    """Whether the client of a GET has this already; a header that is no list of tags is ignored."""
    try:
        tags = _tags(request.headers.getlist("If-None-Match"), "If-None-Match")
    except InputError:
        return False
    return tags is not None and tags.match_weakly(current)


def _tags(lists: Sequence[str], name: str) -> Tags | None:
    # A header that is sent twice is one list (RFC 9110, 5.3).
    if not lists:
        return None
    text = ", ".join(lists).strip(" \t,")
    if text == _ANY:
        return Tags(everything=True)
    strong: set[str] = set()
    weak: set[str] = set()
    place, count = 0, 0
    while place < len(text) <= HEADER_CHARS_MAX and count < TAGS_MAX:
        found = _TAG.match(text, place)
        if found is None:
            break
        (weak if found[1] else strong).add(found[2])
        count += 1
        gap = _GAP.match(text, found.end())
        place = found.end() if gap is None else gap.end()
        if gap is None:
            break
    if place < len(text) or not count:
        raise InputError(
            "REQUEST_INVALID",
            f"{name}: {text[:60]!r} is no list of at most {TAGS_MAX} entity tags",
            hint='send the ETag of an answer as it came, with its quotes, e.g. "17"',
            field=name,
        )
    return Tags(strong=frozenset(strong), weak=frozenset(weak))
