# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Request bodies: read before any lock, in memory while small, in a file when large, aws-chunked coding undone."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
from typing import Any

from . import objects
from .signature import STREAMING, STREAMING_SIGNED, ChunkSignatures
from .wire import AwsError, header

_BLOCK = 1 << 18
_IN_MEMORY = 1 << 20
#: Largest body of a call that is no upload. AWS has smaller limits; this one only keeps memory sane.
_MAX_CALL = 32 << 20


class Input:
    """The request's body as a stream of known or chunked length."""

    def __init__(self, environ: dict[str, Any]):
        self._file = environ["wsgi.input"]
        length = environ.get("CONTENT_LENGTH")
        chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
        self._left = None if chunked else int(length or 0)

    def read(self, size: int) -> bytes:
        if self._left is not None:
            size = min(size, self._left)
            if size == 0:
                return b""
        data = self._file.read(size)
        if self._left is not None:
            if not data:
                raise AwsError("IncompleteBody", "You did not provide the number of bytes specified by the "
                               "Content-Length HTTP header.")
            self._left -= len(data)
        return data


class Spool:
    """A whole body: its SHA-256, and its bytes in memory or in a temporary file."""

    def __init__(self, environ: dict[str, Any]):
        self.file = tempfile.SpooledTemporaryFile(_IN_MEMORY)
        digest = hashlib.sha256()
        source = Input(environ)
        self.size = 0
        while block := source.read(_BLOCK):
            self.size += len(block)
            digest.update(block)
            self.file.write(block)
        self.file.seek(0)
        self.sha256 = digest.hexdigest()

    def bytes(self) -> bytes:
        if self.size > _MAX_CALL:
            raise AwsError("RequestEntityTooLarge", "The request is too large.", 413)
        self.file.seek(0)
        return self.file.read()

    def close(self) -> None:
        self.file.close()


class _Chunks:
    """Undoes the aws-chunked coding ("Signature calculations … transferring payload in multiple chunks")."""

    def __init__(self, file: Any, signatures: ChunkSignatures | None):
        self._file = file
        self._signatures = signatures
        self.trailers: dict[str, str] = {}

    def __iter__(self) -> Any:
        while True:
            line = self._file.readline(1024)
            match = re.fullmatch(rb"([0-9a-fA-F]+)(?:;chunk-signature=([0-9a-f]{64}))?\r\n", line)
            if not match:
                raise AwsError("InvalidChunkSizeError", "The chunk is not coded as aws-chunked.")
            left, digest = int(match.group(1), 16), hashlib.sha256()
            last = left == 0
            while left:
                block = self._file.read(min(_BLOCK, left))
                if not block:
                    raise AwsError("IncompleteBody", "The request body terminated unexpectedly")
                left -= len(block)
                digest.update(block)
                yield block
            if self._signatures is not None:
                self._signatures.check((match.group(2) or b"").decode(), digest.hexdigest())
            if last:
                break
            if self._file.read(2) != b"\r\n":
                raise AwsError("InvalidChunkSizeError", "The chunk is not coded as aws-chunked.")
        while (line := self._file.readline(8192)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            self.trailers[name.strip().lower()] = value.strip()


_CHECKSUM = re.compile(r"x-amz-checksum-(crc32|crc32c|crc64nvme|sha1|sha256)")


def store_object(environ: dict[str, Any], spool: Spool, signatures: ChunkSignatures | None) -> objects.Content:
    """Put an upload's content into its own file, verified against the checksums that came with it."""
    declared = header(environ, "x-amz-content-sha256") or ""
    spool.file.seek(0)
    chunks = None
    if declared in STREAMING or "aws-chunked" in (header(environ, "content-encoding") or ""):
        chunks = _Chunks(spool.file, signatures if declared in STREAMING_SIGNED else None)
        blocks: Any = chunks
    else:
        blocks = iter(lambda: spool.file.read(_BLOCK), b"")
    names = {_CHECKSUM.fullmatch(k[5:].lower().replace("_", "-")) for k in environ if k.startswith("HTTP_X_AMZ_CHECKSUM")}
    algorithms = {m.group(1).upper() for m in names if m}
    match = _CHECKSUM.fullmatch((header(environ, "x-amz-trailer") or "").strip().lower())
    if match:
        algorithms.add(match.group(1).upper())
    asked = (header(environ, "x-amz-sdk-checksum-algorithm") or "").upper()
    if asked in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        algorithms.add(asked)
    checksums = [objects.Checksum(a) for a in algorithms]
    md5 = hashlib.md5(usedforsecurity=False)
    name, f = objects.store.create()
    try:
        size = 0
        with f:
            for block in blocks:
                f.write(block)
                md5.update(block)
                size += len(block)
                for checksum in checksums:
                    checksum.update(block)
            objects.sync(f)
        _verify(environ, chunks.trailers if chunks else {}, checksums, md5, size)
    except BaseException:
        objects.store.drop(name)
        raise
    found = {c.algorithm: base64.b64encode(c.digest()).decode() for c in checksums}
    content = objects.Content((objects.Segment(name, 0, size),), md5.hexdigest(), found)
    objects.store.keep(name)
    return content


def _verify(environ: dict[str, Any], trailers: dict[str, str], checksums: list[Any], md5: Any, size: int) -> None:
    decoded = header(environ, "x-amz-decoded-content-length")
    if decoded and int(decoded) != size:
        raise AwsError("IncompleteBody", "The content is not as long as x-amz-decoded-content-length says.")
    wanted = header(environ, "content-md5")
    if wanted and wanted != base64.b64encode(md5.digest()).decode():
        raise AwsError("BadDigest", "The Content-MD5 you specified did not match what we received.")
    for checksum in checksums:
        name = f"x-amz-checksum-{checksum.algorithm.lower()}"
        value = header(environ, name) or trailers.get(name)
        if value and value != base64.b64encode(checksum.digest()).decode():
            raise AwsError("BadDigest", f"The {checksum.algorithm} you specified did not match the calculated checksum.")
