"""Twins in the cloud: the bits of the edge, over gateways and each other, said once, revised by what comes late."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.cloud.plant import START_NS
from tests.cloud.replay.tanks import Site, catalogue, truth
from tests.cloud.replay.tier import TIER
from twincloud.estimate.publishing import Member, arrivals_of, batch_of, open_voice
from twincloud.estimate.stepping import Stepper
from twincloud.estimate.task import CloudTwins
from twincloud.estimate.wiring import check, load_package
from twincloud.storage.contract import GatewayKey, TwinKey
from twincloud.storage.records_cloud import CloudTwin, Feed, Wiring
from twinedge.estimate.runner import TwinRunner
from twinedge.estimate.runner import Wiring as EdgeWiring
from twinedge.slot import Slot
from twinmodel.clock import SECOND_NS
from twinmodel.errors import ConflictError, InputError
from twinmodel.estimator import Estimator
from twinmodel.signal import Batch, Kind
from twinmodel.stride import Strides

CLOUD = GatewayKey("acme", "mill", "cloud")
KEY = TwinKey("acme", "mill", "tanks-cloud")
PUMP, LEVEL = Feed("mill", "tanks", "pump", "measured"), Feed("mill", "tanks", "level2", "measured")
ROWS = truth(180)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.references = site.push()
    yield site
    site.store.close()


def define(site, key=KEY, inputs=None, outputs=None, **changes):
    model = site.store.model("acme", site.references["right"])
    wiring = Wiring(inputs or {"pump": PUMP}, {"level2": LEVEL} if outputs is None else outputs)
    check(site.store, key, wiring, load_package(site.store, "acme", model.digest))
    facts = {
        "key": key, "version": 0, "model": site.references["right"], "digest": model.digest, "wiring": wiring,
        "wait_ns": 30 * SECOND_NS, "since_ns": START_NS, "created_by": "ann", "created_ns": 1, "tick_ns": 0,
        "state": b"", "through": 0, "reached": {}, "ticks": 0, "revised": 0, "too_late": 0, "updated_ns": 0,
        "reason": "", "detail": "",
    }  # fmt: skip
    return site.store.put_cloud_twin(CloudTwin(**{**facts, **changes}), 1)


def settle(site, stepper=None):
    """Rounds of the background task until there is nothing more to do."""
    stepper = stepper or Stepper(site.store, tier=TIER)
    task = CloudTwins(site.store, site.clock, stepper)
    for _ in range(50):
        before = site.store.newest_commit()
        task.run(site.clock.wall_ns())
        if site.store.newest_commit() == before:
            return
    pytest.fail("it never comes to rest")


def series(site, signal, known=None):
    kwargs = {} if known is None else {"known": known}
    track = site.store.tracks(CLOUD, [signal], START_NS - SECOND_NS, START_NS + 10_000 * SECOND_NS, **kwargs)[signal]
    newest = np.append(track.t_ns[1:] != track.t_ns[:-1], [True]) if len(track) else np.empty(0, bool)
    track = track.take(newest)
    return dict(zip(track.t_ns.tolist(), track.value.tolist(), strict=True))


def everything(site):
    """How many samples of the cloud gateway are stored."""
    return sum(len(batch) for _, batch in site.store.samples(CLOUD, limit=10**9).items)


def on_the_edge(site, rows, tier=TIER):
    """What an agent says of the same rows: signal -> time -> value, and the hash of its kernel."""
    plan = catalogue()
    package = load_package(site.store, "acme", site.store.model("acme", site.references["right"]).digest)
    slot = Slot("tanks")
    slot.offer(Estimator(package, tier=tier))
    ids = {name: plan.by_name[f"plc.{name}"].id for name in ("pump", "level2")}
    wiring = EdgeWiring("tanks", {"pump": ids["pump"]}, {"level2": ids["level2"]}, {})
    runner = TwinRunner(wiring, slot)
    runner.publish_as(plan)
    found = {}
    for n, (volts, level) in enumerate(rows):
        t_ns = START_NS + n * SECOND_NS
        for name, value in (("pump", volts), ("level2", level)):
            runner.push(Batch.of(Kind.FLOAT, [ids[name]], [value], [0], [t_ns]), t_ns)
        for batch in runner.run(t_ns):
            if batch.kind is Kind.FLOAT:
                for signal, value, when in zip(batch.signal, batch.value, batch.t_ns, strict=True):
                    found.setdefault(plan.signals[signal].name, {})[int(when)] = float(value)
    return found, slot.current().state_hash()


def test_cloud_says_the_bits_the_edge_says(site):
    define(site)
    site.run_plant(ROWS)
    settle(site)
    edge, kernel_hash = on_the_edge(site, ROWS, "interpreted")
    for role in ("estimate", "sigma", "prediction"):
        mine, theirs = series(site, f"tanks-cloud/level1#{role}"), edge[f"tanks/level1#{role}"]
        assert len(theirs) == len(ROWS)
        assert mine == theirs
    twin = site.store.cloud_twin(KEY)
    assert twin.tick_ns == START_NS + 179 * SECOND_NS
    estimator = Estimator(load_package(site.store, "acme", twin.digest), tier=TIER)
    estimator.restore(twin.state)
    assert estimator.state_hash() == kernel_hash


def test_it_is_a_twin_like_any_other(site):
    define(site)
    site.run_plant(ROWS[:120])
    settle(site)
    shown = site.store.twin(KEY)
    assert shown.gateway == "cloud"
    assert shown.model.running == site.references["right"]
    level = next(p for p in shown.properties if p.name == "level1")
    assert level.estimated.sigma > 0
    assert level.estimated.t_event_ns == START_NS + 119 * SECOND_NS
    assert site.store.twin_record(KEY).document.run == "cloud"


def test_restart_and_another_replica_repeat_nothing(site):
    define(site)
    site.run_plant(ROWS[:120])
    settle(site)
    first = everything(site)
    stale, twin = Stepper(site.store, tier=TIER), site.store.cloud_twin(KEY)
    site.run_plant(ROWS[120:180], first=120)
    settle(site)  # a fresh stepper is what a restart leaves
    assert everything(site) == first + 60 * first // 120
    with pytest.raises(ConflictError, match="FENCED"):
        stale.step(twin, [twin], site.clock.wall_ns())
    assert everything(site) == first + 60 * first // 120
    whole = series(site, "tanks-cloud/level2#estimate")
    assert list(whole) == [START_NS + n * SECOND_NS for n in range(180)]


def test_estimates_do_not_depend_on_how_often_it_looked(site, tmp_path):
    define(site)
    for start in range(0, 180, 60):
        site.run_plant(ROWS[start : start + 60], first=start)
        settle(site)
    other = Site(tmp_path / "other")
    other.references = other.push()
    define(other)
    other.run_plant(ROWS[:180])
    settle(other)
    try:
        name = "tanks-cloud/level1#estimate"
        assert series(site, name) == series(other, name)
        assert site.store.cloud_twin(KEY).state == other.store.cloud_twin(KEY).state
    finally:
        other.store.close()


def test_late_samples_revise_and_what_was_known_before_stays(site):
    define(site)
    kept = [row for n, row in enumerate(ROWS) if n != 100]
    for start in range(0, 180, 60):
        times = [START_NS + n * SECOND_NS for n in range(start, start + 60) if n != 100]
        rows = [ROWS[n] for n in range(start, start + 60) if n != 100]
        site.send({"plc.pump": [v for v, _ in rows], "plc.level2": [h for _, h in rows]}, times)
    settle(site)
    assert len(kept) == 179
    name, known = "tanks-cloud/level1#estimate", site.store.newest_commit()
    before = series(site, name)
    late_ns = START_NS + 100 * SECOND_NS
    site.send({"plc.pump": [ROWS[100][0]], "plc.level2": [ROWS[100][1] + 0.01]}, [late_ns])
    settle(site)
    after = series(site, name)
    assert site.store.cloud_twin(KEY).revised == 1
    assert series(site, name, known=known) == before
    changed = [t for t in after if after[t] != before[t]]
    assert late_ns <= min(changed) <= late_ns + SECOND_NS
    assert list(after) == list(before)
    # As if it had never been late:
    fresh, _ = on_the_edge(site, [*ROWS[:100], (ROWS[100][0], ROWS[100][1] + 0.01), *ROWS[101:]])
    assert after == fresh["tanks/level1#estimate"]


def test_it_waits_for_the_slowest_gateway_as_long_as_it_was_told(site):
    plan = catalogue("other", "plc")
    far = GatewayKey("acme", "shore", "gw-2")
    site.join(far, plan)
    define(site, inputs={"pump": Feed("shore", "other", "pump", "measured")})
    volts = [v for v, _ in ROWS]
    times = [START_NS + n * SECOND_NS for n in range(180)]
    site.send({"plc.pump": volts[:60]}, times[:60], far)
    site.send({"plc.level2": [h for _, h in ROWS[:80]]}, times[:80])
    settle(site)
    assert site.store.cloud_twin(KEY).tick_ns == times[59]
    site.send({"plc.level2": [h for _, h in ROWS[80:120]]}, times[80:120])
    settle(site)
    assert site.store.cloud_twin(KEY).tick_ns == times[119] - 30 * SECOND_NS
    # What then comes after all is late, and used.
    site.send({"plc.pump": volts[60:120]}, times[60:120], far)
    settle(site)
    edge, _ = on_the_edge(site, ROWS[:120])
    assert series(site, "tanks-cloud/level1#estimate") == edge["tanks/level1#estimate"]


def test_twins_compose_each_other_and_follow_their_revisions(site):
    define(site)
    upper = TwinKey("acme", "mill", "above")
    define(site, upper, outputs={"level2": Feed("mill", "tanks", "level2", "measured")},
           inputs={"pump": PUMP})  # fmt: skip
    site.run_plant(ROWS[:120])
    settle(site)
    composed = TwinKey("acme", "mill", "composed")
    feed = Feed("mill", "tanks-cloud", "level2", "estimate")
    define(site, composed, outputs={"level2": feed})
    here = [n for n in range(120, 180) if n != 150]
    times = {n: START_NS + n * SECOND_NS for n in range(120, 180)}
    site.send({"plc.pump": [ROWS[n][0] for n in here]}, [times[n] for n in here])
    site.send({"plc.level2": [ROWS[n][1] for n in here]}, [times[n] for n in here])
    settle(site)
    name = "composed/level2#estimate"
    assert max(series(site, name)) == times[179]
    before = series(site, name)
    site.send({"plc.level2": [ROWS[150][1] + 0.05]}, [times[150]])
    settle(site)
    after = series(site, name)
    assert min(t for t in after if after[t] != before[t]) == times[150]


def test_circles_and_units_that_do_not_fit_are_refused_by_name(site):
    define(site)
    site.run_plant(ROWS[:60])
    settle(site)
    second = TwinKey("acme", "mill", "second")
    define(site, second, outputs={"level2": Feed("mill", "tanks-cloud", "level2", "estimate")})
    site.run_plant(ROWS[60:120], first=60)
    settle(site)
    with pytest.raises(ConflictError, match="mill/tanks-cloud -> mill/second -> mill/tanks-cloud"):
        define(site, outputs={"level2": Feed("mill", "second", "level2", "estimate")})
    with pytest.raises(InputError, match="UNIT_CLASH"):
        define(site, inputs={"pump": LEVEL})
    with pytest.raises(ConflictError, match="has no input 'pomp'"):
        define(site, inputs={"pomp": PUMP})


def test_feed_that_is_gone_is_told_with_the_twin_and_the_log(site):
    twin = define(site)
    gone = Wiring({"pump": Feed("mill", "gone", "pump", "measured")}, twin.wiring.outputs)
    site.store.put_cloud_twin(replace(twin, wiring=gone), 1)
    site.run_plant(ROWS[:60])
    CloudTwins(site.store, site.clock, Stepper(site.store, tier=TIER)).run(site.clock.wall_ns())
    assert site.store.cloud_twin(KEY).reason == "UNKNOWN_TWIN"
    site.store.put_cloud_twin(twin, 1)
    settle(site)
    assert site.store.cloud_twin(KEY).reason == ""


def test_late_block_that_was_compacted_before_the_task_saw_it_revises(site):
    define(site)
    times = [START_NS + n * SECOND_NS for n in range(60) if n != 30]
    rows = [ROWS[n] for n in range(60) if n != 30]
    site.send({"plc.pump": [v for v, _ in rows], "plc.level2": [h for _, h in rows]}, times)
    settle(site)
    site.send({"plc.pump": [ROWS[30][0]], "plc.level2": [ROWS[30][1]]}, [START_NS + 30 * SECOND_NS])
    assert site.store.compact(START_NS + 10 * 3_600 * SECOND_NS) > 0
    settle(site)
    twin = site.store.cloud_twin(KEY)
    assert (twin.revised, twin.too_late) == (1, 0)
    edge, _ = on_the_edge(site, ROWS[:60])
    assert series(site, "tanks-cloud/level1#estimate") == edge["tanks/level1#estimate"]


def test_task_that_stood_still_while_all_was_compacted_goes_on(site):
    define(site)
    site.run_plant(ROWS[:60])
    assert site.store.compact(START_NS + 10 * 3_600 * SECOND_NS) > 0
    settle(site)
    assert site.store.cloud_twin(KEY).tick_ns == START_NS + 59 * SECOND_NS


def test_defect_in_one_twin_is_told_with_it_and_the_others_go_on(site):
    define(site)
    other = TwinKey("acme", "mill", "zz-other")
    define(site, other)
    site.run_plant(ROWS[:20])
    stepper = Stepper(site.store, tier=TIER)
    step = stepper.step

    def broken(twin, peers, now_ns):
        if twin.key == KEY:
            raise ZeroDivisionError("odd")
        return step(twin, peers, now_ns)

    stepper.step = broken
    CloudTwins(site.store, site.clock, stepper).run(site.clock.wall_ns())
    assert site.store.cloud_twin(KEY).reason == "INTERNAL"
    assert site.store.cloud_twin(other).tick_ns == START_NS + 19 * SECOND_NS


def test_an_estimate_of_the_cloud_whose_sigma_came_to_nothing_is_not_shown(site):
    package = load_package(site.store, "acme", site.store.model("acme", site.references["right"]).digest)
    member = Member("tanks-cloud", "", package, {})
    voice = open_voice(site.store, "acme", "mill", [member], site.clock.wall_ns())
    outputs = [port.name for port in package.outputs]

    def say(t_ns, sigma):
        one = np.full((1, len(outputs)), 1.0)
        flags = np.zeros(1, np.bool_)
        said = Strides(
            np.array([t_ns]), one, one * sigma, one, one, one, one, drifting=flags, settling=flags, in_regime=~flags
        )
        arrivals = arrivals_of(voice, batch_of("tanks-cloud", outputs, said, voice.catalogue))
        site.store.commit(voice.gateway, voice.session, arrivals, t_ns)
        voice.next_seq = arrivals[-1].item.last_seq + 1

    now_ns = site.clock.wall_ns()
    say(now_ns - 2 * SECOND_NS, np.nan)
    assert {p.name: p.estimated for p in site.store.twin(KEY).properties} == dict.fromkeys(outputs)
    say(now_ns - SECOND_NS, 0.5)
    assert {p.estimated.sigma for p in site.store.twin(KEY).properties} == {0.5}
