# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
The policy language: what a policy document says about one request.

Reference: "Policy evaluation logic" and "IAM JSON policy elements" in the IAM User Guide. What is not implemented is
refused when a policy is stored (``validate``), never ignored when it is evaluated.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from .wire import AwsError

#: Condition keys that ``iam.context`` fills, in lower case.
CONDITION_KEYS = {
    "aws:securetransport",
    "aws:principalarn",
    "aws:principalaccount",
    "aws:principaltype",
    "aws:userid",
    "aws:username",
    "aws:sourceip",
    "aws:requestedregion",
    "s3:prefix",
    "s3:delimiter",
    "s3:x-amz-acl",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-storage-class",
    "s3:x-amz-content-sha256",
    "s3:tlsversion",
    "s3:authtype",
    "s3:signatureversion",
    "s3:versionid",
    "s3:resourceaccount",
    "aws:resourceaccount",
    "iam:passedtoservice",
    "sts:externalid",
}

#: Keys of a role's trust policy that say which resource of a service acts; the services here act for this account only.
TRUST_KEYS = {"aws:sourceaccount", "aws:sourcearn"}


class Effect(Enum):
    NONE = 0
    ALLOW = 1
    DENY = 2


@dataclass
class Request:
    """What a policy can ask about a request."""

    action: str
    resource: str | None  # None: the resource isn't known; only "*" allows it, every resource denies it
    principals: frozenset[str] = frozenset()  # ARNs, account id and "*", or a service name
    context: dict[str, str] = field(default_factory=dict)  # keys in lower case


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@lru_cache(maxsize=4096)
def _pattern(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    text = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def like(pattern: str, value: str, ignore_case: bool = False) -> bool:
    return _pattern(pattern, ignore_case).fullmatch(value) is not None


def _number(a: str, b: str) -> tuple[float, float] | None:
    try:
        return float(a), float(b)
    except ValueError:
        return None


def _ip(value: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)
    except ValueError:
        return False


def _numeric(test: Any) -> Any:
    def run(value: str, wanted: str) -> bool:
        pair = _number(value, wanted)
        return pair is not None and test(*pair)

    return run


#: Operator in lower case -> (test of one value, is it a negated operator).
_OPERATORS: dict[str, tuple[Any, bool]] = {
    "stringequals": (lambda v, w: v == w, False),
    "stringnotequals": (lambda v, w: v == w, True),
    "stringequalsignorecase": (lambda v, w: v.lower() == w.lower(), False),
    "stringnotequalsignorecase": (lambda v, w: v.lower() == w.lower(), True),
    "stringlike": (lambda v, w: like(w, v), False),
    "stringnotlike": (lambda v, w: like(w, v), True),
    "arnequals": (lambda v, w: like(w, v), False),
    "arnnotequals": (lambda v, w: like(w, v), True),
    "arnlike": (lambda v, w: like(w, v), False),
    "arnnotlike": (lambda v, w: like(w, v), True),
    "bool": (lambda v, w: v.lower() == w.lower(), False),
    "ipaddress": (_ip, False),
    "notipaddress": (_ip, True),
    "numericequals": (_numeric(lambda a, b: a == b), False),
    "numericnotequals": (_numeric(lambda a, b: a == b), True),
    "numericlessthan": (_numeric(lambda a, b: a < b), False),
    "numericlessthanequals": (_numeric(lambda a, b: a <= b), False),
    "numericgreaterthan": (_numeric(lambda a, b: a > b), False),
    "numericgreaterthanequals": (_numeric(lambda a, b: a >= b), False),
}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _conditions_hold(conditions: dict[str, Any], context: dict[str, str]) -> bool:
    """All operators and all keys must hold; of a key's values one is enough, for a negated operator none may match."""
    for operator, keys in conditions.items():
        name = operator.lower()
        if_exists = name.endswith("ifexists")
        name = name.removesuffix("ifexists")
        for key, wanted in keys.items():
            value = context.get(key.lower())
            if key.lower() in TRUST_KEYS:
                continue
            if name == "null":
                if (value is None) != (_text(_list(wanted)[0]).lower() == "true"):
                    return False
                continue
            test, negated = _OPERATORS[name]
            if value is None:
                # An absent key fails a positive operator and satisfies a negated one ("IfExists" satisfies both).
                if not negated and not if_exists:
                    return False
                continue
            if any(test(value, _text(w)) for w in _list(wanted)) == negated:
                return False
    return True


def _principal_matches(statement: dict[str, Any], request: Request) -> bool:
    principal = statement.get("Principal")
    if principal is None:
        return True  # an identity policy
    if principal == "*":
        return not any(p.endswith(".amazonaws.com") for p in request.principals)
    for kind, values in principal.items():
        for value in _list(values):
            if kind == "AWS":
                if value == "*" and not any(p.endswith(".amazonaws.com") for p in request.principals):
                    return True
                account = re.fullmatch(r"arn:aws:iam::(\d{12}):root", value)
                if value in request.principals or (account and account.group(1) in request.principals):
                    return True
            elif value in request.principals:
                return True
    return False


def _action_matches(statement: dict[str, Any], action: str) -> bool:
    if "Action" in statement:
        return any(like(a, action, ignore_case=True) for a in _list(statement["Action"]))
    return not any(like(a, action, ignore_case=True) for a in _list(statement["NotAction"]))


def _substitute(text: str, context: dict[str, str]) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda m: context.get(m.group(1).lower(), m.group(0)), text)


def _resource_matches(statement: dict[str, Any], request: Request) -> bool:
    if "Resource" not in statement and "NotResource" not in statement:
        return True  # a trust policy
    denies = statement["Effect"] == "Deny"
    if request.resource is None:
        if "NotResource" in statement:
            return denies
        return denies or "*" in _list(statement["Resource"])
    if "Resource" in statement:
        return any(like(_substitute(r, request.context), request.resource) for r in _list(statement["Resource"]))
    return not any(like(_substitute(r, request.context), request.resource) for r in _list(statement["NotResource"]))


def evaluate(document: str | dict[str, Any], request: Request) -> Effect:
    """What one document says: an explicit deny wins over an allow."""
    policy = json.loads(document) if isinstance(document, str) else document
    result = Effect.NONE
    for statement in _list(policy.get("Statement", [])):
        if not (
            _principal_matches(statement, request)
            and _action_matches(statement, request.action)
            and _resource_matches(statement, request)
            and _conditions_hold(statement.get("Condition", {}), request.context)
        ):
            continue
        if statement["Effect"] == "Deny":
            return Effect.DENY
        result = Effect.ALLOW
    return result


def validate(document: str, kind: str, code: str) -> None:
    """
    Refuse what this engine can't enforce.

    Args:
        document: the policy's JSON.
        kind: "identity", "bucket" or "trust".
        code: error code of the service for a malformed policy.
    """

    def refuse(why: str) -> None:
        raise AwsError(code, f"{why} (the local cloud enforces what it stores, so it refuses what it can't enforce)")

    try:
        policy = json.loads(document)
        statements = _list(policy["Statement"])
    except (ValueError, KeyError, TypeError):
        raise AwsError(code, "Policies must be valid JSON with a Statement") from None
    for s in statements:
        if not isinstance(s, dict) or s.get("Effect") not in ("Allow", "Deny"):
            refuse("Each statement needs an Effect of Allow or Deny")
        if "NotPrincipal" in s:
            refuse("NotPrincipal is not supported")
        if kind == "identity" and "Principal" in s:
            refuse("Policy document should not specify a principal")
        if kind != "identity":
            principal = s.get("Principal")
            if principal is None:
                refuse("Missing required field Principal")
            if principal != "*" and not isinstance(principal, dict):
                refuse("Invalid principal in policy")
            unknown = set(principal) - {"AWS", "Service"} if isinstance(principal, dict) else set()
            if unknown:
                refuse(f"Principal type {sorted(unknown)[0]} is not supported")
        if ("Action" in s) == ("NotAction" in s):
            refuse("Each statement needs either Action or NotAction")
        if kind != "trust" and ("Resource" in s) == ("NotResource" in s):
            refuse("Each statement needs either Resource or NotResource")
        if kind == "trust" and ("Resource" in s or "NotResource" in s):
            refuse("Has prohibited field Resource")
        for operator, keys in s.get("Condition", {}).items():
            name = operator.lower()
            if name != "null" and name.removesuffix("ifexists") not in _OPERATORS:
                refuse(f"The condition operator {operator} is not supported")
            for key in keys:
                if key.lower() not in CONDITION_KEYS and not (kind == "trust" and key.lower() in TRUST_KEYS):
                    refuse(f"The condition key {key} is not supported")
