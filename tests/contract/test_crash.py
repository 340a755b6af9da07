"""Killed in the midst of commits, read in the midst of commits: what was acknowledged is there, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

from tests.contract.plant import KEY, NOW, TWIN, Edge, stored
from twinmodel.clock import SECOND_NS

ROOT = Path(__file__).resolve().parents[2]
KILL_AFTER = (3, 20)
ITEMS = 200

# Sends a stream of ticks and prints the mark after each acknowledgement, until it is killed.
CHILD = """
import sys
from pathlib import Path
from tests.contract.plant import NOW, Edge
from twincloud.storage import open_store
from twinmodel.clock import SECOND_NS, SystemClock

store = open_store(Path(sys.argv[1]), clock=SystemClock(), database=sys.argv[3])
edge = Edge(1)
opened = edge.connect(store)
done = opened.marks[0].next_seq // 24 if opened.marks else 0
items = [edge.tick(NOW + n * SECOND_NS, float(n)) for n in range(int(sys.argv[2]))]
for n in range(max(0, done - 2), len(items), 2):
    print(edge.send(store, items[n : n + 2]).marks[0].next_seq, flush=True)
"""


def run_and_kill(folder: Path, url: str, lines: int) -> int:
    """Lets the child acknowledge some commits, kills it, returns the last mark it printed."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(ITEMS), url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    marks = [int(child.stdout.readline()) for _ in range(lines)]
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().split()
    child.stdout.close()
    child.wait()
    return int(rest[-1]) if rest else marks[-1]


def test_kill_in_the_midst_of_commits_loses_nothing_acknowledged_and_doubles_nothing(place, store):
    store.close()
    for lines in KILL_AFTER:
        acknowledged = run_and_kill(place.folder, place.url, lines)
        again = place.open()
        edge = Edge(1)
        committed = edge.connect(again).marks[0].next_seq
        assert committed >= acknowledged
        found = Counter((name, t) for name, t, _ in stored(again))
        assert set(found.values()) == {1}
        assert len(found) == committed == again.gateway(KEY).samples
        assert again.check() == ()
        newest = again.twin(TWIN).properties[0].reported
        assert newest is None or newest.t_event_ns <= NOW + (committed // 24) * SECOND_NS
        again.close()


def test_readers_see_whole_commits_while_a_writer_commits(store):
    edge = Edge()
    edge.connect(store)
    items = [edge.tick(NOW + n * 1_000_000, float(n)) for n in range(120)]
    ended, faults, looks = threading.Event(), [], Counter()

    def read(name: str) -> None:
        last = -1.0
        while not ended.is_set():
            twin = store.twin(TWIN)
            values = {p.name: p.reported.value for p in twin.properties if p.reported}
            if len(set(values.values())) > 1:
                faults.append(values)
            newest = values.get("flow", -1.0)
            if newest < last:
                faults.append((newest, last))
            last = newest
            history = store.history(TWIN, "flow", ["measured", "estimate"], NOW, NOW + SECOND_NS, 1_000)
            if len(history["measured"].t_ns) != len(history["estimate"].t_ns):
                faults.append(history)
            looks[name] += 1

    readers = [threading.Thread(target=read, args=(f"reader {n}",)) for n in range(3)]
    for reader in readers:
        reader.start()
    for n in range(0, len(items), 2):
        edge.send(store, items[n : n + 2])
    ended.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert len(looks) == 3
    assert len(stored(store)) == 120 * 24


def test_writers_of_many_threads_are_serialised_and_each_sample_is_kept_once(store):
    edge = Edge()
    edge.connect(store)
    items = [edge.tick(NOW + n * 1_000_000) for n in range(30)]
    failures = []

    def send() -> None:
        try:
            for item in items:
                edge.send(store, [item])
        except Exception as error:  # noqa: BLE001 a thread's failure must reach the test
            failures.append(error)

    writers = [threading.Thread(target=send) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert set(Counter((name, t) for name, t, _ in stored(store)).values()) == {1}
    assert store.gateway(KEY).samples == 30 * 24
    assert edge.connect(store).marks[0].next_seq == 30 * 24
