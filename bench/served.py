"""A coordinator's gRPC side in a process of its own, for benches: `python -m bench.served STATE GATEWAYS`.

It makes the state, an authority and as many active gateways, each at a site of its own; writes `fleet.json` with the
port and `identity/` for certificates; and serves until its input ends. A line on its input is answered by one line of
JSON with what the process uses.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path

from twincloud.downlink.mailbox import Mailbox
from twincloud.identity.ca import LOOPBACK_NAMES, Authority
from twincloud.ingest.servicer import SyncServicer, serve
from twincloud.storage import create, open_store
from twincloud.storage.contract import GatewayKey
from twinmodel.clock import SECOND_NS, SystemClock
from twinmodel.logs import configure_logs
from twinsync.channel import Credentials

FACTS = "fleet.json"


def key_of(number: int) -> GatewayKey:
    """The gateway of a number."""
    return GatewayKey("bench", f"site-{number}", "gw")


async def main() -> None:
    """Serves until the input ends."""
    configure_logs(level="warning")
    state, count = Path(sys.argv[1]), int(sys.argv[2])
    clock = SystemClock()
    create(state)
    authority = Authority.create(state, clock)
    store = open_store(state, clock=clock)
    now_ns = clock.wall_ns()
    store.create_tenant("bench", now_ns)
    for number in range(count):
        token = hashlib.sha256(f"{number}".encode()).digest()
        store.create_invite(key_of(number), token, now_ns, now_ns + 3600 * SECOND_NS)
        store.redeem_invite(token, now_ns)
    chain, key = authority.server_pair(LOOPBACK_NAMES)
    credentials = Credentials(authority.root_pem, chain.read_bytes(), key.read_bytes())
    servicer = SyncServicer(
        store,
        Mailbox(store, clock),
        clock=clock,
        on_commit=lambda _key, _commit: None,
        is_revoked=lambda _serial: False,
    )
    async with serve(servicer, "127.0.0.1:0", credentials) as port:
        (state / FACTS).write_text(json.dumps({"port": port}))
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            facts = {"streams": len(servicer.connected), "rss_mb": resident_mb(), "cpu_s": time.process_time()}
            print(json.dumps(facts), flush=True)
    store.close()


def resident_mb(process: int | str = "self") -> float:
    """Resident memory of a process, MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    asyncio.run(main())
