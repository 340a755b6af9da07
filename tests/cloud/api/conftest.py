"""A plant with two tenants for the API tests."""

from __future__ import annotations

import pytest

from tests.cloud.api.tenants import OF_ALL, Watch
from tests.cloud.plant import Plant


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """The plant; whatever a test asks it over REST must name its tenant to the database."""
    plant = Plant(tmp_path / "state")
    watch = Watch(plant.store._database, monkeypatch)
    yield plant
    plant.close()
    assert watch.found <= OF_ALL.keys(), "REST reads all tenants: name the tenant, or say in OF_ALL why not"


@pytest.fixture
async def api(plant):
    """Function: (role, tenant) -> client with a token of it; without a role no token. All share one app."""
    app = plant.app()
    clients = []

    def client(role: str = "", tenant: str = "acme"):
        import httpx

        token = plant.token(role, tenant) if role else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://twins", headers=headers))
        return clients[-1]

    client.app = app
    yield client
    for one in clients:
        await one.aclose()
    app.state.threads.close()
