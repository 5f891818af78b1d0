# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Contents of S3 objects: files under the state folder, never in moto's memory.

An upload is spooled to a file before moto sees the request; moto gets a ``Content``, a bytes object that is empty but
knows its size and its files. Copying an object or completing a multipart upload only collects references, so memory
and time stay flat for any size. A file that no key refers to any more is removed after the next snapshot.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import os
import threading
import uuid
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import moto.s3.exceptions as s3_exceptions
import moto.s3.models as s3_models
import moto.s3.responses as s3_responses

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Segment:
    """A stretch of a file."""

    name: str
    offset: int
    length: int


class _Holder:
    """Lives as long as its content does."""

    def __init__(self, names: frozenset[str]):
        self.names = names


class Content(bytes):
    """The content of an object, as references to files. Only its length and its slices are real."""

    segments: tuple[Segment, ...]
    md5: str | None
    checksums: dict[str, str]  # algorithm -> base64, of the whole content, where it was computed

    def __new__(
        cls, segments: tuple[Segment, ...], md5: str | None = None, checksums: dict[str, str] | None = None
    ) -> Content:
        self = super().__new__(cls, b"")
        self.segments = segments
        self.md5 = md5
        self.checksums = checksums or {}
        # A bytes object can't be referred to weakly, so a holder stands for it.
        self.holder = _Holder(frozenset(s.name for s in segments))
        with _live_lock:
            _live.add(self.holder)
        return self

    def __len__(self) -> int:
        return sum(s.length for s in self.segments)

    def __bool__(self) -> bool:
        return True  # so that ``body or b""`` keeps it

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __getitem__(self, index: Any) -> Content:
        start, stop, step = index.indices(len(self))
        assert step == 1
        out, position = [], 0
        for s in self.segments:
            first, last = max(start, position), min(stop, position + s.length)
            if first < last:
                out.append(Segment(s.name, s.offset + first - position, last - first))
            position += s.length
        return Content(tuple(out))

    def __copy__(self) -> Content:
        return self

    def __deepcopy__(self, memo: Any) -> Content:
        return self

    def __reduce__(self) -> Any:
        return (Content, (self.segments, self.md5, self.checksums))

    def decode(self, *args: Any, **kwargs: Any) -> str:
        return b"".join(self.blocks()).decode(*args, **kwargs)

    def blocks(self) -> Iterator[bytes]:
        with Reader(self) as reader:
            yield from reader


class Reader:
    """Reads a content. It opens all files at once, so a key that is deleted meanwhile is still read to its end."""

    def __init__(self, content: Content, start: int = 0, stop: int | None = None):
        part = content if start == 0 and stop is None else content[start:stop]
        self.size = len(part)
        self._files = []
        try:
            for s in part.segments:
                f = open(store.path(s.name), "rb")
                self._files.append((f, s))
        except OSError:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        try:
            for f, s in self._files:
                f.seek(s.offset)
                left = s.length
                while left:
                    block = f.read(min(_BLOCK, left))
                    if not block:
                        raise OSError(f"object file {s.name} is shorter than its key says")
                    left -= len(block)
                    yield block
        finally:
            self.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for f, _ in self._files:
            f.close()


#: Stand for the contents that a request or a key holds now. A file of one of them is never removed.
_live: weakref.WeakSet[_Holder] = weakref.WeakSet()
_live_lock = threading.Lock()


def live_names() -> set[str]:
    with _live_lock:
        return {name for holder in list(_live) for name in holder.names}


class Store:
    """The folder of object files. ``open`` names it; one process has one."""

    def __init__(self) -> None:
        self.folder = Path("/nonexistent")
        self._lock = threading.Lock()
        self._writing: set[str] = set()

    def open(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    def path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def create(self) -> tuple[str, Any]:
        """A new file: its name and the file opened for writing. Call ``keep`` or ``drop`` with the name."""
        name = uuid.uuid4().hex
        with self._lock:
            self._writing.add(name)
        path = self.path(name)
        path.parent.mkdir(exist_ok=True)
        return name, open(path, "w+b")

    def keep(self, name: str) -> None:
        """The name is in a Content now."""
        with self._lock:
            self._writing.discard(name)

    def drop(self, name: str) -> None:
        with self._lock:
            self._writing.discard(name)
        self.path(name).unlink(missing_ok=True)

    def release(self, names: set[str]) -> None:
        """Remove files that the saved state has ceased to refer to, but for those in use."""
        for name in names - live_names() if names else ():
            self.path(name).unlink(missing_ok=True)

    def sweep(self, referenced: set[str]) -> None:
        """
        Remove what no one refers to: left by a kill or by a refused upload.

        The order matters: a file goes from being written to being in a content, so we look in that order, and only
        at files that were there before we looked.
        """
        files = [path for folder in self.folder.iterdir() for path in folder.iterdir()]
        with self._lock:
            writing = set(self._writing)
        kept = writing | live_names() | referenced
        for path in files:
            if path.name not in kept:
                path.unlink(missing_ok=True)


store = Store()


class Checksum:
    """One of S3's checksum algorithms, fed block by block."""

    def __init__(self, algorithm: str):
        self.algorithm = algorithm
        self._crc = 0
        self._hash: Any = None
        if algorithm in ("SHA1", "SHA256"):
            self._hash = hashlib.new(algorithm.lower(), usedforsecurity=False)

    def update(self, block: bytes) -> None:
        if self._hash is not None:
            self._hash.update(block)
        elif self.algorithm == "CRC32":
            self._crc = binascii.crc32(block, self._crc)
        else:
            self._crc = _crc_table_update(self.algorithm, block, self._crc)

    def digest(self) -> bytes:
        if self._hash is not None:
            return self._hash.digest()
        return self._crc.to_bytes(8 if self.algorithm == "CRC64NVME" else 4, "big")


#: Reflected polynomial, width.
_POLYNOMIALS = {"CRC32C": (0x82F63B78, 0xFFFFFFFF), "CRC64NVME": (0x9A6C9329AC4BC9B5, 0xFFFFFFFFFFFFFFFF)}
_tables: dict[str, list[int]] = {}


def _crc_table_update(algorithm: str, block: bytes, crc: int) -> int:
    """Pure Python, a few MB/s: only clients that ask for these algorithms pay for it."""
    polynomial, mask = _POLYNOMIALS[algorithm]
    table = _tables.get(algorithm)
    if table is None:
        table = []
        for i in range(256):
            c = i
            for _ in range(8):
                c = (c >> 1) ^ polynomial if c & 1 else c >> 1
            table.append(c)
        _tables[algorithm] = table
    crc ^= mask
    for byte in block:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ mask


def compute_checksum(body: bytes, algorithm: str, encode_base64: bool = True) -> bytes:
    """moto's function, for contents as well."""
    algorithm = (algorithm or "SHA256").upper()
    if isinstance(body, Content) and algorithm in body.checksums:
        digest = base64.b64decode(body.checksums[algorithm])
    else:
        checksum = Checksum(algorithm)
        for block in body.blocks() if isinstance(body, Content) else (body,):
            checksum.update(block)
        digest = checksum.digest()
    return base64.b64encode(digest) if encode_base64 else digest


def _small(value: bytes) -> Content:
    """A content made of bytes that moto itself made."""
    name, f = store.create()
    with f:
        f.write(value)
    content = Content((Segment(name, 0, len(value)),), hashlib.md5(value, usedforsecurity=False).hexdigest())
    store.keep(name)
    return content


def _get_value(self: Any) -> bytes:
    return self.content


def _set_value(self: Any, value: Any) -> None:
    if isinstance(value, str):
        value = value.encode()
    self.content = value if isinstance(value, Content) else _small(value or b"")
    self.contentsize = len(self.content)
    if self.content.md5 and not self._etag:
        self._etag = self.content.md5


def _etag(self: Any) -> str:
    if self._etag is None:
        md5 = hashlib.md5(usedforsecurity=False)
        for block in self.content.blocks():
            md5.update(block)
        self._etag = self.content.md5 = md5.hexdigest()
    return f'"{self._etag}"'


def _key_getstate(self: Any) -> dict[str, Any]:
    state = self.__dict__.copy()
    state.pop("_value_buffer", None)
    state.pop("lock", None)
    return state


def _key_setstate(self: Any, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    self.lock = threading.Lock()


class _NoBuffer:
    """In place of moto's temporary file."""

    def close(self) -> None: ...


def _complete(self: Any, body: Any) -> tuple[Any, str, Any]:
    """CompleteMultipartUpload in moto's words, with references instead of bytes."""
    algorithm = self.metadata.get("x-amz-checksum-algorithm")
    kind = self.metadata.get("x-amz-checksum-type")
    parts, md5s, digests = [], b"", b""
    for number, etag in body:
        part = self.parts.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise s3_models.InvalidPart()
        if parts and parts[-1].contentsize < s3_models.S3_UPLOAD_PART_MIN_SIZE:
            raise s3_models.EntityTooSmall()
        md5s += binascii.unhexlify(part.etag.strip('"'))
        parts.append(part)
    if not parts:
        raise s3_models.MalformedXML
    content = Content(tuple(s for part in parts for s in part.content.segments))
    etag = hashlib.md5(md5s, usedforsecurity=False).hexdigest() + f"-{len(parts)}"
    details = None
    if algorithm:
        kind = kind or ("FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE")
        if kind == "COMPOSITE":
            for part in parts:
                digests += compute_checksum(part.content, algorithm, encode_base64=False)
            details = (kind, compute_checksum(digests, algorithm).decode(), len(parts))
        else:
            details = (kind, compute_checksum(content, algorithm).decode(), 1)
    # The parts' keys are not needed any more; the content refers to their files.
    self.parts, self.partlist = {}, []
    return content, etag, details


def _complete_upload(complete: Any) -> Any:
    """With S3's answer where there is no such upload; moto's is 500."""

    @functools.wraps(complete)
    def wrapper(self: Any, bucket_name: str, multipart_id: str, body: Any) -> Any:
        if multipart_id not in self.get_bucket(bucket_name).multiparts:
            raise s3_exceptions.NoSuchUpload(upload_id=multipart_id)
        return complete(self, bucket_name, multipart_id, body)

    return wrapper


def _name_upload(init: Any) -> Any:
    """With what XML can say of its name. An answer that can't be read says nothing but its status."""

    @functools.wraps(init)
    def wrapper(self: Any, upload_id: Any) -> None:
        init(self, "".join(sign for sign in str(upload_id) if sign.isprintable()))

    return wrapper


def _parts_of(read: Any) -> Any:
    """With S3's answer where the list of parts can't be read; moto's is 500."""

    @functools.wraps(read)
    def wrapper(self: Any, body: bytes) -> Iterator[tuple[int, str]]:
        try:
            yield from read(self, body)
        except (AttributeError, IndexError, ValueError, ExpatError) as error:
            raise s3_exceptions.MalformedXML() from error

    return wrapper


def install() -> None:
    """Put files in place of moto's buffers."""
    key = s3_models.FakeKey
    key.value = property(_get_value, _set_value)
    key.etag = property(_etag)
    key.__getstate__ = _key_getstate
    key.__setstate__ = _key_setstate
    key.dispose = lambda self, garbage=False: None
    if hasattr(key, "__del__"):
        del key.__del__
    s3_models.tempfile = type("NoTempfile", (), {"SpooledTemporaryFile": staticmethod(lambda *a, **k: _NoBuffer())})
    s3_models.FakeMultipart.complete = _complete
    backend, responses = s3_models.S3Backend, s3_responses.S3Response
    s3_exceptions.NoSuchUpload.__init__ = _name_upload(s3_exceptions.NoSuchUpload.__init__)
    backend.complete_multipart_upload = _complete_upload(backend.complete_multipart_upload)
    responses._complete_multipart_body = _parts_of(responses._complete_multipart_body)
    s3_models.compute_checksum = compute_checksum
    s3_responses.compute_checksum = compute_checksum


def sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
