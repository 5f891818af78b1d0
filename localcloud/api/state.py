# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
What survives a kill: snapshots of moto's backends and of our own tables.

Two files: ``control.state`` (all services but S3, and our tables) and ``s3.state`` (buckets and keys; the contents are
files, see objects.py). A call that changed something is answered only once a snapshot taken after it is on disk.
Calls that run side by side share one snapshot.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FunctionType
from typing import Any

import moto
import moto.backends
from cryptography.hazmat.primitives import serialization
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.common_models import BaseModel

from ..errors import LocalCloudError
from . import objects

log = logging.getLogger("localcloud.api")

_FORMAT = 1
_SERVICE_OF_S3 = "s3"


def install() -> None:
    """moto keeps every model instance in a list for CloudFormation's sake; a long-lived server must not."""
    BaseModel.__new__ = staticmethod(lambda cls, *a, **k: object.__new__(cls))  # type: ignore[assignment,method-assign]


def _backend(service: str, account: str, region: str) -> Any:
    return moto.backends.get_backend(service)[account][region]  # type: ignore[call-overload]


def _service_of(backend: BaseBackend) -> str:
    for backends in BackendDict._instances:
        for _account, _region, candidate in backends.iter_backends():
            if candidate is backend:
                return backends.service_name
    raise KeyError(backend)


def _dict_of_dicts() -> Any:
    return defaultdict(dict)


def _dict_of_dicts_maker() -> Any:
    return _dict_of_dicts


def _load_key(der: bytes) -> Any:
    """A key of KMS."""
    return serialization.load_der_private_key(der, None)


class _Pickler(pickle.Pickler):
    """Refers to backends of the other file by name; makes locks anew."""

    def __init__(self, file: Any, own: set[int]):
        super().__init__(file, protocol=5)
        self._own = own
        self.keys: list[Any] = []

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is _LOCK:
            return threading.Lock, ()
        if kind is _RLOCK:
            return threading.RLock, ()
        if isinstance(obj, BaseBackend) and id(obj) not in self._own:
            return _backend, (_service_of(obj), obj.account_id, obj.region_name)
        if kind.__module__.startswith("cryptography.") and hasattr(obj, "private_bytes"):
            return _load_key, (
                obj.private_bytes(
                    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ),
            )
        if kind is FunctionType and obj.__qualname__ == "SimpleSystemManagerBackend.__init__.<locals>.<lambda>":
            return _dict_of_dicts_maker, ()  # the lambda of its tags
        if kind.__name__ == "ParameterDict":  # of Systems Manager: its constructor isn't a defaultdict's
            return kind, (obj.account_id, obj.region_name), dict(obj.__dict__), None, iter(obj.items())
        if isinstance(obj, objects.Content):
            self.keys.append(obj)
        return NotImplemented


_LOCK = type(threading.Lock())
_RLOCK = type(threading.RLock())


class State:
    """The saved state of one cloud."""

    def __init__(self, folder: Path, lock: Any):
        self.folder = folder
        self.lock = lock  # the one around moto
        self.tables: dict[str, Any] = {}
        self._save_lock = threading.Lock()
        self._changed = {"control": 0, "s3": 0}
        self._saved = {"control": 0, "s3": 0}
        self._referenced: set[str] = set()
        self.last_seconds = 0.0

    # -- reading ---------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Bring moto's backends back; nothing there means a new cloud."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        objects.store.open(self.folder / "objects")
        for which in ("control", "s3"):
            path = self.folder / f"{which}.state"
            if path.exists():
                self._load(path, which)
        # Contents that the state refers to are alive now; any other file was left by a kill.
        self._referenced = objects.live_names()
        objects.store.sweep(set())

    def _load(self, path: Path, which: str) -> None:
        with open(path, "rb") as f:
            try:
                head = json.loads(f.readline())
            except ValueError:
                head = {}
            if head.get("format") != _FORMAT or head.get("moto") != moto.__version__:
                raise LocalCloudError(
                    f"The saved state in {self.folder} was written by moto {head.get('moto', 'of an unknown version')}, "
                    f"and this is moto {moto.__version__}. Install that version, or start over with: "
                    "python -m localcloud reset"
                )
            try:
                data = pickle.load(f)
            except Exception as e:
                raise LocalCloudError(
                    f"The saved state in {path} can't be read ({e}). Start over with: python -m localcloud reset"
                ) from e
        for (service, account, region), backend in data["backends"].items():
            dict.__setitem__(moto.backends.get_backend(service)[account], region, backend)
        if which == "control":
            self.tables.clear()
            self.tables.update(data["tables"])

    # -- writing ---------------------------------------------------------------------------------------------------

    def mark(self, which: str) -> None:
        """Something changed. Call it under the lock."""
        self._changed[which] += 1

    def commit(self) -> None:
        """Return once all that was marked before is on disk. Call it without the lock."""
        wanted = dict(self._changed)
        for which in ("control", "s3"):
            if self._saved[which] >= wanted[which]:
                continue
            with self._save_lock:
                if self._saved[which] < wanted[which]:
                    self._save(which)

    def _save(self, which: str) -> None:
        began = time.monotonic()
        with self.lock:
            generation = self._changed[which]
            try:
                payload, contents = self._dump(which)
            except (TypeError, AttributeError, pickle.PicklingError):
                # The call took effect; failing it now would only make its client repeat it.
                log.exception("the state of %s can't be saved", which)
                self._saved[which] = generation
                return
        self._write(which, payload)
        self._saved[which] = generation
        if which == "s3":
            names = {s.name for c in contents for s in c.segments}
            objects.store.release(self._referenced - names)
            self._referenced = names
        self.last_seconds = time.monotonic() - began

    def _dump(self, which: str) -> tuple[bytes, list[Any]]:
        backends = {}
        for service in list(BackendDict._instances):
            if (service.service_name == _SERVICE_OF_S3) == (which == "s3"):
                for account, region, backend in service.iter_backends():
                    backends[(service.service_name, account, region)] = backend
        out = io.BytesIO()
        out.write(json.dumps({"format": _FORMAT, "moto": moto.__version__}).encode() + b"\n")
        pickler = _Pickler(out, {id(b) for b in backends.values()})
        pickler.dump({"backends": backends, "tables": self.tables if which == "control" else None})
        return out.getvalue(), pickler.keys

    def _write(self, which: str, payload: bytes) -> None:
        path = self.folder / f"{which}.state"
        tmp = self.folder / f".{which}.new"
        with open(os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
            f.write(payload)
            objects.sync(f)
        os.replace(tmp, path)
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
