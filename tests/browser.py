# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A headless Chromium, told what to do by the DevTools protocol."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path


class Browser:
    """Chromium with an empty profile, on two pipes. Who wants to know what happens in it overrides `event`."""

    def __init__(self, folder: Path, *flags: str, environ: dict[str, str] | None = None):
        profile = tempfile.mkdtemp(dir=folder)
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                 f"--user-data-dir={profile}", *flags)  # fmt: skip
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell"))), None)
        if not program:
            raise SystemExit("there is no Chromium")
        theirs_in, self.out = os.pipe()
        self.input, theirs_out = os.pipe()
        # Chromium reads descriptor 3 and writes descriptor 4.
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "sh", program, *flags, "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env=environ,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self.number, self.buffer, self.session = 0, b"", ""

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        os.close(self.out)
        os.close(self.input)

    def open(self) -> None:
        """A new page, which later calls are for."""
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Network.enable")
        self.call("Page.enable")

    def send(self, method: str, **parameters) -> int:
        """Ask for something without waiting for the answer."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        return self.number

    def call(self, method: str, **parameters) -> dict:
        number = self.send(method, **parameters)
        while True:
            answer = self.read(60)
            if answer is None:
                raise SystemExit(f"Chromium did not answer {method}")
            if answer.get("id") == number:
                if "error" in answer:
                    raise SystemExit(f"Chromium refused {method}: {answer['error']}")
                return answer["result"]

    def read(self, seconds: float) -> dict | None:
        """The next message; nothing if none comes for so long."""
        deadline = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.input], [], [], left)[0]:
                return None
            data = os.read(self.input, 1 << 20)
            if not data:
                raise SystemExit("Chromium has ended")
            self.buffer += data
        text, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.event(message["method"], message.get("params", {}))
        return message

    def event(self, method: str, about: dict) -> None:
        """What Chromium tells by itself."""

    def evaluate(self, expression: str):
        """The value of an expression on the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"the page could not do {expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def text(self) -> str:
        """What a person reads on the page."""
        return self.evaluate("document.body ? document.body.innerText : ''") or ""

    def wait_for(self, words: str, seconds: float = 120) -> None:
        """Wait until the page shows these words."""
        begin = time.monotonic()
        while words not in self.text():
            if time.monotonic() - begin > seconds:
                raise SystemExit(f"{words!r} is not on the page after {seconds} s; there is: {self.text()[:1000]}")
            self.read(0.02)
