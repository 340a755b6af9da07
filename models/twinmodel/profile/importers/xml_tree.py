"""XML with bounds, by expat: no document type, no entities, bounded depth and size; elements know their lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from twinmodel.errors import ConfigError
from twinmodel.profile.importers.found import Source
from twinmodel.profile.importers.intake import invalid

DEPTH_MAX = 48
ELEMENTS_MAX = 600_000
SEPARATOR = " "


@dataclass(slots=True, eq=False)
class Element:
    """One element; `tag` without its namespace, which `space` holds."""

    tag: str
    space: str
    attributes: dict[str, str]
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def first(self, tag: str) -> Element | None:
        """The first child of that tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def each(self, tag: str) -> Iterator[Element]:
        """Children of that tag."""
        return (child for child in self.children if child.tag == tag)

    def below(self, tag: str) -> Element | None:
        """The first element of that tag at any depth below this one."""
        for child in self.children:
            found = child if child.tag == tag else child.below(tag)
            if found is not None:
                return found
        return None


class _Builder:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.root: Element | None = None
        self.count = 0
        self.stack: list[Element] = []
        self.parser = expat.ParserCreate(namespace_separator=SEPARATOR)
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.refuse
        self.parser.EntityDeclHandler = self.refuse

    def refuse(self, *_: object) -> None:
        """Entities are how XML becomes a bomb, or reads other files."""
        line = self.parser.CurrentLineNumber
        raise invalid(self.source, "declares a document type or entities", line=line, hint="remove the <!DOCTYPE ...>")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.count += 1
        line = self.parser.CurrentLineNumber
        if len(self.stack) >= DEPTH_MAX or self.count > ELEMENTS_MAX:
            message = f"nested deeper than {DEPTH_MAX} levels, or more than {ELEMENTS_MAX} elements"
            raise ConfigError("LIMIT_EXCEEDED", message, path=str(self.source.path), line=line)
        space, _, tag = name.rpartition(SEPARATOR)
        element = Element(tag, space, attributes, line)
        if self.stack:
            self.stack[-1].children.append(element)
        else:
            self.root = element
        self.stack.append(element)

    def end(self, _name: str) -> None:
        self.stack.pop()

    def characters(self, text: str) -> None:
        self.stack[-1].text += text


def xml_of(source: Source) -> Element:
    """The root element. Raises ConfigError SOURCE_INVALID or LIMIT_EXCEEDED, with the line."""
    builder = _Builder(source)
    try:
        builder.parser.Parse(source.raw, True)
    except expat.ExpatError as wrong:
        message = f"is no XML: {expat.ErrorString(wrong.code)} (column {wrong.offset + 1})"
        raise invalid(source, message, line=wrong.lineno) from None
    except (LookupError, ValueError) as wrong:  # an encoding that expat asks Python for and that is none
        raise invalid(source, f"is no XML: {wrong}"[:200]) from None
    assert builder.root is not None  # expat refuses a file without one
    return builder.root
