# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
This collection's server beside one made by MLflow's own guide, on two equal machines with one PostgreSQL.

Each figure is measured of both in turns, in one run, so that what else the machine does meets both. Started by bench/run,
which prepares the environment.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from _cloud import DATABASE, REGION, RESULTS, ROOT, Cloud, run, write

sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402

VERSION = "3.17.2"
# Where the delaying proxy listens, beside PostgreSQL.
DELAY_PORT = 5433
GUIDE_PORT = 5000
GUIDE_PACKAGES = f"mlflow=={VERSION} boto3 psycopg2-binary"
API = "/api/2.0/mlflow"
METRICS = 100

# What ours has to reach: the figure, its unit, and the bound as the ratio ours/guide (or the value itself).
TARGETS = {
    "get_p50": ("get experiment, one client, p50", "ms", "ratio <=", 0.2),
    "get_rate": ("get experiment, 8 clients", "requests/s", "ratio >=", 3.0),
    "create_rate": ("create run, 8 clients", "requests/s", "ratio >=", 2.0),
    "batch_p50": (f"log-batch of {METRICS} metrics, 2.5 ms to the database, p50", "ms", "ratio <=", 0.2),
    "idle_mib": ("memory when idle (PSS of all processes)", "MiB", "ratio <=", 0.25),
    "start": ("from start to ready", "s", "value <=", 5.0),
    "install": ("packages installed, bytecode of the server compiled", "s", "ratio <=", 0.2),
    "ui_bytes": ("web page, first load: bytes", "KiB", "ratio <=", 1 / 3),
    "ui_time": ("web page, first load: experiments shown", "s", "ratio <=", 0.5),
    "upload": ("artifact up, through the server", "s", "ratio <=", 1.0),
    "download": ("artifact down, through the server", "s", "ratio <=", 1.0),
    "artifact_mib": ("memory gained while artifacts pass, at most", "MiB", "value <=", 64.0),
}
# In the table, not in the comparison.
OTHERS = {
    "get_rtt_p50": ("get experiment, one client, 2.5 ms to the database, p50", "ms"),
    "create_rtt_rate": ("create run, 8 clients, 2.5 ms to the database", "requests/s"),
    "busy_mib": ("memory after the load (PSS)", "MiB"),
    "s3_up": ("artifact up, straight to S3 (the guide's own way)", "s"),
    "s3_down": ("artifact down, straight from S3 (the guide's own way)", "s"),
}


# --- the database's distance -----------------------------------------------------------------------------------------


def delay(listen: int, port: int, milliseconds: float) -> None:
    """A TCP proxy that holds what the server says for so long. Runs in the network namespace of the database."""
    import asyncio
    import selectors

    async def pump(reader, writer, seconds):
        pending: asyncio.Queue = asyncio.Queue()

        async def deliver():
            while True:
                due, data = await pending.get()
                wait = due - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                if not data:
                    with contextlib.suppress(OSError):
                        writer.close()
                    return
                writer.write(data)

        loop = asyncio.get_running_loop()
        sender = loop.create_task(deliver())
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                pending.put_nowait((loop.time() + seconds, data))
        pending.put_nowait((loop.time() + seconds, b""))
        await sender

    async def serve(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", port)
        for one in (writer, back):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(pump(reader, back, 0), pump(there, writer, milliseconds / 1000))

    async def main():
        async with await asyncio.start_server(serve, "0.0.0.0", listen) as server:
            print("listening", flush=True)
            await server.serve_forever()

    # epoll counts in milliseconds, select does not.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(main())


# --- machines --------------------------------------------------------------------------------------------------------


class Pair(Cloud):
    """
    Machines served by the roles ("serve-ours"), by the roles without their shortcuts ("serve-without"), by the guide
    ("serve-guide"), and one with PostgreSQL.
    """

    OURS, WITHOUT, GUIDE, BASE = "serve-ours", "serve-without", "serve-guide", "serve-db"

    def __init__(self, folder: Path, without: bool):
        super().__init__("serve", folder, [self.OURS, *([self.WITHOUT] if without else []), self.GUIDE], self.BASE)

    def open_ports(self) -> None:
        ec2 = self.aws("ec2")
        group = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [f"molecule-{self.scenario}"]}])
        ranges = [{"CidrIp": self.config.default_vpc_cidr}]
        ec2.authorize_security_group_ingress(
            GroupId=group["SecurityGroups"][0]["GroupId"],
            IpPermissions=[
                {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": ranges} for port in (GUIDE_PORT, DELAY_PORT)
            ],
        )

    def namespace(self) -> str:
        """The network namespace of the database's machine."""
        for name in run("ip", "netns", "list").splitlines():
            name = name.split()[0]
            if re.search(rf"\b{re.escape(self.addresses[self.BASE])}/", run("ip", "-n", name, "-4", "addr", "show")):
                return name
        raise SystemExit("the network namespace of the database is not found")

    @contextlib.contextmanager
    def distance(self, milliseconds: float):
        """PostgreSQL so far away for connections that are made within; says how it is done."""
        inside = ["ip", "netns", "exec", self.namespace()]
        add = ["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{milliseconds * 1000:.0f}us"]
        if subprocess.run([*inside, *add], capture_output=True).returncode == 0:
            try:
                yield "tc netem"
            finally:
                subprocess.run([*inside, "tc", "qdisc", "del", "dev", "eth0", "root"], capture_output=True)
            return
        # This kernel has no netem.
        chain = f"type nat hook prerouting priority -100;\ntcp dport 5432 redirect to :{DELAY_PORT}"
        redirect = f"table ip bench {{\nchain prerouting {{\n{chain}\n}}\n}}\n"
        proxy = subprocess.Popen(
            [*inside, sys.executable, __file__, "delay", str(DELAY_PORT), "5432", str(milliseconds)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            if proxy.stdout.readline().strip() != "listening":
                raise SystemExit("the delaying proxy did not start")
            run(*inside, "nft", "-f", "-", text=redirect)
            yield "a delaying TCP proxy before PostgreSQL (this kernel has no netem)"
        finally:
            subprocess.run([*inside, "nft", "delete", "table", "ip", "bench"], capture_output=True)
            proxy.kill()
            proxy.wait()


# --- the two servers -------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """Where a server is, and how a client talks to it."""

    name: str
    host: str
    address: str
    port: int
    units: list[str]
    tls: ssl.SSLContext | None = None
    authorization: str = ""
    title: str = ""
    experiment: str = ""
    run_id: str = ""
    by_roles: bool = False
    figures: dict = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}:{self.port}"

    def head(self, method: str, path: str, length: int) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.address}" + ("" if self.tls else f":{self.port}")]
        if self.authorization:
            lines.append(f"Authorization: {self.authorization}")
        if length:
            lines += ["Content-Type: application/json", f"Content-Length: {length}"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def request(self, method: str, path: str, body: dict | None = None) -> bytes:
        data = json.dumps(body).encode() if body is not None else b""
        return self.head(method, path, len(data)) + data


class Closed(OSError):
    """The server has closed a connection on which nothing of an answer had come."""


class Client:
    """One connection that stays open, with as little work on this side as can be: it shares the processors."""

    def __init__(self, server: Server, timeout: float = 120):
        self.server, self.timeout = server, timeout
        self.connect()

    def connect(self) -> None:
        connection = socket.create_connection((self.server.address, self.server.port), timeout=self.timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = self.server.tls.wrap_socket(connection) if self.server.tls else connection
        self.rest = b""

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def ask(self, message: bytes) -> bytes:
        try:
            self.connection.sendall(message)
            return self.answer()
        except (Closed, BrokenPipeError, ConnectionResetError):
            # It was idle for longer than the server keeps it; every client does this.
            self.connect()
            self.connection.sendall(message)
            return self.answer()

    def answer(self, take: Callable[[bytes], None] | None = None) -> bytes:
        head, body = self._until(b"\r\n\r\n")
        status = int(head.split(None, 2)[1])
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not length:
            text = self._chunks(body, take)
        elif take:
            text = b""
            left = int(length[1]) - len(body)
            take(body)
            while left > 0:
                block = self.connection.recv(1 << 18)
                if not block:
                    raise SystemExit(f"{self.server.name} broke off, {left} bytes before the end")
                left -= len(block)
                take(block)
        else:
            text = body
            while len(text) < int(length[1]):
                text += self.connection.recv(1 << 16)
        if status != 200:
            raise SystemExit(f"{self.server.name} answered {status}: {text[:500]!r}")
        return text

    def _until(self, mark: bytes) -> tuple[bytes, bytes]:
        data, self.rest = self.rest, b""
        while mark not in data:
            block = self.connection.recv(1 << 16)
            if not block:
                if data:
                    raise SystemExit(f"{self.server.name} broke off")
                raise Closed(f"{self.server.name} closed the connection")
            data += block
        head, _, rest = data.partition(mark)
        return head, rest

    def _chunks(self, data: bytes, take) -> bytes:
        text = []
        while True:
            self.rest = data
            size, data = self._until(b"\r\n")
            left = int(size, 16)
            while len(data) < left + 2:
                data += self.connection.recv(1 << 18)
            if not left:
                return b"".join(text)
            (take or text.append)(data[:left])
            data = data[left + 2 :]


Message = Callable[[Server], bytes]


def get_experiment(server: Server) -> bytes:
    return server.request("GET", f"{API}/experiments/get?experiment_id={server.experiment}")


def create_run(server: Server) -> bytes:
    return server.request("POST", f"{API}/runs/create", {"experiment_id": server.experiment, "start_time": 1})


class Batch:
    """log-batch of metrics that are there already, each time a step further."""

    def __init__(self):
        self.step = 0

    def __call__(self, server: Server) -> bytes:
        self.step += 1
        metrics = [{"key": f"metric{n}", "value": self.step, "timestamp": self.step, "step": self.step} for n in range(METRICS)]
        return server.request("POST", f"{API}/runs/log-batch", {"run_id": server.run_id, "metrics": metrics})


def latencies(server: Server, message: Message, seconds: float, least: int = 10) -> list[float]:
    """Milliseconds of one client's requests, one after the other."""
    found = []
    with Client(server) as client:
        client.ask(message(server))
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(found) < least:
            text = message(server)
            begin = time.perf_counter()
            client.ask(text)
            found.append((time.perf_counter() - begin) * 1000)
    return found


def rate(server: Server, message: Message, seconds: float, clients: int = 8) -> float:
    """Answers per second to so many clients that wait for nothing but answers."""
    counts, problems = [0] * clients, []
    barrier = threading.Barrier(clients + 1)
    text = message(server)
    over = threading.Event()

    def work(number: int) -> None:
        try:
            with Client(server) as client:
                client.ask(text)
                barrier.wait()
                while not over.is_set():
                    client.ask(text)
                    counts[number] += 1
        except (Exception, SystemExit) as error:
            problems.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(clients)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait()
    begin = time.monotonic()
    over.wait(seconds)
    total, took = sum(counts), time.monotonic() - begin
    over.set()
    for thread in threads:
        thread.join(timeout=60)
    if problems:
        raise SystemExit(f"{server.name}: {problems[0]}")
    return total / took


# Prints the PSS of the units' processes in KiB; with `watch`, their memory that no file backs, at most, until its input ends.
MEMORY = r"""
import os, re, select, sys
units, watch = sys.argv[1].split(","), len(sys.argv) > 2
def processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            path = open(f"/proc/{pid}/cgroup").read()
        except OSError:
            continue
        if any(re.search(rf"/{re.escape(unit)}(/|$)", path, re.M) for unit in units):
            yield pid
def total(file, pattern):
    sum = 0
    for pid in processes():
        try:
            for size in re.findall(pattern, open(f"/proc/{pid}/{file}").read(), re.M):
                sum += int(size)
        except OSError:
            pass
    return sum
if not watch:
    print(total("smaps_rollup", r"^Pss: +(\d+)"), len(list(processes())))
else:
    first = most = total("status", r"^Rss(?:Anon|Shmem):\s+(\d+)")
    while True:
        if select.select([sys.stdin], [], [], 0.25)[0]:
            break
        most = max(most, total("status", r"^Rss(?:Anon|Shmem):\s+(\d+)"))
    print(first, most)
"""


def memory(cloud: Pair, server: Server) -> tuple[float, int]:
    """MiB and number of processes."""
    size, count = run(*cloud.ssh_command(server.host, "python3", "-", ",".join(server.units)), text=MEMORY).split()
    return int(size) / 1024, int(count)


@contextlib.contextmanager
def watched(cloud: Pair, server: Server):
    """Memory at the begin and at most, in MiB, once the block is over."""
    cloud.ssh(server.host, f"cat >/run/bench-memory.py <<'PROGRAM'\n{MEMORY}\nPROGRAM\n")
    command = cloud.ssh_command(server.host, "python3", "/run/bench-memory.py", ",".join(server.units), "watch")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(1)
    found: list[float] = []
    try:
        yield found
    finally:
        text = process.communicate("end\n", timeout=60)[0]
    found.extend(int(size) / 1024 for size in text.split())


def started(cloud: Pair, server: Server) -> float:
    """Seconds from the start to the first moment at which it says that it is ready."""
    if server.by_roles:
        script = """
            systemctl stop mlflow.socket mlflow.service
            sleep 2
            begin=$(date +%s%N)
            systemctl start mlflow.service
        """
    else:
        script = f"""
            systemctl stop guide.service
            sleep 2
            begin=$(date +%s%N)
            systemctl start guide.service
            until curl -sf -o /dev/null --max-time 5 http://127.0.0.1:{GUIDE_PORT}/health; do sleep 0.05; done
        """
    seconds = float(cloud.ssh(server.host, script + "echo $(( ($(date +%s%N) - begin) / 1000000 ))\n")) / 1000
    wait_until_asked(server)
    return seconds


def wait_until_asked(server: Server, seconds: float = 180) -> None:
    """Until it answers what only the database knows, and its other processes are there too."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with Client(server, timeout=20) as client:
                client.ask(server.request("GET", f"{API}/experiments/get?experiment_id=0"))
            break
        except (OSError, SystemExit):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    time.sleep(15)


def guide(cloud: Pair) -> None:
    """MLflow as its documentation says, with every default."""
    password = secrets.token_hex(16)
    cloud.ssh(
        cloud.BASE,
        f"""
        runuser -u postgres -- psql -q <<'SQL'
        CREATE ROLE guide LOGIN PASSWORD '{password}';
        CREATE DATABASE guide OWNER guide;
        ALTER SYSTEM SET log_statement = 'none';
        ALTER SYSTEM SET log_connections = off;
        SELECT pg_reload_conf();
SQL
        """,
    )
    install = f"/opt/guide/bin/pip3 install -q {GUIDE_PACKAGES} >/var/log/guide-pip.log 2>&1"
    cloud.ssh(cloud.GUIDE, f"python3 -m venv /opt/guide\n{install}\n", timeout=1200)
    ca = cloud.config.ca_file.read_text()
    # The login is in a file; the local S3 needs its address and its CA. No telemetry from a test.
    cloud.ssh(
        cloud.GUIDE,
        f"""
        umask 077
        mkdir -p /etc/guide
        printf '%s' '{DATABASE}:5432:guide:guide:{password}' >/etc/guide/pgpass
        cat >/etc/guide/s3-ca.pem <<'CA'
{ca}
CA
        cat >/etc/systemd/system/guide.service <<'UNIT'
[Service]
Environment=PGPASSFILE=/etc/guide/pgpass AWS_CA_BUNDLE=/etc/guide/s3-ca.pem AWS_DEFAULT_REGION={REGION}
Environment=MLFLOW_S3_ENDPOINT_URL={cloud.config.api_url} MLFLOW_DISABLE_TELEMETRY=true HOME=/root
Environment=MODE=--default-artifact-root
WorkingDirectory=/opt/guide
ExecStart=/opt/guide/bin/mlflow server -h 0.0.0.0 -p {GUIDE_PORT} \\
  --backend-store-uri postgresql+psycopg2://guide@{DATABASE}/guide?sslmode=require \\
  ${{MODE}} s3://{cloud.bucket}/guide
UNIT
        systemctl daemon-reload
        systemctl start guide.service
        """,
    )


def deploy(cloud: Pair) -> None:
    """Both servers. After that a registry that keeps what it has fetched is warm."""
    packages = "python3-venv nginx-light openssl ca-certificates curl"
    for host in cloud.servers:
        cloud.ssh(
            host,
            f"""
            export DEBIAN_FRONTEND=noninteractive
            apt-get -q update >/dev/null
            apt-get -q install -y --no-install-recommends {packages} >/dev/null 2>&1
            """,
        )
    print("ours, by the roles …", flush=True)
    cloud.play("molecule/shared/converge.yml", *cloud.inventory, "--limit", cloud.OURS)
    if cloud.WITHOUT in cloud.servers:
        print("ours without shortcuts …", flush=True)
        left_out = {"mlflow_server_shortcuts": False}
        cloud.play("molecule/shared/converge.yml", *cloud.inventory, "--limit", cloud.WITHOUT, variables=left_out, log="without")
    print("the guide's, by pip …", flush=True)
    guide(cloud)


def install_guide(cloud: Pair) -> dict[str, float]:
    """Seconds that the guide's two commands take."""
    script = f"""
        rm -rf /opt/again /root/.cache/pip
        sync
        begin=$(date +%s%N)
        python3 -m venv /opt/again
        venv=$(date +%s%N)
        /opt/again/bin/pip3 install -q {GUIDE_PACKAGES} >/var/log/guide-pip.log 2>&1
        end=$(date +%s%N)
        rm -rf /opt/again /root/.cache/pip
        echo $(( (venv - begin) / 1000000 )) $(( (end - venv) / 1000000 ))
    """
    times = [float(time) / 1000 for time in cloud.ssh(cloud.GUIDE, script, timeout=1200).split()]
    return dict(zip(("venv", "packages"), times, strict=True))


def install_ours(cloud: Pair) -> dict[str, float]:
    """Seconds that the role's tasks take for the same, as Ansible sees them."""
    cloud.ssh(
        cloud.OURS,
        f"""
        systemctl stop mlflow.socket mlflow.service
        rm -rf /opt/mlflow/uv /opt/mlflow/{VERSION}
        sync
        """,
    )
    tasks = cloud.play("molecule/shared/converge.yml", *cloud.inventory, "--limit", cloud.OURS, log="install").tasks
    steps = {
        "venv": "Make an empty venv",
        "uv": "Install uv",
        "packages": "Install the packages with uv",
        "bytecode": "Compile what the server uses, and note what this version expects of its database",
    }
    return {step: tasks[task] for step, task in steps.items()}


def deploy_before(cloud: Pair, commit: str) -> None:
    """This collection's server twice: as it was at a commit, on the guide's machine, and as it is in this checkout."""
    former = cloud.folder / "former"
    collections = cloud.folder / "collections" / "ansible_collections"
    (collections / "mlops").mkdir(parents=True)
    former.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(former)], input=archive.stdout, check=True)
    for collection in (ROOT / ".ansible" / "collections" / "ansible_collections").iterdir():
        if collection.name != "mlops":
            (collections / collection.name).symlink_to(collection.resolve())
    (collections / "mlops" / "mlflow_aws").symlink_to(former)
    print(f"before, by the roles of {commit} …", flush=True)
    environ = cloud.environ
    cloud.environ = {**environ, "ANSIBLE_COLLECTIONS_PATH": str(collections.parent)}
    cloud.play(str(former / "molecule/shared/converge.yml"), *cloud.inventory, "--limit", cloud.GUIDE, log="before")
    cloud.environ = environ
    print("ours, by the roles …", flush=True)
    cloud.play("molecule/shared/converge.yml", *cloud.inventory, "--limit", cloud.OURS)


def servers(cloud: Pair, before: bool = False) -> tuple[Server, ...]:
    """The two that are compared, and the third where there is one."""
    context = ssl.create_default_context()
    context.check_hostname = False
    # The certificate is the server's own; that it is trusted is not what is measured.
    context.verify_mode = ssl.CERT_NONE
    password = (cloud.folder / "secret").read_text().split()[0]
    login = base64.b64encode(f"admin:admin-{password}".encode()).decode()

    def by_roles(name: str, host: str) -> Server:
        units = ["mlflow.service", "nginx.service"]
        return Server(name, host, cloud.addresses[host], 443, units, context, f"Basic {login}", by_roles=True)

    ours = by_roles("ours", cloud.OURS)
    if before:
        return by_roles("before", cloud.GUIDE), ours
    guide = Server("guide", cloud.GUIDE, cloud.addresses[cloud.GUIDE], GUIDE_PORT, ["guide.service"])
    return guide, ours, *([by_roles("without", cloud.WITHOUT)] if cloud.WITHOUT in cloud.servers else [])


def prepare_data(server: Server) -> None:
    with Client(server) as client:
        def ask(path, body):
            return json.loads(client.ask(server.request("POST", f"{API}/{path}", body)))

        server.title = f"bench-{time.time_ns()}"
        server.experiment = ask("experiments/create", {"name": server.title})["experiment_id"]
        server.run_id = ask("runs/create", {"experiment_id": server.experiment})["run"]["info"]["run_id"]


# --- the web page ----------------------------------------------------------------------------------------------------


class Page(Browser):
    """A browser that opens a server's page for the first time."""

    def __init__(self, server: Server, folder: Path):
        flags = []
        if server.tls:
            # The one certificate is trusted, where to ignore its error would take the cache away.
            certificate = ssl.get_server_certificate((server.address, server.port))
            public = subprocess.run(["openssl", "x509", "-pubkey", "-noout"], input=certificate.encode(), capture_output=True)
            der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public.stdout, capture_output=True)
            digest = base64.b64encode(hashlib.sha256(der.stdout).digest()).decode()
            flags.append(f"--ignore-certificate-errors-spki-list={digest}")
        super().__init__(folder, *flags)
        self.server = server
        self.bytes: dict[str, int] = {}
        self.last = 0.0

    def event(self, method: str, about: dict) -> None:
        if method in ("Network.requestWillBeSent", "Network.loadingFinished"):
            self.last = time.monotonic()
        if method == "Network.loadingFinished":
            self.bytes[about["requestId"]] = int(about["encodedDataLength"])

    def load(self, path: str, words: str, megabits: float, latency: float) -> tuple[float, int]:
        """Seconds until the page shows these words, and the bytes that came until all was quiet."""
        self.open()
        if self.server.authorization:
            self.call("Network.setExtraHTTPHeaders", headers={"Authorization": self.server.authorization})
        speed = megabits * 1e6 / 8
        self.call(
            "Network.emulateNetworkConditions", offline=False, latency=latency, downloadThroughput=speed, uploadThroughput=speed
        )
        begin = time.monotonic()
        self.call("Page.navigate", url=self.server.url + path)
        self.wait_for(words)
        shown = time.monotonic() - begin
        while time.monotonic() - self.last < 3 and time.monotonic() - begin < 120:
            self.read(0.2)
        return shown, sum(self.bytes.values())


# --- artifacts -------------------------------------------------------------------------------------------------------


def artifact(server: Server, mib: int) -> tuple[float, float]:
    """Seconds up and down."""
    block = os.urandom(1 << 20)
    path = "/api/2.0/mlflow-artifacts/artifacts/bench/blob"
    with Client(server, timeout=1800) as client:
        head = server.head("PUT", path, 0)[:-2] + f"Content-Length: {mib << 20}\r\n\r\n".encode()
        begin = time.monotonic()
        client.connection.sendall(head)
        for _ in range(mib):
            client.connection.sendall(block)
        client.answer()
        up = time.monotonic() - begin
    got = 0

    def take(data: bytes) -> None:
        nonlocal got
        got += len(data)

    with Client(server, timeout=1800) as client:
        begin = time.monotonic()
        client.connection.sendall(server.request("GET", path))
        client.answer(take)
        down = time.monotonic() - begin
    if got != mib << 20:
        raise SystemExit(f"{server.name}: {got} bytes came back of {mib << 20}")
    return up, down


def straight(cloud: Pair, mib: int) -> tuple[float, float]:
    """What the same takes between a client and S3."""
    s3 = cloud.aws("s3")
    with tempfile.NamedTemporaryFile(dir=cloud.folder) as file:
        block = os.urandom(1 << 20)
        for _ in range(mib):
            file.write(block)
        file.flush()
        begin = time.monotonic()
        s3.upload_file(file.name, cloud.bucket, "straight/blob")
        up = time.monotonic() - begin
        begin = time.monotonic()
        s3.download_file(cloud.bucket, "straight/blob", file.name)
        down = time.monotonic() - begin
    s3.delete_object(Bucket=cloud.bucket, Key="straight/blob")
    return up, down


# --- the run ---------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, cloud: Pair, servers: tuple[Server, ...], arguments: argparse.Namespace):
        self.cloud, self.servers, self.both, self.arguments = cloud, servers, servers[:2], arguments

    def turns(self, figure, measure: Callable[[Server], list[float]], how=statistics.median, rounds=0, among=()) -> None:
        found = {server.name: [] for server in among or self.servers}
        for _ in range(rounds or self.arguments.rounds):
            for server in among or self.servers:
                found[server.name] += measure(server)
        for server in among or self.servers:
            server.figures[figure] = how(found[server.name])
        found = ", ".join(f"{server.name} {server.figures[figure]:.1f}" for server in among or self.servers)
        print(f"  {(TARGETS | OTHERS)[figure][0]}: {found}", flush=True)

    def packages(self) -> None:
        print("installation …", flush=True)

        def install(server: Server) -> list[float]:
            steps = (install_ours if server.name == "ours" else install_guide)(self.cloud)
            print(f"  {server.name}: {', '.join(f'{step} {seconds:.1f} s' for step, seconds in steps.items())}", flush=True)
            return [sum(steps.values())]

        self.turns("install", install, rounds=self.arguments.installs, among=self.both)
        for server in self.both:
            wait_until_asked(server)

    def processes(self) -> None:
        print("start to ready, memory …", flush=True)
        self.turns("start", lambda server: [started(self.cloud, server)], rounds=self.arguments.starts)
        self.turns("idle_mib", lambda server: [memory(self.cloud, server)[0]], rounds=1)

    def requests(self) -> None:
        seconds = self.arguments.seconds
        print("requests …", flush=True)
        self.turns("get_p50", lambda server: latencies(server, get_experiment, seconds))
        self.turns("get_rate", lambda server: [rate(server, get_experiment, seconds)], statistics.mean)
        self.turns("create_rate", lambda server: [rate(server, create_run, seconds)], statistics.mean)
        self.turns("busy_mib", lambda server: [memory(self.cloud, server)[0]], rounds=1)

    def far(self) -> tuple[str, dict]:
        seconds = self.arguments.seconds
        print("the database 2.5 ms away …", flush=True)
        with self.cloud.distance(self.arguments.distance) as how:
            trips = {server.name: round(self.round_trip(server), 2) for server in self.servers}
            print(f"  by {how}; a round trip takes {trips}", flush=True)
            self.renew()
            self.turns("get_rtt_p50", lambda server: latencies(server, get_experiment, seconds))
            self.turns("create_rtt_rate", lambda server: [rate(server, create_run, seconds)], statistics.mean)
            batches = {server.name: Batch() for server in self.servers}
            self.turns("batch_p50", lambda server: latencies(server, batches[server.name], seconds))
        self.renew()
        return how, trips

    def renew(self) -> None:
        """The connections of before do not pass the proxy."""
        for server in self.servers:
            self.cloud.ssh(server.host, f"systemctl restart {server.units[0]}")
        for server in self.servers:
            wait_until_asked(server)

    def round_trip(self, server: Server) -> float:
        """Milliseconds of the smallest question to the database, asked from the server's machine."""
        ours = server.by_roles
        python = "/opt/mlflow/current/bin/python" if ours else "/opt/guide/bin/python"
        login = "PGSERVICEFILE=/etc/mlflow/pg_service.conf" if ours else "PGPASSFILE=/etc/guide/pgpass"
        connect = (
            'psycopg2.connect("service=mlflow")'
            if ours
            else f'psycopg2.connect("host={DATABASE} user=guide dbname=guide sslmode=require")'
        )
        script = f"""{login} {python} - <<'PROGRAM'
import psycopg2, statistics, time
connection = {connect}
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("SELECT 1")
found = []
for _ in range(100):
    begin = time.perf_counter()
    cursor.execute("SELECT 1")
    found.append(time.perf_counter() - begin)
print(1000 * statistics.median(found))
PROGRAM
"""
        return float(self.cloud.ssh(server.host, script))

    def page(self) -> None:
        print("the web page …", flush=True)
        found: dict[str, list] = {server.name: [] for server in self.both}

        def load(server: Server) -> list[float]:
            with Page(server, self.cloud.folder) as browser:
                seconds, size = browser.load("/#/experiments", server.title, 20, 40)
            found[server.name].append((size / 1024, len(browser.bytes)))
            return [seconds]

        self.turns("ui_time", load, rounds=self.arguments.pages, among=self.both)
        for server in self.both:
            server.figures["ui_bytes"] = statistics.median(size for size, _ in found[server.name])
            server.figures["ui_requests"] = statistics.median(count for _, count in found[server.name])
            print(f"  {server.name}: {server.figures['ui_bytes']:.0f} KiB in {server.figures['ui_requests']:.0f} requests")

    def artifacts(self) -> None:
        mib = self.arguments.artifact_mib
        print(f"an artifact of {mib} MiB …", flush=True)
        guide, ours = self.both
        switch = """
            sed -i 's/^Environment=MODE=.*/Environment=MODE={}/' /etc/systemd/system/guide.service
            systemctl daemon-reload
            systemctl restart guide.service
        """
        # By the guide's settings clients talk to S3; this is how the same server takes artifacts itself.
        if not guide.by_roles:
            self.cloud.ssh(guide.host, switch.format("--artifacts-destination"))
            wait_until_asked(guide)
        for server in self.both:
            times = []
            gained = []
            for _ in range(2):
                with watched(self.cloud, server) as seen:
                    times.append(artifact(server, mib))
                gained.append(seen[1] - seen[0])
                print(f"  {server.name}: up {times[-1][0]:.1f} s, down {times[-1][1]:.1f} s, "
                      f"memory {seen[0]:.0f} MiB, at most {seen[1]:.0f} MiB", flush=True)  # fmt: skip
            server.figures["upload"] = min(up for up, _ in times)
            server.figures["download"] = min(down for _, down in times)
            server.figures["artifact_mib"] = max(gained)
        up, down = straight(self.cloud, mib)
        guide.figures |= {"s3_up": up, "s3_down": down}
        if not guide.by_roles:
            self.cloud.ssh(guide.host, switch.format("--default-artifact-root"))


def verdict(key: str, guide: float | None, ours: float | None, before: bool) -> tuple[str, str, bool | None]:
    """The ratio, the target and whether it is met; beside a former version of this collection there is none."""
    ratio = f"{ours / guide:.2f}" if guide and ours is not None else ""
    if key not in TARGETS or ours is None or before:
        return ratio, "", None
    kind, bound = TARGETS[key][2:]
    value = ours if kind.startswith("value") else ours / guide
    met = value <= bound if kind.endswith("<=") else value >= bound
    sign = "at most" if kind.endswith("<=") else "at least"
    return ratio, f"{sign} {bound:.2f}" + (f" {TARGETS[key][1]}" if kind.startswith("value") else " ×"), met


def table(rows: list[dict], first: str, third: bool) -> str:
    def number(value):
        return "" if value is None else f"{value:.0f}" if value >= 1000 else f"{value:.1f}"

    lines = [f"{'':<58}{first:>9}{'ours':>9}{'without' if third else '':>9}  {'':<11}{'ratio':>6}  target"]
    for row in rows:
        met = {True: "met", False: "MISSED", None: ""}[row["met"]]
        figures = "".join(f"{number(row[name]):>9}" for name in ("guide", "ours", "without"))
        lines.append(f"{row['name']:<58}{figures}  {row['unit']:<11}{row['ratio']:>6}  {row['target']:<18}{met}".rstrip())
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == ["delay"]:
        delay(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(prog="bench/run serve", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="turns of each figure")
    parser.add_argument("--seconds", type=float, default=4, help="of each server's part in a turn")
    parser.add_argument("--installs", type=int, default=3, help="turns of the installation")
    parser.add_argument("--starts", type=int, default=3, help="turns of the start")
    parser.add_argument("--pages", type=int, default=3, help="turns of the web page")
    parser.add_argument("--artifact-mib", type=int, default=1024)
    parser.add_argument("--distance", type=float, default=2.5, help="milliseconds of round trip to the database")
    parts = ["packages", "processes", "requests", "page", "artifacts", "far"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="these figures and no others")
    parser.add_argument("--before", metavar="COMMIT", help="beside this collection as it was then, and not beside the guide's")
    parser.add_argument("--keep", action="store_true", help="leave the cloud up, and use it as it is the next time")
    arguments = parser.parse_args()
    if arguments.before:
        # Its tasks have other names.
        arguments.only = [part for part in arguments.only if part != "packages"]
    os.environ["LOCALCLOUD_NAME"] = os.environ.get("LOCALCLOUD_NAME") or "bench-serve"

    folder = RESULTS / "serve"
    cloud = Pair(folder, without=not arguments.before)
    kept = folder / "kept"
    try:
        if arguments.keep and kept.exists() and cloud.localcloud("status", check=False):
            cloud.find()
        else:
            cloud.localcloud("reset")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            folder.chmod(0o700)
            print("local cloud and machines …", flush=True)
            cloud.localcloud("up")
            cloud.up()
            if arguments.before:
                deploy_before(cloud, arguments.before)
            else:
                deploy(cloud)
            kept.touch()
        compared = servers(cloud, bool(arguments.before))
        bench = Bench(cloud, compared, arguments)
        for server in compared:
            wait_until_asked(server)
            prepare_data(server)
            with Client(server) as client:
                client.ask(Batch()(server))
        how, trips = "", {}
        for part in arguments.only:
            if part == "far":
                how, trips = bench.far()
            else:
                getattr(bench, part)()
    finally:
        if not arguments.keep:
            cloud.localcloud("reset", check=False)
            shutil.rmtree(folder, ignore_errors=True)

    rows = []
    for key, about in (TARGETS | OTHERS).items():
        guide, ours, *third = (server.figures.get(key) for server in compared)
        if guide is None and ours is None:
            continue
        ratio, target, met = verdict(key, guide, ours, bool(arguments.before))
        rows.append({"key": key, "name": about[0], "unit": about[1], "guide": guide, "ours": ours,
                     "without": third[0] if third else None, "ratio": ratio, "target": target, "met": met})  # fmt: skip
    print(f"\n{table(rows, compared[0].name, len(compared) == 3)}")
    if how:
        print(f"\nThe distance of the database is made by {how}; a round trip takes {trips} ms.")
    if not arguments.before:
        print(
            "Without: ours with mlflow_server_shortcuts: false.\n"
            "Artifacts: the guide's server was started with --artifacts-destination for these rows; by its own settings\n"
            'clients talk to S3 themselves, which are the rows "straight".'
        )
    write("serve-before" if arguments.before else "serve", {
        **{key: value for key, value in vars(arguments).items() if key not in ("keep",)},
        "distance_by": how,
        "round_trip_ms": trips,
        "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
