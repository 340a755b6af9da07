"""`twinedge config`: checks a configuration, says what it would change, brings it about, and leads back."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from twinedge.cli_options import config_option, emit, output_option, pairs, say, state_option, table

if TYPE_CHECKING:
    from twinedge.config.load import LoadedSite

F = TypeVar("F", bound=Callable[..., Any])
APPLY_S = 120.0
NAMED_MAX = 5
_NS = 1_000_000_000


def _why(function: F) -> F:
    function = click.option("--why", required=True, help="Why; it is kept in the history.")(function)
    return click.option("--by", default=getpass.getuser, show_default="the login name", help="Who asks.")(function)


@click.group("config")
def config_group() -> None:
    """Check, compare and change the configuration, also of the running agent."""


@config_group.command("validate")
@config_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@output_option
def validate(config: Path, file: Path | None, output: str) -> None:
    """Check site.yaml and every profile it names, or FILE in its place; silent when all is well.

    Everything that is wrong is listed, with file and line.
    """
    from twinedge.config.load import sound  # noqa: PLC0415 - --help stays fast

    faults = _examined(file or config)
    if output == "json":
        click.echo(json.dumps([fault.document() for fault in faults], indent=2))
    if faults:
        from twinedge.config.load import Examined  # noqa: PLC0415 - --help stays fast

        sound(Examined(None, faults))


@config_group.command("diff")
@config_option
@state_option
@output_option
@click.argument("one")
@click.argument("other", required=False)
def diff(config: Path, state: Path, output: str, one: str, other: str | None) -> None:
    """Say what would change from ONE to OTHER, or from what runs to ONE; touches nothing.

    Each is a file, or the number of a configuration of the history.
    """
    from twinedge.config import compare  # noqa: PLC0415 - --help stays fast
    from twinedge.drivers.difference import difference  # noqa: PLC0415 - --help stays fast

    before = _loaded(one, config, state) if other is not None else _in_force(config, state)
    after = _loaded(other or one, config, state)
    document = {"connections": difference(before, after), **compare.document(before, after)}
    emit(output, document, _difference_text(document))


@config_group.command("show")
@config_option
@state_option
@output_option
@click.option("--signals", is_flag=True, help="List the signals that site.yaml gives, nothing else.")
def show(config: Path, state: Path, output: str, *, signals: bool) -> None:
    """Tell which configuration is in force, from where, and what of it was refused; without an agent, the signals."""
    from twinedge.control import ask  # noqa: PLC0415 - --help stays fast
    from twinmodel.errors import UnreachableError  # noqa: PLC0415 - --help stays fast

    if not signals:
        try:
            told = ask(state, "config.show", {})
        except UnreachableError as silent:
            say(f"{silent.message}: these are the signals of {config}")
        else:
            emit(output, told, _show_text(told))
            return
    _show_signals(config, output)


@config_group.command("schema")
@click.argument("which", type=click.Choice(["site", "profile"]), default="site")
def schema(which: str) -> None:
    """Print the JSON Schema of site.yaml or of a firmware profile."""
    from twinedge.config.schema import Site  # noqa: PLC0415 - --help stays fast
    from twinmodel.profile.shape import json_schema  # noqa: PLC0415 - --help stays fast

    shape = Site.model_json_schema(by_alias=True) if which == "site" else json_schema()
    click.echo(json.dumps(shape, indent=2))


@config_group.command("history")
@state_option
@output_option
def history(state: Path, output: str) -> None:
    """List the configurations that were in force: who brought each, when, why, and what became of it."""
    from dataclasses import asdict  # noqa: PLC0415 - --help stays fast

    from twinedge.config.history import History  # noqa: PLC0415 - --help stays fast

    kept = History(state)
    in_force = kept.in_force()
    records = [asdict(record) for record in kept.records()]
    rows = [
        [
            f"{r['number']}{'*' if in_force is not None and r['number'] == in_force.number else ''}",
            _time(r["at_ns"]), r["origin"], r["who"], r["outcome"], r["digest"][:12], r["detail"] or r["why"],
        ]
        for r in records
    ]  # fmt: skip
    head = ["NUMBER", "AT", "ORIGIN", "WHO", "OUTCOME", "DIGEST", "WHY"]
    emit(output, records, table(head, rows) if rows else "nothing was kept yet")


@config_group.command("reload")
@state_option
@output_option
@click.option("--why", default="", help="Why; it is kept in the history.")
@click.option("--by", default=getpass.getuser, show_default="the login name", help="Who asks.")
def reload(state: Path, output: str, why: str, by: str) -> None:
    """Have the running agent take site.yaml and its profiles as they lie there now."""
    _ask(state, output, "config.reload", {"who": by, "why": why})


@config_group.command("apply")
@config_option
@state_option
@output_option
@_why
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def apply(config: Path, state: Path, output: str, why: str, by: str, file: Path) -> None:
    """Run FILE in place of site.yaml from now on, and put it there once it runs.

    Without a running agent it is checked and put there.
    """
    from twinedge.config.load import Examined, sound  # noqa: PLC0415 - --help stays fast
    from twinmodel.errors import UnreachableError  # noqa: PLC0415 - --help stays fast
    from twinmodel.profile.document import read_text  # noqa: PLC0415 - --help stays fast

    text = read_text(file)
    try:
        body = {"text": text, "file": str(file.resolve()), "who": by, "why": why}
        _ask(state, output, "config.apply", body, f"{config} was left as it is: mend {file} and apply it again")
    except UnreachableError as silent:
        if silent.reason != "AGENT_NOT_RUNNING":
            raise
        faults = _examined(file, at=config)
        if faults:
            sound(Examined(None, faults))
        say("no agent runs: it counts from the next start on")
    _install(config, text)


@config_group.command("rollback")
@state_option
@output_option
@_why
@click.argument("number", type=int)
def rollback(state: Path, output: str, why: str, by: str, number: int) -> None:
    """Run a configuration of the history again, with the profiles it had; site.yaml stays as it is."""
    _ask(state, output, "config.rollback", {"number": number, "who": by, "why": why})


def _ask(state: Path, output: str, name: str, body: dict[str, Any], hint: str | None = None) -> None:
    from twinedge.control import ask  # noqa: PLC0415 - --help stays fast

    done = ask(state, name, body, APPLY_S)
    emit(output, done, _done_text(done))
    if done["faults"]:
        from twinmodel.errors import ConfigError  # noqa: PLC0415 - --help stays fast

        names = list(dict.fromkeys(fault["name"] or fault["part"] for fault in done["faults"]))
        verb = "stays as it was" if len(names) == 1 else "stay as they were"
        raise ConfigError("CONFIG_REFUSED", f"not all of it runs:{_several('', names)} {verb}", hint=hint)


def _examined(file: Path, *, at: Path | None = None) -> tuple[Any, ...]:
    """Everything wrong with a file, as if it lay at `at`."""
    from twinedge.config.catalogue import examine_catalogue  # noqa: PLC0415 - --help stays fast
    from twinedge.config.load import examine_site  # noqa: PLC0415 - --help stays fast
    from twinmodel.profile.document import parse_document, read_text  # noqa: PLC0415 - --help stays fast

    examined = examine_site(parse_document(read_text(file), at or file, file))
    if examined.loaded is None:
        return examined.faults
    bad = {fault.name for fault in examined.faults if fault.part == "device"}
    # What twins miss of devices that are wrong is no news.
    twins = () if bad else examine_catalogue(examined.loaded)[1]
    return (*examined.faults, *twins)


def _loaded(what: str, config: Path, state: Path) -> LoadedSite:
    """A configuration by file or number."""
    from twinedge.config.history import History  # noqa: PLC0415 - --help stays fast
    from twinedge.config.load import sound  # noqa: PLC0415 - --help stays fast
    from twinedge.config.source import Reader, Source  # noqa: PLC0415 - --help stays fast
    from twinmodel.profile.document import read_text  # noqa: PLC0415 - --help stays fast

    if what.isdigit():
        history = History(state)
        source = history.source(history.get(int(what)))
    else:
        path = Path(what)
        # A draft elsewhere is read as if it lay in its place, where its profiles and certificates are.
        source = Source(read_text(path), config if config.exists() else path, named=path)
    return sound(Reader().read(source).examined)


def _in_force(config: Path, state: Path) -> LoadedSite:
    from twinedge.config.history import History  # noqa: PLC0415 - --help stays fast

    found = History(state).in_force()
    return _loaded(str(config) if found is None else str(found.number), config, state)


def _install(config: Path, text: str) -> None:
    """Writes site.yaml as one step; who may read it stays."""
    from twinmodel.files import write_durably  # noqa: PLC0415 - --help stays fast

    before = config.stat() if config.exists() else None
    write_durably(config, text.encode())
    if before is not None:
        config.chmod(before.st_mode & 0o777)
    say(f"written to {config}")


def _show_signals(config: Path, output: str) -> None:
    from twinedge.config.catalogue import build_catalogue  # noqa: PLC0415 - --help stays fast
    from twinedge.config.load import load_site  # noqa: PLC0415 - --help stays fast

    rows = [
        {"name": s.name, "kind": s.kind.name.lower(), "unit": s.unit, "stream": s.stream.name.lower()}
        for s in build_catalogue(load_site(config)).signals
    ]
    emit(output, rows, "\n".join(f"{r['name']:<40}{r['kind']:<8}{r['unit']:<10}{r['stream']}" for r in rows))


def _time(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / _NS, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _show_text(told: dict[str, Any]) -> str:
    facts = {
        "in force": f"{told['number'] or 'not kept'} {told['digest'][:12]}",
        "from": f"{told['origin']}, {told['who']}: {told['why']}",
        "since": _time(told["at_ns"]),
        "outcome": told["outcome"],
        "site.yaml": f"{told['path']}: " + ("says something else" if told["file_differs"] else "says the same"),
    }
    if told["file_differs"]:
        facts["next"] = "`twinedge config diff` says what, `twinedge config reload` takes it"
    return "\n".join([pairs(facts), *_fault_lines(told["faults"])])


def _done_text(done: dict[str, Any]) -> str:
    if done["unchanged"]:
        return f"nothing changed: {done['digest'][:12]} runs"
    lines = [f"configuration {done['number']} {done['digest'][:12]} runs, after {done['took_ms']:.0f} ms"]
    lines += [
        f"  {word}: {', '.join(done[word])}" for word in ("changed", "restarted", "started", "stopped") if done[word]
    ]
    lines.append(f"  {len(done['kept'])} connections untouched")
    if done["at_restart"]:
        lines.append(f"  from the next start on: {', '.join(done['at_restart'])}")
    return "\n".join([*lines, *_fault_lines(done["faults"])])


def _fault_lines(faults: list[dict[str, Any]]) -> list[str]:
    """A line for each cause: devices of one profile that is wrong share theirs."""
    causes: dict[str, dict[str, list[str]]] = {}
    for f in faults:
        cause = f"({f['path']}:{f['line']}) {f['reason']}: {f['message']}"
        causes.setdefault(cause, {}).setdefault(f["part"], []).append(f["name"])
    return [
        f"refused, stays as it was: {', '.join(_several(part, names) for part, names in parts.items())} {cause}"
        for cause, parts in causes.items()
    ]


def _several(part: str, names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"{part} {', '.join(names[:NAMED_MAX])}{more}"


def _difference_text(document: dict[str, Any]) -> str:
    connections = document["connections"]
    lines = [f"{word} {name}" for word in ("restarted", "started", "stopped", "changed") for name in connections[word]]
    lines = [line.replace("changed", "changed in place", 1) if line.startswith("changed") else line for line in lines]
    lines.append(f"untouched {len(connections['kept'])} connections")
    for part in ("devices", "tags", "twins", "alarms"):
        found = document[part]
        lines += [f"{sign} {part[:-1]} {name}" for sign, word in _SIGNS for name in found[word]]
    lines += [f"~ section {name}" for name in document["sections"]]
    return "\n".join(lines)


_SIGNS = (("+", "added"), ("-", "removed"), ("~", "changed"))
