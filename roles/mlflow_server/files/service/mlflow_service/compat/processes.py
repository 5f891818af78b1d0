# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""uvicorn's processes: workers that are forks, and that end without losing a request."""

import asyncio
import logging
import multiprocessing
import os
import time

from mlflow_service.compat.ground import Patch

FORKING = Patch(
    "forks",
    "the workers are forks of one process that has imported MLflow",
    uses=("uvicorn._subprocess:spawn.Process",),
    replaces=("uvicorn._subprocess:get_subprocess",),
)
DRAINING = Patch(
    "draining",
    "a worker that ends answers what it was asked before, and takes nothing new",
    without="a restart may cut requests off",
    replaces=("uvicorn.server:Server.shutdown",),
)

_logger = logging.getLogger("uvicorn.error")


def fork_workers():
    import uvicorn._subprocess

    uvicorn._subprocess.spawn = multiprocessing.get_context("fork")


class Draining:
    """Ends a worker without losing a request.

    uvicorn closes the idle connections at once when it is told to stop, and what nginx is just sending on one of them
    is lost: nginx does not send a POST twice. Here the worker stops to accept (systemd holds the socket, so whoever
    connects is served by another worker, or waits for it), answers what comes on the connections that are open with
    `Connection: close`, and leaves it to the clients to close those that are idle.
    """

    def __init__(self, stores=()):
        from uvicorn.server import Server

        self._stores = stores
        self._seconds = float(os.environ.get("MLFLOW_SERVER_DRAIN_SECONDS", "300"))
        original = Server.shutdown

        async def shutdown(server, sockets=None):
            await self._drain(server)
            await original(server, sockets=sockets)

        Server.shutdown = shutdown

    async def _drain(self, server):
        for listener in server.servers:
            listener.close()
        # The processes that come need these connections; who still works opens one when he has to.
        for store in self._stores:
            store.engine.dispose()
            if getattr(store, "read_engine", None) is not None:
                store.read_engine.dispose()
        state = server.server_state
        # Nobody sets them anew any more; uvicorn does while it serves.
        state.default_headers = [*state.default_headers, (b"connection", b"close")]
        # What was accepted in this instant is not among the connections yet.
        await asyncio.sleep(0.2)
        deadline = time.monotonic() + self._seconds
        while (state.connections or state.tasks) and not server.force_exit and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        if state.connections:
            _logger.warning("%d connections were still open after %.0f s", len(state.connections), self._seconds)
