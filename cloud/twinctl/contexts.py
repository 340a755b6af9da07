"""Where `twinctl` talks to and as whom: named contexts in a file of mode 0600, environment on top.

contexts.json: {"current": "plant", "contexts": {"plant": {"url": ..., "tenant": ..., "token": ...}}}
HYBRIDTWIN_URL, HYBRIDTWIN_TENANT and HYBRIDTWIN_TOKEN override what the context says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from twinmodel.errors import ConfigError, InputError, MissingError
from twinmodel.files import write_durably

DEFAULT_URL = "http://127.0.0.1:8420"
DEFAULT_TENANT = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class Context:
    """One coordinator, one tenant, one token ("" when there is none yet)."""

    url: str = DEFAULT_URL
    tenant: str = DEFAULT_TENANT
    token: str = ""


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts and the name of the current one ("" for none)."""

    current: str
    items: Mapping[str, Context]

    def pick(self, name: str) -> Context:
        """The context named; raises NOT_FOUND with the names there are."""
        if name not in self.items:
            known = ", ".join(sorted(self.items)) or "none"
            hint = "see `twinctl context list`, make one with `twinctl context add`"
            raise MissingError("NOT_FOUND", f"no context {name!r}; known: {known}", hint=hint)
        return self.items[name]


def contexts_path(environ: Mapping[str, str]) -> Path:
    """Where the file lies: below XDG_CONFIG_HOME or ~/.config."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(home) / "hybridtwin" / "contexts.json"


def load_contexts(path: Path) -> Contexts:
    """Reads the file; an absent one holds no contexts. Raises VALUE_INVALID when it is damaged."""
    try:
        tree = json.loads(path.read_text("utf-8"))
        items = {str(name): Context(**fields) for name, fields in tree["contexts"].items()}
        return Contexts(str(tree["current"]), items)
    except FileNotFoundError:
        return Contexts("", {})
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        hint = "move the file away and add the contexts again"
        raise ConfigError("VALUE_INVALID", f"not a contexts file: {cause}", hint=hint, path=path) from cause
    except OSError as cause:
        raise ConfigError("FILE_MISSING", f"cannot read: {cause.strerror}", path=path) from cause


def save_contexts(path: Path, contexts: Contexts) -> None:
    """Writes the file in one step, readable by its owner alone, because it holds tokens."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tree = {"current": contexts.current, "contexts": {name: asdict(item) for name, item in contexts.items.items()}}
    write_durably(path, json.dumps(tree, indent=1).encode())


def resolve(contexts: Contexts, name: str, environ: Mapping[str, str]) -> Context:
    """The context to use: the one named, else the current one, else the defaults; environment on top."""
    chosen = contexts.pick(name) if name else contexts.items.get(contexts.current, Context())
    over = {field: environ.get(f"HYBRIDTWIN_{field.upper()}", "") for field in ("url", "tenant", "token")}
    return replace(chosen, **{field: value for field, value in over.items() if value})


def check_context(name: str, url: str) -> None:
    """Raises REQUEST_INVALID for a name or a URL that cannot be meant."""
    if not _NAME.fullmatch(name):
        raise InputError("REQUEST_INVALID", f"{name!r} is no name for a context; use letters, digits, . _ -")
    check_url(url)


def check_url(url: str) -> None:
    """Raises REQUEST_INVALID for what is no http:// or https:// address."""
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
        hint = "write e.g. http://127.0.0.1:8420"
        raise InputError("REQUEST_INVALID", f"{url!r} is no URL of a coordinator", hint=hint)


def check_token(token: str) -> None:
    """Raises REQUEST_INVALID, without showing it, for a token that no header can carry; "" is none yet."""
    if not re.fullmatch(r"[!-~]*", token):
        hint = "run `twinctl login` again, or correct HYBRIDTWIN_TOKEN"
        raise InputError("REQUEST_INVALID", "the token holds spaces or characters no token has", hint=hint)
