"""The house rules a machine can check: sizes, docstrings, banned calls, names, nothing foreign in the tree."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from twinmodel.errors import REASONS

ROOT = Path(__file__).resolve().parents[2]
ROOTS = {
    "twinmodel": "models/twinmodel",
    "twinsync": "sync/twinsync",
    "twinedge": "edge/twinedge",
    "twincloud": "cloud/twincloud",
    "twinctl": "cloud/twinctl",
    "twinsim": "device-sim/twinsim",
}
# A batch of ours depends on what these do by value, so nobody else may call them: time and chance are parameters.
BANNED_CALLS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("asyncio", "create_task"),
    ("asyncio", "ensure_future"),
    ("random", "random"),
    ("random", "randint"),
    ("random", "choice"),
    ("random", "seed"),
}
CLOCK = ROOT / "models/twinmodel/clock.py"
BANNED_NAMES = re.compile(r"(^|_)(utils?|helpers?|manager|misc|common)(_|$)")


def modules() -> list[Path]:
    found = [p for folder in ROOTS.values() for p in sorted((ROOT / folder).rglob("*.py"))]
    return [p for p in found if "/v1/" not in str(p) or "_pb2" not in p.name]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [ROOT / line for line in listed.stdout.splitlines()]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_module_is_small_says_its_purpose_and_calls_no_clock_or_chance(path: Path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says its purpose in its first line"
    assert len(text.splitlines()) <= 400, "split the module by purpose"
    assert not BANNED_NAMES.search(path.stem), "a module is named after what it holds"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 70, f"{node.name} has {lines} lines"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "marshal", "shelve"} & set(names), "nothing is unpickled"
        if path == CLOCK or not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
        assert (name, node.func.attr) not in BANNED_CALLS, f"line {node.lineno}: {name}.{node.func.attr}"


def test_every_reason_of_the_registry_is_raised_or_sent_somewhere():
    text = "\n".join(p.read_text() for p in modules() if p.name != "errors.py")
    unused = [reason for reason in REASONS if f'"{reason}"' not in text]
    assert not unused, f"remove from the registry or raise: {unused}"


def test_nothing_in_the_tree_names_a_registry_or_a_home_folder():
    registries = re.compile(
        "|".join(["py" + r"pi\.org", "python" + "hosted", "registry" + r"\.npm", "deb" + r"\.debian"])
    )
    homes = re.compile("/" + "home/|/" + "root/")
    for path in tracked():
        if not path.is_file() or path.suffix in {".png", ".woff2", ".twin"}:
            continue
        text = path.read_text(errors="replace")
        assert not registries.search(text), path
        assert not homes.search(text), path


def test_every_package_folder_is_known():
    found = {
        p.parent.name
        for folder in ("models", "sync", "edge", "cloud", "device-sim")
        for p in (ROOT / folder).glob("*/__init__.py")
    }
    assert found == set(ROOTS)
