# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What each patch stands on, and whether that is still there in the MLflow that is installed.

A patch names what it uses, and whose work it does in its own way. Of the latter the source has to be one that somebody has
read: known.json has a fingerprint of each, by the versions of MLflow that have it. Where the ground has moved

- a shortcut is left out, and MLflow's own way is taken: slower, and different only in what the patch says;
- a guard, which keeps somebody from something that MLflow allows, is not: the version is refused;
- neither is what the service can't start without.
"""

import hashlib
import importlib
import inspect
import json
import os
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = Path(__file__).with_name("known.json")
# The names of shortcuts that are to be left out, or "all".
LEFT_OUT = "MLFLOW_SERVER_LEFT_OUT"
SHORTCUT, GUARD, NEEDED = "shortcut", "guard", "needed"


class Moved(Exception):
    """What is another than it was, in one sentence without its full stop."""


@dataclass(frozen=True)
class Patch:
    """
    :ivar name: By which it is left out and told.
    :ivar says: What it goes round or does, in a few words.
    :ivar kind: SHORTCUT, GUARD or NEEDED.
    :ivar uses: What has to be there, each as MODULE:NAME or MODULE:CLASS.NAME.
    :ivar replaces: Whose work it does: has to be there, with a source that is known.
    :ivar values: Constants that have to have a value, by their name.
    :ivar looks: Functions that look further and raise Moved.
    :ivar auth: Whether it is there for deployments with logins alone.
    :ivar needs: Patches that it builds on, by their names; they come before it.
    :ivar without: What is different where it is left out, besides how long something takes.
    :ivar optional: Whether it is left out for whoever asks for that.
    """

    name: str
    says: str
    kind: str = SHORTCUT
    uses: tuple = ()
    replaces: tuple = ()
    values: dict = field(default_factory=dict)
    looks: tuple = ()
    auth: bool = False
    needs: tuple = ()
    without: str = ""
    optional: bool = True


def find(name):
    """
    What has this name.

    :raises Moved: where there is nothing of it.
    """
    module, _, path = name.partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = inspect.getattr_static(found, part)
    except (ImportError, AttributeError):
        raise Moved(f"{name.replace(':', '.')} is not there") from None
    return found


def fingerprint(name):
    """Of the source of a function, whatever is wrapped round it."""
    found = inspect.unwrap(getattr(found := find(name), "__func__", found))
    try:
        source = inspect.getsource(found)
    except (OSError, TypeError):
        raise Moved(f"{name.replace(':', '.')} has no source") from None
    return hashlib.sha256(textwrap.dedent(source).encode()).hexdigest()[:16]


def known():
    """The fingerprints, each with the versions of MLflow that have it, by name."""
    return json.loads(KNOWN.read_text(encoding="utf-8"))


def moved(patch, fingerprints):
    """What of a patch's ground is another than it was; nothing where all of it is what somebody has read."""
    try:
        for name in patch.uses:
            find(name)
        for name, value in patch.values.items():
            if find(name) != value:
                raise Moved(f"{name.replace(':', '.')} is {find(name)!r} and not {value!r}")
        for name in patch.replaces:
            if fingerprint(name) not in fingerprints.get(name, ()):
                raise Moved(f"{name.replace(':', '.')} is another than those that are known")
        for look in patch.looks:
            look()
    except Moved as why:
        return str(why)
    except Exception as error:
        # Whatever another version raises where it is looked at.
        return f"to look at it fails: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def with_logins():
    return bool(os.environ.get("MLFLOW_AUTH_CONFIG_PATH"))


class Ground:
    """What became of each patch."""

    def __init__(self, patches, left_out=(), auth=True):
        fingerprints = known()
        self.found, self._used = [], set()
        for patch in patches:
            if patch.auth and not auth:
                continue
            why = moved(patch, fingerprints)
            asked = patch.kind == SHORTCUT and patch.optional and (patch.name in left_out or "all" in left_out)
            missing = [name for name in patch.needs if name not in self._used]
            used = not (why or asked or missing)
            self._used |= {patch.name} if used else set()
            self.found.append(
                {
                    "name": patch.name,
                    "kind": patch.kind,
                    "what": patch.says,
                    "without": patch.without,
                    "replaces": [*patch.replaces, *patch.uses],
                    "ground": "moved" if why else "known",
                    "used": used,
                    "why": why or ("it was asked for" if asked else f"it builds on {missing[0]}" if missing else ""),
                }
            )

    def has(self, patch):
        """Whether a patch is used."""
        return patch.name in self._used

    @property
    def left_out(self):
        """One sentence for each that is left out."""
        return [
            f"{found['name']}: {found['why']}" + (f" (without it {found['without']})" if found["without"] else "")
            for found in self.found
            if not found["used"]
        ]

    @property
    def refused(self):
        """Why this MLflow can't be served; nothing where it can."""
        wrong = [found for found in self.found if found["kind"] != SHORTCUT and not found["used"]]
        return "; ".join(f"{found['what']}: {found['why']}" for found in wrong)
