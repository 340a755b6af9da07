"""What the pages say is there: commands and their options, files, anchors, reasons, metrics, routes and keys."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from twincloud.api import health
from twincloud.api.metrics import Metrics
from twincloud.api.v1 import (
    alarms,
    backtests,
    cloud_twins,
    commands,
    configuration,
    definitions,
    directives,
    events,
    exports,
    fleet,
    fleets,
    gateways,
    models,
    operations,
    records,
    replay,
    retention,
    session,
    twin_graph,
    twins,
)
from twincloud.config import Settings, load_settings
from twincloud.identity.policy import POLICY
from twinedge.config import northbound as northbound_schema
from twinedge.config import schema as site_schema
from twinedge.health.status import registry
from twinmodel.equations.schema import Spec
from twinmodel.errors import REASONS
from twinmodel.package.build import build
from twinmodel.profile import schema as profile_schema
from twinmodel.profile.load import load_profile, read_yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((DOCS / "adr").glob("*.md"))]
PROGRAMS = {"twinctl": "cli", "twincloud": "root", "twinedge": "cli", "twinsim": "cli"}
SHORT = {"tc": "twincloud", "te": "twinedge"}  # shell functions of install.md, which bring their places along
CALL = re.compile(
    r"(?:^|\$\(|\|\s*|/bin/)(twinctl|twincloud|twinedge|twinsim|tc|te)(?=\s|$)((?:\$\([^)]*\)|[^|;)#>&])*)"
)
NAMED = re.compile(r"(?<![\w/.])(?:requirements|deploy|examples|docs|firmware-profiles)/[\w./-]*\w")


def root_of(program: str) -> click.Group:
    return getattr(import_module(f"{program}.cli"), PROGRAMS[program])


def code_of(page: Path) -> list[str]:
    """Code of a page: indented lines, joined where they go on, then what stands in backticks; no YAML."""
    text = re.sub(r"```yaml\n.*?```", "", page.read_text(), flags=re.DOTALL).replace("\\\n", " ")
    blocks = re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE))
    return [code for code in (*blocks, *spans) if '"$@"' not in code]


def calls() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        for code in code_of(page):
            for program, rest in CALL.findall(code):
                if program in PROGRAMS or page.name in {"install.md", "runbook.md"}:
                    yield str(page.relative_to(ROOT)), SHORT.get(program, program), rest.strip()


def check_call(program: str, rest: str) -> None:
    """Fails where a call names a command, an option or a choice that does not exist."""
    command: click.Command = root_of(program)
    known = {flag for p in command.params for flag in p.opts} | {"-h", "--help", "--version"}
    tokens = iter(shlex.split(re.sub(r"\$\([^)]*\)", "VALUE", rest)))
    arguments = 0
    for token in tokens:
        if token.startswith("-") and token != "-":
            context = click.Context(command)
            option = next((p for p in command.get_params(context) if token.split("=")[0] in p.opts), None)
            assert option or token in known, f"`{program} {rest}`: no option {token}"
            if isinstance(option, click.Option) and not option.is_flag and "=" not in token:
                value = next(tokens, None)
                assert value is not None, f"`{program} {rest}`: {token} takes a value"
                if isinstance(option.type, click.Choice):
                    assert value in option.type.choices or value.isupper(), f"`{program} {rest}`: {value}"
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), token)
            assert found is not None, f"`{program} {rest}`: no command {token}"
            if token == "demo":
                found = import_module("twinsim.demo").demo
            command = found
        else:
            arguments += 1
    most = sum(p.nargs if p.nargs > 0 else 100 for p in command.params if isinstance(p, click.Argument))
    assert arguments <= most, f"`{program} {rest}` has {arguments} arguments, {command.name} takes {most}"


def test_every_command_the_pages_name_exists_with_its_options():
    found = list(calls())
    assert len(found) > 60, "the pages show commands"
    for page, program, rest in found:
        try:
            check_call(program, rest)
        except AssertionError as wrong:
            raise AssertionError(f"{page}: {wrong}") from None


@pytest.mark.parametrize(
    "wrong",
    ["twinctl flee", "twinctl twin show --sites north", "twinctl twin list --health good", "twinctl fleet north"],
)
def test_a_command_that_does_not_exist_is_found(wrong: str):
    with pytest.raises(AssertionError):
        check_call(*wrong.split(" ", 1))


def test_make_targets_the_pages_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for code in code_of(page):
            for target in re.findall(r"^make ([a-z]+)", code):
                assert target in targets, f"{page.name}: make {target}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.strip().lower().replace("`", "")).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files_and_headings(page: Path):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
            assert anchor in {slug(h) for h in headings}, f"{page.name}: {target}"
    for name in NAMED.findall("\n".join(code_of(page))):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_runbook_explains_every_reason_once_and_no_other():
    rows = re.findall(r"^\| ([A-Z_]+) \| [^|]+ \| [^|]+ \|$", (DOCS / "runbook.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(REASONS)


def test_the_page_of_metrics_lists_exactly_those_of_the_code():
    status = {
        "degraded": [],
        "devices": [],
        "twins": [],
        "alarms": {"active": {}, "states": {}, "chattering": 0, "raised": 0, "records": 0},
        "spool": {"bytes": 0, "backlog_samples": 0, "backlog_age_s": 0.0, "commits": 0, "errors": 0},
        "lanes": {"samples": 0, "pushed_out": 0},
        "uplink": {"connected": False, "items_acked": 0, "reconnects": 0, "certificate_until_ns": 0},
    }
    families = [*registry(lambda: status).collect(), *Metrics().registry.collect()]
    real = {(f"{f.name}_total" if f.type == "counter" else f.name, f.type) for f in families}
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| [^|]+ \| [^|]+ \|$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == real


def test_the_page_of_the_api_lists_every_route_with_its_role():
    real = {}
    others = (alarms, backtests, cloud_twins, commands, exports, fleets, operations, replay, retention, twin_graph)
    for module in (
        health,
        session,
        fleet,
        gateways,
        configuration,
        twins,
        records,
        definitions,
        models,
        directives,
        events,
        *others,
    ):
        for route in module.router.routes:
            verbs = [
                inspect.getclosurevars(d.call).nonlocals["verb"]
                for d in route.dependant.dependencies
                if d.call is not None and d.call.__name__ == "gate"
            ]
            role = POLICY[verbs[0]] if verbs else "any" if module is session else "none"
            real[f"{next(iter(route.methods - {'HEAD'}))} {route.path}"] = role
    rows = re.findall(r"^\| `([A-Z]+ /[^`]*)` \| (\w+) \|", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert dict(rows) == real


def keys_of(*shapes: type[BaseModel]) -> set[str]:
    return {field.alias or name for shape in shapes for name, field in shape.model_fields.items()}


def words_of(page: str) -> set[str]:
    text = (DOCS / page).read_text()
    return {word for span in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"\w+", span)}


def test_the_pages_name_every_key_of_the_files():
    profile = keys_of(
        profile_schema.FirmwareProfile,
        profile_schema.Point,
        profile_schema.Defaults,
        profile_schema.Limits,
        profile_schema.Identify,
    )
    site = keys_of(
        site_schema.Site,
        site_schema.Device,
        site_schema.Security,
        site_schema.Twin,
        site_schema.Spool,
        site_schema.Status,
    )
    assert not (profile | site) - words_of("profiles.md") - {"definition"}
    assert not keys_of(Spec) - words_of("models.md")
    northbound = (
        northbound_schema.OpcuaServer,
        northbound_schema.ServedUser,
        northbound_schema.MqttPublisher,
        northbound_schema.BrokerSecurity,
    )
    assert not keys_of(*northbound) - words_of("northbound.md")
    text = (DOCS / "install.md").read_text()
    assert not [key for key in keys_of(Settings) if not re.search(rf"\b{key}\b", text)]


def examples(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_yaml_of_the_pages_is_accepted_by_the_code(tmp_path: Path):
    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    model, *others = examples("models.md")
    assert build(put("model.yaml", model))
    assert all(build(put("other.yaml", other)) for other in others)
    profile, site = examples("profiles.md")
    assert load_profile(put("profile.yaml", profile)).points
    assert read_yaml(put("site.yaml", site), site_schema.Site).twins
    (northbound,) = examples("northbound.md")
    assert read_yaml(put("northbound.yaml", northbound), site_schema.Site).northbound
    alarms, telling = examples("alarms.md")
    assert read_yaml(put("alarms.yaml", site + alarms), site_schema.Site).alarms
    assert read_yaml(put("telling.yaml", "site: s\n" + telling), site_schema.Site).devices["press"].alarms
    coordinator, gateway = examples("install.md")
    assert load_settings(put("twincloud.yaml", coordinator), environ={}).names
    assert read_yaml(put("twinedge.yaml", gateway), site_schema.Site).twins
    assert model.startswith("model: heated-tank\n"), "the site of profiles.md binds this model"
    bound = read_yaml(tmp_path / "site.yaml", site_schema.Site).twins["boiler"]
    spec = read_yaml(tmp_path / "model.yaml", Spec)
    assert set(bound.inputs) == set(spec.inputs)
    assert set(bound.outputs) < set(spec.outputs)
