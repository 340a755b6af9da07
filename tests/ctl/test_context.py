"""Contexts and signing in."""

import stat

import pytest

HERE = {"HYBRIDTWIN_URL": None, "HYBRIDTWIN_TENANT": None, "HYBRIDTWIN_TOKEN": None}


def test_a_context_added_is_current_and_its_file_is_for_its_owner_alone(shell):
    assert shell("context", "add", "plant", "--url", shell.url, "--tenant", "acme", **HERE).code == 0
    file = shell.home / "hybridtwin" / "contexts.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert shell("context", "list", "-o", "json", **HERE).json == [
        {"name": "plant", "current": True, "url": shell.url, "tenant": "acme", "token": "none"}
    ]


def test_login_keeps_a_token_only_when_the_coordinator_accepts_it(shell):
    shell("context", "add", "plant", "--url", shell.url, "--tenant", "acme", **HERE)
    refused = shell("login", stdin="wrong\n", **HERE)
    assert refused.code == 4
    assert "TOKEN_INVALID" in refused.err
    assert shell("context", "show", "-o", "json", **HERE).json["token"] == "none"
    assert shell("login", stdin="ht_test_0123456789\n", **HERE).code == 0
    assert shell("context", "show", "-o", "json", **HERE).json["token"] == "set"
    assert shell("fleet", "-o", "json", **HERE).json["ok"] == 5


def test_a_token_is_never_shown(shell):
    shell("context", "add", "plant", "--url", shell.url, "--tenant", "acme", "--token", "twt_secret", **HERE)
    for verb in ("list", "show"):
        for form in ("table", "json"):
            said = shell("context", verb, "-o", form, **HERE)
            assert "twt_secret" not in said.out + said.err


def test_a_context_moved_to_another_url_forgets_its_token(shell):
    shell("context", "add", "plant", "--url", shell.url, "--token", "twt_secret", **HERE)
    shell("context", "add", "plant", "--url", "http://elsewhere:8420", **HERE)
    assert shell("context", "show", "-o", "json", **HERE).json["token"] == "none"


def test_the_environment_goes_over_the_context(shell):
    shell("context", "add", "plant", "--url", "http://nowhere:1", "--tenant", "other", **HERE)
    shown = shell("context", "show", "-o", "json").json
    assert (shown["url"], shown["tenant"], shown["token"]) == (shell.url, "acme", "set")


def test_use_switches_and_refuses_an_unknown_name_with_the_known_ones(shell):
    shell("context", "add", "a", "--url", "http://a:1", **HERE)
    shell("context", "add", "b", "--url", "http://b:1", **HERE)
    assert shell("context", "use", "a", **HERE).code == 0
    assert shell("context", "show", "-o", "json", **HERE).json["name"] == "a"
    refused = shell("context", "use", "c", **HERE)
    assert refused.code == 1
    assert "known: a, b" in refused.err
    assert shell("--context", "b", "context", "show", "-o", "json", **HERE).json["url"] == "http://b:1"


@pytest.mark.parametrize("url", ["127.0.0.1:8420", "ftp://x", "http://", "http://a b"])
def test_what_is_no_url_is_refused_with_an_example(shell, url):
    refused = shell("context", "add", "plant", "--url", url, **HERE)
    assert refused.code == 2
    assert "http://127.0.0.1:8420" in refused.err


def test_a_damaged_file_is_named(shell):
    file = shell.home / "hybridtwin" / "contexts.json"
    file.parent.mkdir(parents=True)
    file.write_text("{", encoding="utf-8")
    refused = shell("context", "list", **HERE)
    assert refused.code == 2
    assert str(file) in refused.err
