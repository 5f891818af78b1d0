# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A plain `mlflow server` beside a deployed one: on its host, of its packages, with its own database and bucket beside theirs."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import secrets
import socket
import subprocess
import time

import boto3
from clients import Client

UNIT, FOLDER, PORT, ROLE = "plain-mlflow", "/run/plain-mlflow", 5999, "plain"
# What of the deployed server's settings is a matter of where it is, and what of its configuration of users is said anew here.
WHERE = "AWS_REGION|AWS_DEFAULT_REGION|MLFLOW_S3_ENDPOINT_URL"


class PlainClient(Client):
    """Somebody at the end of the tunnel."""

    def _connect(self, timeout):
        host, port = self.address.split(":")
        self.mine.connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
        return self.mine.connection


class Plain:
    """Begun by `with`, and gone after it, with all that it has kept."""

    def __init__(self, deployment, server):
        self.deployment, self.server = deployment, server
        self.username, self.password = deployment.user["username"], f"plain-{secrets.token_hex(8)}"
        self.bucket = f"plain-{secrets.token_hex(6)}"
        self.root = f"{self.bucket}/artifacts"
        self.tunnel = None

    def __enter__(self):
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error):
        self._end()

    @property
    def client(self):
        return PlainClient(self.address, self.username, self.password)

    def _begin(self):
        self._end()
        boto3.client("s3", **self.deployment.aws).create_bucket(
            Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": self.deployment.aws["region_name"]}
        )
        password = secrets.token_hex(16)
        self.deployment.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'")
        self.deployment.sql(f"CREATE DATABASE {ROLE} OWNER {ROLE}")
        host, port = self.server.run(r"sed -n 's/^\(host\|port\)=//p' /etc/mlflow/pg_service.conf").split()
        uri = f"postgresql+psycopg2://{ROLE}:{password}@{host}:{port}/{ROLE}?sslmode=require"
        aws = self.deployment.aws
        settings = {
            "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_AUTH_CONFIG_PATH": f"{FOLDER}/auth.ini",
            "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": 4, "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": 8,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{self.root}",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16), "AWS_CA_BUNDLE": f"{FOLDER}/s3-ca.pem",
            "AWS_ACCESS_KEY_ID": aws["aws_access_key_id"], "AWS_SECRET_ACCESS_KEY": aws["aws_secret_access_key"],
            # What the deployed one has not either, by default.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ENABLE_AI_GATEWAY": "false", "MLFLOW_MODEL_CATALOG_URI": "",
            "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "HOME": FOLDER,
        }  # fmt: skip
        lines = "\n".join(f"{name}={value}" for name, value in settings.items())
        ini = f"[mlflow]\ndatabase_uri = {uri}\nadmin_username = {self.username}\nadmin_password = {self.password}\n"
        ini += "authorization_function = mlflow.server.auth:authenticate_request_basic_auth"
        command = f"/opt/mlflow/current/bin/python -P -m mlflow server --app-name basic-auth --host 127.0.0.1 --port {PORT}"
        self.server.run(f"""set -euo pipefail
umask 077
mkdir -p {FOLDER}
cat >{FOLDER}/env <<'SETTINGS'
{lines}
SETTINGS
grep -E '^({WHERE})=' /etc/mlflow/mlflow.env >>{FOLDER}/env
cat >{FOLDER}/auth.ini <<'SETTINGS'
{ini}
SETTINGS
grep '^default_permission' /etc/mlflow/auth.ini >>{FOLDER}/auth.ini
cp /etc/mlflow/s3-ca.pem {FOLDER}/s3-ca.pem
chown -R nobody {FOLDER}
systemd-run --quiet --collect --unit={UNIT} --uid=nobody --property=EnvironmentFile={FOLDER}/env --property=TimeoutStopSec=3 \
  --working-directory={FOLDER} {command} --workers 1
""")
        self._reach()

    def _reach(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        forward = ("-N", "-o", "ExitOnForwardFailure=yes", "-L", f"{self.address}:127.0.0.1:{PORT}")
        self.tunnel = subprocess.Popen(self.deployment.ssh_to(self.server.host, *forward), stdin=subprocess.DEVNULL)
        deadline, said = time.monotonic() + 180, ""
        while time.monotonic() < deadline:
            try:
                answer = self.client.get("/health")
                if answer.status == 200:
                    return
                said = str(answer)
            except OSError as error:
                said = repr(error)
            if self.server.run(f"systemctl is-active {UNIT}", check=False) != "active":
                break
            time.sleep(0.5)
        raise AssertionError(f"the plain server does not serve: {said}\n{self.journal()[-3000:]}")

    def look_up_quickly(self, known):
        """
        MLflow makes a hash of the password for each request, a tenth of a second of a processor, and thousands are made here.

        The hash is another then, and the check the same.

        :arg known: {username: password}
        """
        with self.deployment.connect(ROLE, autocommit=True) as connection:
            for (username,) in connection.execute("SELECT username FROM users WHERE password_hash LIKE 'scrypt%'").fetchall():
                if username in known:
                    digest = hashlib.pbkdf2_hmac("sha256", known[username].encode(), b"salt", 1).hex()
                    connection.execute(
                        "UPDATE users SET password_hash = %s WHERE username = %s", (f"pbkdf2:sha256:1$salt${digest}", username)
                    )

    def journal(self):
        return self.server.run(f"journalctl --unit={UNIT} --output=cat --no-pager", check=False)

    def _end(self):
        if self.tunnel:
            self.tunnel.terminate()
            self.tunnel.wait()
        self.server.run(f"systemctl stop {UNIT}; rm -rf {FOLDER}", check=False)
        self.deployment.sql(f"DROP DATABASE IF EXISTS {ROLE} WITH (FORCE)")
        self.deployment.sql(f"DROP ROLE IF EXISTS {ROLE}")
        store = boto3.resource("s3", **self.deployment.aws).Bucket(self.bucket)
        with contextlib.suppress(store.meta.client.exceptions.NoSuchBucket):
            store.object_versions.delete()
            store.delete()
