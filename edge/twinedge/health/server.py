"""Local HTTP: `/` for people, `/status` for programs, `/metrics` for Prometheus, `/healthz` for supervisors.

Read-only, loopback unless site.yaml says otherwise, and without anything secret: whoever reaches the port may read it.
"""

from __future__ import annotations

import errno
import html
import json
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from twinedge.health.notes import notes_of
from twinedge.health.status import Status, registry
from twinmodel.errors import ConflictError

REQUEST_TIMEOUT_S = 5
REQUESTS_MAX = 8
PORT_FILE = "status.port"
LIVE = "/?live="
"""The local page that comes anew by itself."""


class StatusServer:
    """Serves the newest status document from a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        """Binds the port; raises PORT_IN_USE."""
        self._status: Status | None = None
        self._registry = registry(lambda: self._status)
        try:
            self._http = _BoundedServer((host, port), _handler(lambda: self._status, self._metrics))
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            raise ConflictError(
                "PORT_IN_USE", f"status port {host}:{port} cannot be used: {error.strerror}", host=host, port=port
            ) from error
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.5,), name="status", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for."""
        return int(self._http.server_address[1])

    def publish(self, status: Status) -> None:
        """Replaces the document that is served."""
        self._status = status

    def close(self) -> None:
        """Frees the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _metrics(self) -> bytes:
        return generate_latest(self._registry)


class _BoundedServer(ThreadingHTTPServer):
    """Whoever reaches the port must not take the threads the agent itself needs: what is too much is hung up on."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._places = threading.BoundedSemaphore(REQUESTS_MAX)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()


def _handler(newest: Callable[[], Status | None], metrics: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S
        server_version = "twinedge"
        sys_version = ""

        def do_GET(self) -> None:
            status = newest()
            if status is None:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"starting\n")
            elif self.path == "/status":
                self._answer(HTTPStatus.OK, "application/json", json.dumps(status).encode())
            elif self.path == "/metrics":
                self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, metrics())
            elif self.path == "/healthz":
                degraded = status["degraded"]
                code = HTTPStatus.SERVICE_UNAVAILABLE if degraded else HTTPStatus.OK
                self._answer(code, "text/plain", ("; ".join(degraded) or "ok").encode() + b"\n")
            elif self.path in ("/", LIVE):
                text = page(status, live=self.path == LIVE)
                self._answer(HTTPStatus.OK, "text/html; charset=utf-8", text.encode())
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"try /, /status, /metrics or /healthz\n")

        def _answer(self, code: HTTPStatus, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Requests of the local page are no news."""

    return Handler


def drift_of(twin: Mapping[str, Any]) -> str:
    """Whether a twin drifts, and who is to blame."""
    return f"DRIFTING {twin['isolation']}" if twin["drifting"] else "ok"


def page(status: Status, *, live: bool = False) -> str:
    """The local page: what a person on site wants to know, without a script.

    It comes anew by itself only where that was asked for: a page that changes under one's eyes cannot be read by all.
    """
    rows = "".join(
        f"<tr><td>{html.escape(d['device'])}<td>{'connected' if d['connected'] else 'AWAY'}<td>{d['samples']}"
        f"<td>{html.escape(d['last_error'])}"
        for d in status["devices"]
    )
    twins = "".join(
        f"<tr><td>{html.escape(t['twin'])}<td>{html.escape(t['model'] or 'no model')}<td>{t['steps']}"
        f"<td title='{html.escape(t['evidence'])}'>{html.escape(drift_of(t))}"
        for t in status["twins"]
    )
    notes = "".join(
        f"<tr><{'th' if name else 'td'}>{html.escape(name)}<td>{html.escape(text)}" for name, text in notes_of(status)
    )
    anew = "<meta http-equiv=refresh content=2>" if live else ""
    other = "<button>hold still</button>" if live else "<button name=live>update every 2 s</button>"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8>{anew}"
        "<meta name=viewport content='width=device-width'><meta name=color-scheme content='light dark'>"
        f"<title>{html.escape(status['gateway'])}</title><main><h1>{html.escape(status['gateway'])}</h1>"
        f"<p>{html.escape('; '.join(status['degraded']) or 'healthy')}</p>"
        f"<form action='/'>{other}</form><table>{notes}</table>"
        f"<table><caption>Devices</caption><tr><th>device<th>state<th>samples<th>last error{rows}</table>"
        f"<table><caption>Twins</caption><tr><th>twin<th>model<th>ticks<th>drift{twins}</table></main></html>"
    )
