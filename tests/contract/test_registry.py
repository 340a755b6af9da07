"""Models, their signers, directives and how they end."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from sqlalchemy import text

from tests.contract.plant import KEY, NOW, TWIN, Edge, catalogue, invite
from twincloud.storage import mailbox
from twincloud.storage.contract import Beat, GatewayKey, Running, TwinKey, Wish
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, InputError, MissingError, PackageError
from twinmodel.package import signing
from twinmodel.signal import Catalogue, Stream

GOOD = "pump 1.0.0 {} speed=rpm flow=l/s,head=mm,wear=1"


@pytest.fixture
def signer(store):
    return store.add_signer("acme", "release", signing.public_pem(signing.generate_key().public_key()), NOW)


def package(signer: str, text: str = GOOD) -> bytes:
    return text.format(signer).encode()


def test_signers_are_kept_per_tenant_and_twice_is_no_error(store):
    pem = signing.public_pem(signing.generate_key().public_key())
    assert store.add_signer("acme", "a", pem, NOW) == store.add_signer("acme", "b", pem, NOW)
    assert list(store.signers("acme").values()) == [pem]
    assert store.signers("other") == {}
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.add_signer("nobody", "a", pem, NOW)


def test_model_is_verified_kept_and_found_again(store, signer):
    blob = package(signer)
    model = store.put_model("acme", blob, NOW)
    assert (model.name, model.version, model.signer, model.size) == ("pump", "1.0.0", signer, len(blob))
    assert list(model.outputs.items()) == [("flow", "l/s"), ("head", "mm"), ("wear", "1")]
    assert model.digest == hashlib.sha256(blob).hexdigest()
    assert store.put_model("acme", blob, NOW + 9) == model
    assert store.model("acme", "pump@1.0.0") == model
    assert store.artifact("acme", model.digest) == blob
    assert store.models("acme").items == (model,)
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.artifact("other", model.digest)


def test_same_version_with_another_content_is_refused(store, signer):
    store.put_model("acme", package(signer), NOW)
    with pytest.raises(ConflictError, match="ALREADY_EXISTS"):
        store.put_model("acme", package(signer, GOOD.replace("rpm", "Hz")), NOW)


def test_package_that_cannot_be_trusted_leaves_nothing_behind(store, signer):
    with pytest.raises(PackageError, match="SIGNER_UNKNOWN"):
        store.put_model("acme", package("stranger"), NOW)
    assert store.models("acme").items == ()


def test_unknown_model_is_told_with_the_nearest_name(store, signer):
    store.put_model("acme", package(signer), NOW)
    with pytest.raises(MissingError, match=r"UNKNOWN_MODEL.*did you mean 'pump@1.0.0'"):
        store.model("acme", "pump@1.0.1")
    with pytest.raises(MissingError, match="UNKNOWN_MODEL"):
        store.model("acme", "pump")


@pytest.fixture
def edge(store, signer):
    made = Edge()
    made.connect(store)
    store.put_model("acme", package(signer), NOW)
    store.put_model("acme", package(signer).replace(b"1.0.0", b"1.1.0"), NOW)
    return made


def assign(store, reference: str = "pump@1.0.0", now_ns: int = NOW):
    return store.assign_model(TWIN, reference, by="ann", now_ns=now_ns, deadline_ns=now_ns + 9)


@pytest.mark.parametrize(
    ("ports", "why"),
    [
        ("valve=1 flow=m3/h", "input 'valve' is no measured property of the twin"),
        ("head=m flow=m3/h", "input 'head' is no measured property of the twin"),
        ("speed=m flow=m3/h", "input 'speed' is in m in the model, in 1/min in the twin"),
        ("speed=Hz flow=kg", "output 'flow' is in kg in the model"),
        ("speed=Hz head=s", "output 'head' is in s in the model"),
    ],
)
def test_model_that_does_not_fit_is_refused_with_each_reason(store, signer, edge, ports, why):
    store.put_model("acme", f"odd 1.0.0 {signer} {ports}".encode(), NOW)
    with pytest.raises(ConflictError, match="MODEL_UNFIT") as caught:
        assign(store, "odd@1.0.0")
    assert why in str(caught.value)
    assert store.directives("acme") == ()


def test_assignment_opens_a_directive_that_the_twin_shows(store, edge):
    made = assign(store)
    assert (made.version, made.target, made.kind, made.name, made.gateway) == (1, "pump-0", "model", "pump@1.0.0", KEY)
    assert store.open_directives(KEY) == (made,)
    model = store.twin(TWIN).model
    assert (model.desired, model.desired_digest, model.directive, model.outcome) == (
        "pump@1.0.0", made.digest, made.id, "")  # fmt: skip
    assert [e.subject for e in store.events("acme", after=0) if e.kind == "directive"] == ["pump-0"]


def test_directive_that_is_older_than_its_content_travels_without_any(store, edge):
    assign(store)
    with store._database.write() as connection:
        connection.execute(text("UPDATE directives SET content = ''"))  # what the default of the column left in it
    (found,) = store.open_directives(KEY)
    assert (found.content, type(found.content)) == (b"", bytes)


def test_newer_directive_supersedes_the_open_one_and_its_version_is_higher(store, edge):
    first, second = assign(store), assign(store, "pump@1.1.0")
    assert second.version == 2
    assert [d.id for d in store.open_directives(KEY)] == [second.id]
    newest, older = store.directives("acme", target="pump-0")
    assert (newest.id, older.id, older.outcome) == (second.id, first.id, "SUPERSEDED")
    # The gateway had applied the first one before it heard of the second: its word counts.
    store.settle_directive(KEY, first.id, "APPLIED", reason="", detail="", running=first.digest, now_ns=NOW + 1)
    assert store.directives("acme")[1].outcome == "APPLIED"
    assert store.twin(TWIN).model.running == "pump@1.0.0"


def test_outcome_is_kept_once_and_what_runs_is_named_by_its_digest(store, edge):
    made = assign(store)
    for _ in range(2):
        store.settle_directive(KEY, made.id, "APPLIED", reason="", detail="ok", running=made.digest, now_ns=NOW + 1)
    store.settle_directive(KEY, made.id, "REJECTED", reason="LATE", detail="", running="", now_ns=NOW + 2)
    assert store.open_directives(KEY) == ()
    (found,) = store.directives("acme")
    assert (found.outcome, found.detail, found.ended_ns) == ("APPLIED", "ok", NOW + 1)
    running = (Running("pump-0", bytes.fromhex(made.digest), "", "jit"),)
    assert store.heartbeats([Beat(KEY, edge.session, 0, 0, 0, running, NOW)]) == [None]
    edge.send(store, [edge.tick(NOW)])
    twin = store.twin(TWIN)
    assert (twin.model.running, twin.model.tier, twin.model.outcome) == ("pump@1.0.0", "jit", "APPLIED")
    assert (twin.properties[0].estimated.model, twin.properties[0].estimated.model_id) == ("pump@1.0.0", "id-pump")


def test_directive_of_another_gateway_or_none_cannot_be_settled(store, edge):
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.settle_directive(KEY, "nope", "APPLIED", reason="", detail="", running="", now_ns=NOW)


def test_directives_rest_while_the_identity_is_forked(store, edge):
    assign(store)
    clone = Edge(44)
    with pytest.raises(ConflictError, match="IDENTITY_FORK"):
        clone.connect(store)
    assert store.open_directives(KEY) == ()
    assert len(store.directives("acme")) == 1


def defaults(store, gateway=None, tenant="acme"):
    return [(d.target, d.name, d.created_by) for d in store.assign_defaults(tenant, gateway=gateway, now_ns=NOW)]


def test_model_that_site_yaml_names_is_assigned_once_to_each_twin(store, edge):
    assert defaults(store) == [("pump-0", "pump@1.0.0", "site.yaml"), ("pump-1", "pump@1.0.0", "site.yaml")]
    made = store.open_directives(KEY)
    assert [(d.version, d.deadline_ns, d.gateway) for d in made] == [(1, 0, KEY), (1, 0, KEY)]
    assert defaults(store) == []
    for one in made:
        store.settle_directive(KEY, one.id, "APPLIED", reason="", detail="", running=one.digest, now_ns=NOW + 1)
    assert defaults(store) == []
    assert store.open_directives(KEY) == ()


@pytest.mark.parametrize("outcome", ["", "APPLIED", "REJECTED"])
def test_what_a_person_assigned_is_never_replaced_by_the_default(store, edge, outcome):
    chosen = assign(store, "pump@1.1.0")
    if outcome:
        store.settle_directive(KEY, chosen.id, outcome, reason="", detail="", running="", now_ns=NOW + 1)
    assert [target for target, _, _ in defaults(store)] == ["pump-1"]
    assert store.twin(TWIN).model.desired == "pump@1.1.0"
    assign(store, "pump@1.1.0")
    assert defaults(store) == []


@pytest.mark.parametrize("ports", ["", "valve=1 flow=m3/h"])
def test_default_that_is_unknown_or_unfit_is_passed_over_until_it_is_there_and_fits(store, signer, ports):
    edge = Edge()
    if ports:
        store.put_model("acme", f"pump 1.0.0 {signer} {ports}".encode(), NOW)
    edge.connect(store)
    assert defaults(store) == []
    assert store.directives("acme") == ()
    if ports:
        # The configuration names a version that fits.
        old = edge.catalogue
        twins = tuple(dataclasses.replace(binding, model="pump@1.0.1") for binding in old.twins)
        edge.catalogue = Catalogue(old.signals, twins, old.time_step_ns)
        store.put_catalogue(KEY, edge.session, edge.catalogue, NOW)
        store.put_model("acme", package(signer).replace(b"1.0.0", b"1.0.1"), NOW)
        assert {name for _, name, _ in defaults(store)} == {"pump@1.0.1"}
    else:
        store.put_model("acme", package(signer), NOW)
        assert {name for _, name, _ in defaults(store)} == {"pump@1.0.0"}
    assert len(store.open_directives(KEY)) == 2


def test_default_goes_to_the_twins_asked_for_and_never_to_another_tenant(store, edge):
    second, foreign = GatewayKey("acme", "dock", "gw-2"), GatewayKey("other", "mill", "gw-1")
    for seed, key in ((2, second), (3, foreign)):
        invite(store, key)
        Edge(seed, catalogue(1)).connect(store, key)
    assert [target for target, _, _ in defaults(store, second)] == ["pump-0"]
    assert [d.gateway for d in store.directives("acme")] == [second]
    assert len(defaults(store)) == 2
    assert defaults(store, tenant="other") == []
    assert store.directives("other") == ()
    assert store.twin(TwinKey("other", "mill", "pump-0")).model.directive == ""


def test_twin_that_retired_gets_no_default(store, edge):
    store.put_catalogue(KEY, edge.session, catalogue(1), NOW)
    assert [target for target, _, _ in defaults(store)] == ["pump-0"]


def wish(stream=Stream.TELEMETRY, signal="", period_ns=SECOND_NS, until_ns=0, at_ns=NOW):
    return Wish(stream, signal, period_ns, until_ns, at_ns, "t")


def test_wish_holds_until_another_one_of_its_stream_and_signal_its_time_or_its_end(place, store):
    for one in (wish(), wish(period_ns=5), wish(Stream.BULK), wish(signal="press.p", until_ns=NOW + 9)):
        store.wish(KEY, one)
    held = (wish(period_ns=5), wish(signal="press.p", until_ns=NOW + 9), wish(Stream.BULK))
    assert store.wishes(KEY, NOW) == held
    store.close()
    store = place.open()
    assert store.wishes(KEY, NOW + 8) == held
    assert store.wishes(KEY, NOW + 9) == (held[0], held[2])
    store.wish(KEY, wish(period_ns=0, at_ns=NOW + 9))
    assert store.wishes(KEY, NOW) == held[2:]


def test_wish_for_what_stays_whole_or_is_not_there_is_refused(store):
    with pytest.raises(MissingError, match="UNKNOWN_GATEWAY"):
        store.wish(GatewayKey("acme", "nowhere", "gw"), wish())
    Edge().connect(store)
    with pytest.raises(InputError, match=r"REQUEST_INVALID.*alarms"):
        store.wish(KEY, wish(Stream.ALARM))
    bound = next(iter(catalogue().twins[0].properties.values()))
    with pytest.raises(InputError, match=r"REQUEST_INVALID.*stay whole"):
        store.wish(KEY, wish(catalogue().by_name[bound].stream, bound))
    with pytest.raises(InputError, match="UNKNOWN_SIGNAL"):
        store.wish(KEY, wish(signal="nothing.like_it"))
    assert store.wishes(KEY, NOW) == ()


def sent(store, content=b"", kind="config", target="@config", now_ns=1):
    return store.open_directive(KEY, kind, target, name="x", content=content, by="ann", now_ns=now_ns)


def end(store, directive, outcome="APPLIED", now_ns=1):
    store.settle_directive(KEY, directive.id, outcome, reason="", detail="", running="", now_ns=now_ns)


def test_a_directive_of_the_system_carries_its_content_to_the_gateway_and_supersedes_the_one_before(store):
    first, second = sent(store, b"one", "alarm", "@alarm/a"), sent(store, b"two", "alarm", "@alarm/a", now_ns=2)
    assert [(d.id, d.version, d.content) for d in store.open_directives(KEY)] == [(second.id, 2, b"two")]
    listed = {d.id: (d.outcome, d.content) for d in store.directives(KEY.tenant, target="@alarm/a")}
    assert listed == {first.id: ("SUPERSEDED", b""), second.id: ("", b"")}
    assert store.directive(KEY, first.id).content == b"one"
    with pytest.raises(MissingError, match="NOT_FOUND"):
        store.directive(KEY, "nothing")


def test_a_configuration_that_may_be_on_trial_stays_open_and_those_between_it_and_the_newest_do_not(store):
    one, two, three = (sent(store, now_ns=n) for n in (1, 2, 3))
    assert [d.id for d in store.open_directives(KEY)] == [one.id, three.id]
    end(store, one, "REJECTED")
    four = sent(store, now_ns=4)
    assert {d.id: d.outcome for d in store.configurations(KEY)} == {
        one.id: "REJECTED", two.id: "SUPERSEDED", three.id: "", four.id: "",
    }  # fmt: skip
    assert [d.version for d in store.open_directives(KEY)] == [3, 4]


def test_configurations_are_listed_by_the_beginning_of_their_content(store):
    content = bytes(range(256)) * 64
    made = sent(store, content)
    (listed,) = store.configurations(KEY)
    assert listed.content == content[: len(listed.content)]
    assert 1000 <= len(listed.content) <= 10_000
    assert store.directive(KEY, made.id).content == content


def test_old_directives_are_forgotten_but_for_what_is_open_newest_or_in_force(store, monkeypatch):
    applied = sent(store)
    end(store, applied)
    rejected = [sent(store) for _ in range(3)]
    for one in rejected:
        end(store, one, "REJECTED", now_ns=NOW)
    alarm = sent(store, kind="alarm", target="@alarm/a")
    end(store, alarm)
    opened = [sent(store) for _ in range(2)]
    assert store.forget_directives(1, 100) == 0
    assert store.forget_directives(NOW + 1, 2) == 2
    assert store.forget_directives(NOW + 1, 100) == 1
    assert store.forget_directives(NOW + 1, 100) == 0
    assert [d.id for d in store.configurations(KEY)] == [opened[1].id, opened[0].id, applied.id]
    assert [d.id for d in store.directives(KEY.tenant, target="@alarm/a")] == [alarm.id]
    assert sent(store).version == 7


def test_of_a_target_only_the_newest_directives_are_kept_however_young(store, monkeypatch):
    monkeypatch.setattr(mailbox, "KEPT_OF_TARGET", 3)
    for number in range(6):
        end(store, sent(store, kind="alarm", target="@alarm/a"), now_ns=NOW + number)
        end(store, sent(store, kind="alarm", target="@alarm/b"), now_ns=NOW + number)
    assert store.forget_directives(0, 100) == 6
    assert [d.version for d in store.directives(KEY.tenant, target="@alarm/a")] == [6, 5, 4]


def test_a_directive_of_the_system_that_could_be_a_twin_or_is_too_large_is_refused(store):
    for target, content, reason in (
        ("pump", b"", "VALUE_INVALID"),
        ("@config", bytes((256 << 10) + 1), "LIMIT_EXCEEDED"),
    ):
        with pytest.raises(InputError) as caught:
            store.open_directive(KEY, "config", target, name="x", content=content, by="ann", now_ns=1)
        assert caught.value.reason == reason
