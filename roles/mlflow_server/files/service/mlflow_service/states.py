# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What systemd is told of a unit: that it is ready, and what it is at."""

import os
import socket


def tell_systemd(message):
    """Send a state to systemd, as sd_notify(3) does."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.connect("\0" + path[1:] if path.startswith("@") else path)
        connection.sendall(message.encode())
