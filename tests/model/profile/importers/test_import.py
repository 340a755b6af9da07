"""What holds for every format: counts, canonical text, files that are none, damage anywhere."""

import os
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinmodel.errors import ConfigError, ConflictError, InputError, TwinError
from twinmodel.profile.document import parse_document
from twinmodel.profile.importers.found import Wanted
from twinmodel.profile.importers.intake import SIZE_MAX
from twinmodel.profile.importers.run import FORMATS, import_profiles, write_profiles
from twinmodel.profile.load import examine, load_profile
from twinmodel.profile.yaml_text import quoted

ALL = sorted(FORMATS)
PATTERNS = {"sunspec": "*.json", "edgex": "*.y*ml", "telegraf": "*.*", "thingsboard": "*.json", "victron": "*.csv",
            "nodeset2": "*.xml", "csv": "*.csv"}  # fmt: skip
COUNTED = {
    "sunspec": r'"type": "(?!group)\w+"',
    "edgex": r"\battributes:",
    "telegraf": r"\baddress ?=",
    "thingsboard": r'"functionCode"',
    "victron": r"(?m)^com\.victronenergy",
    "nodeset2": r"<UAVariable ",
    "csv": r"(?m)^(?!name).+$",
}


def in_words(done):
    return [(p.name, p.version, p.settled and p.settled.text, p.refusals, p.notes) for p in done.profiles]


@pytest.mark.parametrize("form", ALL)
def test_what_is_carried_and_refused_adds_up_to_what_the_source_holds(form, bring, samples):
    done = bring(form)
    assert done.found == done.carried + len(done.refusals) == len(re.findall(COUNTED[form], samples[form][1]))
    assert all(r.message and r.hint and r.place and r.reason.isupper() for r in done.refusals)


@pytest.mark.parametrize("form", ALL)
def test_the_same_file_gives_the_same_profiles_one_line_a_point(form, bring):
    done = bring(form)
    assert in_words(done) == in_words(bring(form))
    for one in done.profiles:
        if one.settled is None:
            continue
        lines = one.settled.text.splitlines()
        assert len([line for line in lines if line.startswith("  ")]) == len(one.settled.profile.points)
        assert one.settled.profile.source.endswith(f"imported from {done.source.name}, sha256 {done.digest}")


@pytest.mark.parametrize("form", ALL)
def test_what_is_written_reads_back_as_it_was_accepted(form, bring, tmp_path):
    done = bring(form)
    places = write_profiles(done.profiles, tmp_path / "out")
    accepted = [p for p in done.profiles if p.settled]
    assert [load_profile(place) for place in places] == [p.settled.profile for p in accepted]
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_profile_that_is_there_stays_unless_told_and_nothing_is_half_done(bring, tmp_path):
    done = bring("victron")
    there = tmp_path / "victron/tank/all.yaml"
    there.parent.mkdir(parents=True)
    there.write_text("mine")
    with pytest.raises(ConflictError):
        write_profiles(done.profiles, tmp_path)
    assert there.read_text() == "mine"
    assert not (tmp_path / "victron/press").exists()
    assert len(write_profiles(done.profiles, tmp_path, force=True)) == 2
    assert len(write_profiles(done.profiles, tmp_path)) == 2
    assert not examine(there, []).errors


def test_a_folder_that_cannot_be_written_to_is_told(bring, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as error:
        write_profiles(bring("csv").profiles, tmp_path / "file")
    assert error.value.reason == "FILE_MISSING"


@pytest.mark.parametrize(
    ("firmware", "version"), [("*", "all"), (">=2.3, <3", "2.3"), (">2.3", "all"), ("2.4.*", "2.4"), ("<2", "all")]
)
def test_the_file_is_called_after_the_first_version_it_is_for(bring, firmware, version):
    assert bring("csv", firmware=firmware).profiles[0].version == version


@pytest.mark.parametrize(
    "options",
    [{"name": "Acme/Press"}, {"name": "acme"}, {"name": "../x/y"}, {"firmware": "newest"}, {"part": "none"}],
)
def test_options_that_say_nothing_are_refused(bring, options):
    with pytest.raises(InputError) as error:
        bring("victron", **options)
    assert error.value.reason == "REQUEST_INVALID"


def test_a_base_for_a_format_that_knows_its_own_is_refused(bring):
    with pytest.raises(InputError, match="--base says nothing"):
        bring("victron", wanted=Wanted(base=1))


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize(
    "text",
    [b"", b"\xff\xfe\x00", b"\0" * 40, "é".encode("latin-1") * 9, b"\xef\xbb\xbf", b"null", b"[]", b"{}", b"- a",
     b"a = 1", b"<a/>", b"a,b\n1,2\n", b"%PDF-1.7\n%\xe2\xe3", b'{"id": 1, "id": 2}', b"&a [*a, *a]", b'{"id": NaN}'],
)  # fmt: skip
def test_a_file_of_another_kind_is_refused_with_its_path(form, text, bring):
    with pytest.raises(TwinError) as error:
        bring(form, text)
    assert error.value.reason in {"SOURCE_INVALID", "VALUE_INVALID"}
    assert error.value.facts["path"]


@pytest.mark.parametrize("form", ALL)
def test_a_file_of_another_format_is_refused_or_loses_everything_with_reasons(form, bring, samples):
    for other in ALL:
        if other != form:
            with pytest.raises(TwinError) as error:
                bring(form, samples[other][1])
            assert error.value.reason in {"SOURCE_INVALID", "VALUE_INVALID"}


@pytest.mark.parametrize("form", ALL)
def test_a_huge_file_is_refused_before_it_is_parsed(form, tmp_path, samples):
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(ConfigError) as error:
        import_profiles(form, path, samples[form][2])
    assert error.value.reason == "LIMIT_EXCEEDED"
    assert SIZE_MAX < 100 << 20


@pytest.mark.parametrize("form", ["sunspec", "thingsboard", "telegraf", "edgex"])
def test_deep_nesting_is_refused(form, bring):
    deep = {"telegraf": "a = " + "[" * 5000 + "]" * 5000, "edgex": "[" * 5000 + "]" * 5000}
    for text in (deep.get(form, '{"a":' * 60 + "1" + "}" * 60), deep.get(form, "[" * 100_000)):
        with pytest.raises(ConfigError) as error:
            bring(form, text)
        assert error.value.reason in {"LIMIT_EXCEEDED", "SOURCE_INVALID"}


@pytest.mark.parametrize("path", ["none", ".", "a\0b"])
def test_a_place_without_a_file_is_told(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        import_profiles("csv", Path(path), Wanted(base=0))
    assert error.value.reason == "FILE_MISSING"


@given(st.text(max_size=60))
def test_any_text_is_quoted_so_that_it_reads_back(text):
    text = text.encode("utf-8", "replace").decode()
    made = quoted(text)
    content = parse_document(f"{{k: {made}, 'n': [{made}]}}", Path("x")).content
    assert content == {"k": text, "n": [text]}


PIECES = ["0", "-1", "65535", "99999999999999999999", "1e999", "nan", "true", "null", '""', "[]", "{}", '"\\ud800"',
          "\0", "\u2028", "ß", ",", ";", "\n", "}", "]", "<", "&", "'", '"', "[0]", "10^@", "1.5",
          "string(16)", "ABCD"]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("form", ALL)
@given(data=st.data())
def test_damage_anywhere_is_a_typed_error_or_a_refusal(form, data, bring, samples):
    text = samples[form][1]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 1, 2, 5, 20]))
        text = text[:start] + data.draw(st.sampled_from(PIECES) | st.text(max_size=3)) + text[start + length :]
    with suppress(TwinError):
        check(bring(form, text.encode("utf-8", "replace")))


def check(done):
    for one in done.profiles:
        if one.settled is not None:
            assert len(one.settled.profile.points) >= one.carried


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("form", ALL)
@given(data=st.data())
def test_a_token_replaced_by_another_is_a_typed_error_or_a_refusal(form, data, bring, samples):
    text = samples[form][1]
    tokens = list(re.finditer(r'"[^"]*"|[\w.=:-]+', text))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(tokens))
        other = data.draw(st.sampled_from(PIECES) | st.sampled_from(tokens).map(lambda m: m[0]))
        text = text[: at.start()] + other + text[at.end() :]
        tokens = list(re.finditer(r'"[^"]*"|[\w.=:-]+', text))
    with suppress(TwinError):
        check(bring(form, text.encode("utf-8", "replace")))


def corpus(form):
    """Files of a collection that HYBRIDTWIN_CORPUS names: a folder with one folder for each format."""
    root = os.environ.get("HYBRIDTWIN_CORPUS")
    return sorted(Path(root, form).rglob(PATTERNS[form])) if root else []


@pytest.mark.parametrize("form", ALL)
def test_real_collections_are_carried_or_refused_point_by_point(form, tmp_path, samples):
    own = tmp_path / samples[form][0]
    own.write_text(samples[form][1])
    carried, other = 0, {}
    for number, path in enumerate([own, *corpus(form)]):
        wanted = samples[form][2] if path == own else Wanted(base=0 if form in {"sunspec", "edgex", "csv"} else None)
        try:
            done = import_profiles(form, path, wanted)
        except ConfigError as wrong:
            other[path] = wrong.reason
            continue
        assert done.found == done.carried + len(done.refusals)
        for place in write_profiles(done.profiles, tmp_path / str(number)):
            assert not examine(place, []).errors
        carried += done.carried
    assert carried
    assert own not in other
    assert set(other.values()) <= {"SOURCE_INVALID"}
