# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Faults of the network of a deployment's machines, made from outside of them."""

from __future__ import annotations

import contextlib
from urllib.parse import urlsplit


def inside(deployment, host):
    """How a command begins that changes a machine's network. The machine itself may not."""
    return f"ip netns exec lc{deployment.config.slot}-{deployment.hosts[host]['instance_id']}"


@contextlib.contextmanager
def rules(deployment, of_host):
    """Rules of nft on machines, in a table of our own, as long as the block lasts. `of_host` gives them for a host."""
    done = []
    try:
        for host in deployment.hosts:
            chains = (
                "add table inet faults; add chain inet faults out { type filter hook output priority -300; }; "
                "add chain inet faults in { type filter hook input priority -300; }"
            )
            deployment.here(f"{inside(deployment, host)} nft '{chains}; {of_host(host)}'")
            done.append(host)
        yield
    finally:
        for host in done:
            deployment.here(f"{inside(deployment, host)} nft delete table inet faults")


@contextlib.contextmanager
def store_is_away(deployment):
    address = urlsplit(deployment.aws["endpoint_url"]).hostname
    # The names of that address are asked for there, too, and go on.
    with rules(deployment, lambda host: f"add rule inet faults out ip daddr {address} tcp dport 443 drop"):
        yield
