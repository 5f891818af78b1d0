# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Who may sign requests: the account's root, IAM users, assumed roles and the roles of EC2 instances."""

from __future__ import annotations

import configparser
import datetime
import io
import secrets
import string
from dataclasses import dataclass, field
from typing import Any

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from ..config import Config
from .pki import write_file
from .policy import Effect, Request, evaluate
from .signature import Claim
from .wire import AwsError

ACCOUNT = "123456789012"
PARTITION = "aws"
#: How long credentials of an instance's role last, and how long before their end new ones are handed out.
SESSION_SECONDS = 6 * 3600
RENEW_SECONDS = 3600


@dataclass
class Principal:
    """A proven caller."""

    kind: str  # "Account", "User", "AssumedRole" or "Anonymous"
    arn: str
    user_id: str
    access_key_id: str = ""
    user_name: str = ""
    role_name: str = ""
    secret: str = field(default="", repr=False)

    @property
    def is_root(self) -> bool:
        return self.kind == "Account"

    def names(self) -> frozenset[str]:
        """What a policy's Principal element may call this caller."""
        if self.kind == "Anonymous":
            return frozenset({"*"})
        names = {self.arn, ACCOUNT}
        if self.role_name:
            role = _find_role(self.role_name)
            if role is not None:
                names.add(role.arn)
        return frozenset(names)

    def policies(self) -> list[Any]:
        """Documents of all identity policies."""
        backend = iam_backends[ACCOUNT][PARTITION]
        if self.kind == "User":
            user = backend.users[self.user_name]
            documents = [_text(p) for p in user.policies.values()] + _attached(user)
            for group in backend.groups.values():
                if any(u.name == self.user_name for u in group.users):
                    documents += [_text(p) for p in group.policies.values()] + _attached(group)
            return documents
        if self.kind == "AssumedRole":
            role = _find_role(self.role_name)
            if role is None:
                return []
            return [_text(p) for p in role.policies.values()] + _attached(role)
        return []


ANONYMOUS = Principal("Anonymous", "anonymous", "anonymous")


def _text(policy: Any) -> Any:
    return policy.document if hasattr(policy, "document") else policy


def _attached(entity: Any) -> list[Any]:
    documents = []
    for policy in entity.managed_policies.values():
        version = next(v for v in policy.versions if v.is_default)
        documents.append(version.document)
    return documents


def _find_role(name: str) -> Any:
    for role in iam_backends[ACCOUNT][PARTITION].roles.values():
        if role.name == name:
            return role
    return None


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


_ID = string.ascii_uppercase + "234567"
_SECRET = string.ascii_letters + string.digits + "+/"


class Identities:
    """All who can sign. ``tables`` is saved with the state."""

    def __init__(self, config: Config, tables: dict[str, Any]):
        self._config = config
        self._tables = tables
        self._root: tuple[str, str] | None = None

    def ensure_root(self) -> None:
        """Make the root's credentials at the first start; read them from their file ever after."""
        path = self._config.credentials_file
        parser = configparser.RawConfigParser()
        if path.exists():
            parser.read_string(path.read_text())
        if parser.has_option("localcloud", "aws_secret_access_key"):
            self._root = (
                parser.get("localcloud", "aws_access_key_id"),
                parser.get("localcloud", "aws_secret_access_key"),
            )
            return
        self._root = ("AKIA" + _random(_ID, 16), _random(_SECRET, 40))
        if not parser.has_section("localcloud"):
            parser.add_section("localcloud")
        parser.set("localcloud", "aws_access_key_id", self._root[0])
        parser.set("localcloud", "aws_secret_access_key", self._root[1])
        out = io.StringIO()
        parser.write(out)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, out.getvalue().encode(), 0o600)

    def find(self, claim: Claim) -> Principal:
        """The principal that the claim names, not proven yet; raises what AWS raises for an unknown one."""
        key = claim.access_key_id
        if self._root and key == self._root[0]:
            _no_token(claim)
            return Principal("Account", f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, key, secret=self._root[1])
        session = self._tables.setdefault("sessions", {}).get(key)
        if session:
            _check_token(claim, session["token"], session["expires"])
            return self._role_principal(session["role"], session["session"], key, session["secret"])
        for assumed in sts_backends[ACCOUNT][PARTITION].assumed_roles:
            if assumed.access_key_id == key:
                _check_token(claim, assumed.session_token, assumed.expiration)
                return self._role_principal(
                    assumed.role_arn.rsplit("/", 1)[-1], assumed.session_name, key, assumed.secret_access_key
                )
        for user in iam_backends[ACCOUNT][PARTITION].users.values():
            for access_key in user.access_keys:
                if access_key.access_key_id == key and access_key.status == "Active":
                    _no_token(claim)
                    return Principal(
                        "User", user.arn, user.id, key, user_name=user.name, secret=access_key.secret_access_key
                    )
        raise unknown_key(claim)

    def _role_principal(self, role_name: str, session: str, key: str, secret: str) -> Principal:
        role = _find_role(role_name)
        role_id = role.id if role else "AROAGONE"
        return Principal(
            "AssumedRole",
            f"arn:aws:sts::{ACCOUNT}:assumed-role/{role_name}/{session}",
            f"{role_id}:{session}",
            key,
            role_name=role_name,
            secret=secret,
        )

    def instance_credentials(self, role: Any, instance_id: str) -> tuple[dict[str, str] | None, bool]:
        """
        Credentials for an instance's role, and whether new ones were made.

        None where the role's trust policy doesn't let ec2.amazonaws.com assume it.
        """
        request = Request("sts:AssumeRole", None, frozenset({"ec2.amazonaws.com"}))
        if evaluate(role.assume_role_policy_document, request) is not Effect.ALLOW:
            return None, False
        sessions = self._tables.setdefault("sessions", {})
        now = datetime.datetime.now(datetime.UTC)
        for key in [k for k, s in sessions.items() if s["expires"] < now]:
            del sessions[key]
        for key, s in sessions.items():
            left = (s["expires"] - now).total_seconds()
            if s["role"] == role.name and s["session"] == instance_id and left > RENEW_SECONDS:
                return _as_metadata(key, s), False
        key = "ASIA" + _random(_ID, 16)
        sessions[key] = {
            "role": role.name,
            "session": instance_id,
            "secret": _random(_SECRET, 40),
            "token": "IQoJ" + _random(_SECRET, 352),
            "issued": now,
            "expires": now + datetime.timedelta(seconds=SESSION_SECONDS),
        }
        return _as_metadata(key, sessions[key]), True


def _as_metadata(key: str, s: dict[str, Any]) -> dict[str, str]:
    iso = "%Y-%m-%dT%H:%M:%SZ"
    return {
        "Code": "Success",
        "LastUpdated": s["issued"].strftime(iso),
        "Type": "AWS-HMAC",
        "AccessKeyId": key,
        "SecretAccessKey": s["secret"],
        "Token": s["token"],
        "Expiration": s["expires"].strftime(iso),
    }


def unknown_key(claim: Claim) -> AwsError:
    """"Common errors" of each service's API reference."""
    if claim.service == "s3":
        return AwsError(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            403,
            AWSAccessKeyId=claim.access_key_id,
        )
    if claim.service == "ec2":
        return AwsError("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
    code = "UnrecognizedClientException" if claim.service in _JSON else "InvalidClientTokenId"
    return AwsError(code, "The security token included in the request is invalid.", 403)


_JSON = ("secretsmanager", "ssm", "kms", "logs")


def _bad_token(claim: Claim) -> AwsError:
    if claim.service == "s3":
        return AwsError("InvalidToken", "The provided token is malformed or otherwise invalid.")
    return unknown_key(claim)


def _no_token(claim: Claim) -> None:
    if claim.token:
        raise _bad_token(claim)


def _check_token(claim: Claim, token: str, expires: Any) -> None:
    if not claim.token or not secrets.compare_digest(claim.token.encode(), token.encode()):
        raise _bad_token(claim)
    if isinstance(expires, str):
        expires = datetime.datetime.fromisoformat(expires.replace("Z", "+00:00"))
    if expires.tzinfo is None:
        expires = expires.replace(tzinfo=datetime.UTC)
    if expires < datetime.datetime.now(datetime.UTC):
        if claim.service == "s3":
            raise AwsError("ExpiredToken", "The provided token has expired.")
        raise AwsError(
            "RequestExpired" if claim.service == "ec2" else "ExpiredToken",
            "The security token included in the request is expired",
            403,
        )
