# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What is written for nginx, systemd, libpq and MLflow says all that its reader needs, and each limit has what it limits."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator

import pytest
import yaml
from repository import ROOT
from templates import rendered, sections

ROLE = ROOT / "roles" / "mlflow_server"


# -- nginx -----------------------------------------------------------------------------------------------------------


def parsed(text: str) -> list[tuple[list[str], list | None]]:
    """Directives with their words, and with what is in their braces."""
    text = re.sub(r"(?m)^\s*#.*$", "", text)
    words = re.findall(r""""(?:[^"\\]|\\.)*"|'[^']*'|[{};]|[^\s{};"']+(?:\{[^}\s]*\}[^\s{};]*)*""", text)

    def block(stream: Iterator[str]):
        found, now = [], []
        for word in stream:
            if word == "}":
                return found
            if word == ";":
                found.append((now, None))
                now = []
            elif word == "{":
                found.append((now, block(stream)))
                now = []
            else:
                now.append(word)
        return found

    return block(iter(words))


def within(block, name: str) -> list[str]:
    """What a directive is given, each time that it stands there."""
    return [" ".join(words[1:]) for words, inner in block if words[0] == name and inner is None]


def parts(block, name: str) -> dict[str, list]:
    return {" ".join(words[1:]): inner for words, inner in block if words[0] == name and inner is not None}


KINDS = {
    "our own certificate": {},
    "ACME": {"mlflow_server_tls": "acme"},
    "behind a load balancer": {"mlflow_server_tls": "none", "mlflow_server_trusted_proxies": ["10.0.0.0/8"]},
    "with metrics": {"mlflow_server_metrics_allowed_cidrs": ["192.0.2.0/24"]},
}


def site(kind: str = "our own certificate", **given):
    return parsed(rendered("nginx.conf.j2", **KINDS[kind], **given))


def servers(block) -> list:
    return [inner for words, inner in block if words == ["server"] and inner is not None]


def ours(kind: str = "our own certificate", **given) -> list:
    block = site(kind, **given)
    (found,) = [server for server in servers(block) if "/" in parts(server, "location") and within(server, "error_log")]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_that_a_request_may_go_to_says_what_becomes_of_it(kind):
    """One that has lost its word would look into a folder of the distribution."""
    for server in servers(site(kind)):
        assert within(server, "server_name") and within(server, "server_tokens") == ["off"] and within(server, "access_log")
        for place, inner in parts(server, "location").items():
            assert len([words for words, _ in inner if words[0] in ("proxy_pass", "alias", "root", "return")]) == 1, place
            assert within(inner, "proxy_pass") in ([], ["http://mlflow"])
    (upstream,) = parts(site(kind), "upstream").values()
    # One process that has failed is asked again; there is no other.
    assert [entry.endswith("max_fails=0") for entry in within(upstream, "server")] == [True]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_by_a_map_is_found_for_all(kind):
    maps = {**parts(site(kind), "map"), **parts(site(kind), "geo")}
    assert {name.split()[-1] for name in maps} >= {"$mlflow_client", "$mlflow_scheme"}
    for name, inner in maps.items():
        assert [words for words, _ in inner if words[0] == "default"], name


def test_behind_a_load_balancer_that_alone_says_who_the_client_is_and_how_it_came():
    block, server = site("behind a load balancer"), ours("behind a load balancer")
    trusted = parts(block, "geo")["$realip_remote_addr $mlflow_from_proxy"]
    assert [words for words, _ in trusted] == [["default", "0"], ["10.0.0.0/8", "1"]]
    assert within(server, "set_real_ip_from") == ["10.0.0.0/8"]
    assert within(server, "real_ip_header") == ["X-Forwarded-For"] and within(server, "real_ip_recursive") == ["on"]
    assert not within(ours(), "set_real_ip_from")


# What the service is told of a client, by nginx alone; and what it is not told.
TOLD = {"Host": "$http_host", "Connection": "close", "X-Forwarded-For": "$remote_addr", "X-Forwarded-Host": "$http_host",
        "X-Forwarded-Proto": "$mlflow_scheme", "X-Real-IP": "$remote_addr"}  # fmt: skip
UNTOLD = ("Forwarded", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-User", "X-Original-URL",
          "X-Rewrite-URL", "X-Script-Name", "Proxy", "Upgrade", "X-Ready-Details")  # fmt: skip


def test_a_client_says_nothing_of_itself_that_nginx_has_not_looked_at():
    server = ours()
    told = dict(value.split(" ", 1) for value in within(server, "proxy_set_header"))
    assert told == {**TOLD, **dict.fromkeys(UNTOLD, '""')}
    assert within(server, "proxy_http_version") == ["1.1"]
    # A location with a header of its own would have none of these.
    assert not [place for place, inner in parts(server, "location").items() if within(inner, "proxy_set_header")]


def test_tls_is_of_today():
    server = ours()
    assert within(server, "ssl_protocols") == ["TLSv1.2 TLSv1.3"]
    (ciphers,) = within(server, "ssl_ciphers")
    assert all(re.fullmatch("ECDHE-(ECDSA|RSA)-.*(GCM|POLY).*", one) for one in ciphers.split(":"))
    assert within(server, "ssl_prefer_server_ciphers") == within(server, "ssl_session_tickets") == ["off"]
    assert within(server, "ssl_ecdh_curve") == ["X25519"] and within(server, "http2") == ["on"]
    # Who comes again is spared the long greeting.
    assert within(server, "ssl_session_cache") and within(server, "ssl_session_timeout")
    assert within(server, "ssl_certificate") and within(server, "ssl_certificate_key")
    (header,) = within(server, "add_header")
    assert header.startswith("Strict-Transport-Security ") and header.endswith(" always")


def seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


def test_a_client_that_says_or_takes_nothing_is_given_up():
    server = ours()
    for name in ("client_header_timeout", "client_body_timeout", "send_timeout", "proxy_connect_timeout"):
        assert [seconds(value) <= 60 for value in within(server, name)] == [True], name
    # An answer may take as long as the database does.
    for name in ("proxy_read_timeout", "proxy_send_timeout"):
        assert [60 < seconds(value) <= 300 for value in within(server, name)] == [True], name


TRANSFERS = 2


def test_a_transfer_has_the_time_and_the_memory_for_blocks_and_one_address_only_so_many():
    assert within(site(), "limit_conn_zone") == ["$mlflow_client zone=mlflow_address:10m"]
    server = ours()
    assert within(server, "limit_conn_status") == ["429"] and within(server, "limit_conn_log_level") == ["warn"]
    transfers = {place: inner for place, inner in parts(server, "location").items() if "artifact" in place}
    assert len(transfers) == TRANSFERS
    for place, inner in transfers.items():
        assert [value.split()[0] for value in within(inner, "limit_conn")] == ["mlflow_address"], place
        assert [seconds(value) for value in within(inner, "proxy_read_timeout")] == [3600]
        # Compressing what is compressed mostly, for a client that waits for all of it.
        assert within(inner, "gzip") == ["off"]
        assert (within(inner, "proxy_buffer_size"), within(inner, "proxy_buffers")) == (["64k"], ["8 64k"])
        assert within(inner, "proxy_busy_buffers_size") == ["128k"]
    (up,) = [inner for place, inner in transfers.items() if "mlflow-artifacts" in place]
    assert within(up, "client_max_body_size") == ["0"] and within(up, "client_body_buffer_size") == ["256k"]
    # Longer than elsewhere: who trains while it sends is silent meanwhile.
    for name in ("client_body_timeout", "send_timeout", "proxy_send_timeout"):
        assert seconds(within(up, name)[0]) > 60, name


def test_nothing_waits_on_the_disk_of_nginx():
    server = ours()
    assert within(server, "proxy_request_buffering") == ["off"] and within(server, "proxy_max_temp_file_size") == ["0"]
    # The service refuses before nginx does.
    assert within(server, "client_max_body_size") == ["101m"]


def test_an_address_may_be_as_long_as_a_search_needs_it():
    """Also of whoever has not said his name yet: no more than this, twice, is kept of a connection."""
    assert within(ours(), "large_client_header_buffers") == ["2 64k"]


def test_usage_data_are_announced_where_they_are_collected_and_nowhere_else():
    """MLflow collects them where neither of its two words is said against it."""
    for said, announced in (
        ({}, False), ({"MLFLOW_DISABLE_TELEMETRY": False}, False),
        ({"MLFLOW_DISABLE_TELEMETRY": False, "DO_NOT_TRACK": False}, True),
    ):  # fmt: skip
        page = parts(ours(mlflow_server_environment=said), "location").get("= /")
        assert (page is None) == announced, said
        assert announced or "telemetry-alert" in within(page, "sub_filter")[0]


def test_text_is_compressed_and_the_pages_files_are_kept():
    server = ours()
    assert within(server, "gzip") == within(server, "gzip_vary") == ["on"] and within(server, "gzip_proxied") == ["any"]
    assert within(server, "gzip_min_length") and within(server, "gzip_comp_level")
    assert {"application/json", "application/javascript", "text/css"} <= set(within(server, "gzip_types")[0].split())
    files = parts(server, "location")["/static-files/static/"]
    assert within(files, "expires") == ["1y"] and within(files, "gzip_static") == ["on"]


def test_the_log_is_of_what_people_do():
    """Not of what load balancers, Prometheus and the page's own files ask for; and of nobody's mistake in the address."""
    for kind, unseen in {"our own certificate": ["/static-files/static/", "= /ready"], "with metrics": ["= /metrics"]}.items():
        for place in unseen:
            assert within(parts(ours(kind), "location")[place], "access_log") == ["off"], place
    assert within(ours(), "access_log")[0].endswith(" mlflow_json") and within(ours(), "error_log")
    assert [server for server in servers(site()) if within(server, "access_log") == ["off"]]


def test_who_may_read_the_metrics_is_named_and_all_others_are_kept_out():
    there = parts(ours("with metrics"), "location")["= /metrics"]
    assert [words for words, _ in there][:2] == [["allow", "192.0.2.0/24"], ["deny", "all"]]
    assert within(parts(ours(), "location")["= /metrics"], "return") == ["404"]


def test_the_ca_is_answered_without_tls_and_all_else_is_sent_to_it():
    (plain,) = [server for server in servers(site("ACME")) if within(server, "server_name") == ["_"]]
    (challenge,) = [inner for place, inner in parts(plain, "location").items() if "acme-challenge" in place]
    assert within(challenge, "root") and within(challenge, "default_type") == ["text/plain"]
    assert within(parts(plain, "location")["/"], "return") == ["301 https://$mlflow_name$request_uri"]


# -- units -----------------------------------------------------------------------------------------------------------

UNITS = {
    "mlflow.service": ("mlflow.service.j2", {"__mlflow_server_is_next": False}),
    "mlflow-next.service": ("mlflow.service.j2", {"__mlflow_server_is_next": True}),
    "mlflow-gc.service": ("mlflow-gc.service.j2", {}),
    "mlflow-handover.service": ("mlflow-handover.service.j2", {}),
    "mlflow.socket": ("mlflow.socket.j2", {}),
    "mlflow-gc.timer": ("mlflow-gc.timer.j2", {}),
    "mlflow-jobs.service": ("mlflow-jobs.service.j2", {}),
    "mlflow-scorer.socket": ("mlflow-scorer.socket.j2", {}),
    "mlflow-scorer@.service": ("mlflow-scorer@.service.j2", {}),
    "mlflow-trace-archival.service": ("mlflow-trace-archival.service.j2", {}),
    "mlflow-trace-archival.timer": ("mlflow-trace-archival.timer.j2", {}),
}
SERVERS = ("mlflow.service", "mlflow-next.service")
#: Those that run MLflow's code.
OF_MLFLOW = (*SERVERS, "mlflow-gc.service", "mlflow-trace-archival.service")


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    template, given = UNITS[name]
    return sections(rendered(template, **given))


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_says_what_it_is(name):
    about = unit(name)["Unit"]
    # What is started for each connection documents nothing.
    assert about.get("Description") and ("@" in name or not name.endswith(".service") or about.get("Documentation"))


@pytest.mark.parametrize("name", OF_MLFLOW)
def test_what_runs_mlflow_has_its_settings_its_place_and_its_limits(name):
    about, service = unit(name)["Unit"], unit(name)["Service"]
    assert service["EnvironmentFile"] == ["/etc/mlflow/mlflow.env"] and service["WorkingDirectory"] == ["/var/lib/mlflow"]
    assert len(service["ExecStart"]) == 1
    # Before the limit that kills there is one that slows down, and no more processes than are said.
    assert {"MemoryHigh", "MemoryMax", "TasksMax", "TimeoutStartSec"} <= set(service)
    assert about["Wants"] == ["network-online.target"] and "network-online.target" in about["After"][0]


@pytest.mark.parametrize("name", SERVERS)
def test_what_serves_has_its_socket_and_is_started_again_whatever_happens(name):
    about, service = unit(name)["Unit"], unit(name)["Service"]
    assert about["Requires"] == service["Sockets"] == ["mlflow.socket"] and "mlflow.socket" in about["After"][0].split()
    assert about["StartLimitIntervalSec"] == ["0"]
    assert service["Restart"] == ["always"] and 0 < int(service["RestartSec"][0]) <= 10
    # A worker says that it is ready, and systemd hears it of more than the first process.
    assert (service["Type"], service["NotifyAccess"]) == (["notify"], ["all"])
    assert service["LoadCredential"] == [f"{key}:/etc/mlflow/{key}" for key in ("flask-secret-key", "webhook-key")]
    template, given = UNITS[name]
    opened = sections(rendered(template, **given, mlflow_server_gateway=True))["Service"]["LoadCredential"]
    assert opened[2:] == ["gateway-passphrase:/etc/mlflow/gateway-passphrase"]
    assert int(service["LimitNOFILE"][0]) >= 65536
    # A request that the database does not answer leaves a hundred lines.
    assert {"LogRateLimitIntervalSec", "LogRateLimitBurst"} <= set(service)


@pytest.mark.parametrize("name", ["mlflow-gc", "mlflow-trace-archival"])
def test_what_is_done_from_time_to_time_is_so_behind_what_people_do(name):
    service, timer = unit(f"{name}.service")["Service"], unit(f"{name}.timer")["Timer"]
    assert int(service["Nice"][0]) > 0 and service["IOSchedulingClass"] == ["idle"]
    # At its time, or when the host is there again; not on all hosts at once.
    assert timer["OnCalendar"] and timer["Persistent"] == ["true"] and timer["RandomizedDelaySec"]


def test_what_runs_jobs_comes_second_and_is_started_again_whatever_happens():
    about, service = unit("mlflow-jobs.service")["Unit"], unit("mlflow-jobs.service")["Service"]
    assert service["Type"] == ["notify"] and service["Restart"] == ["always"] and about["StartLimitIntervalSec"] == ["0"]
    assert int(service["Nice"][0]) > 0 and int(service["OOMScoreAdjust"][0]) > 0 and service["MemoryMax"] == ["2G"]
    # A job that takes too much is ended, and what runs them goes on.
    assert service["OOMPolicy"] == ["continue"] and service["KillMode"] == ["mixed"]
    assert service["EnvironmentFile"] == ["/etc/mlflow/mlflow.env"] and service["Environment"] == ["PYTHONSAFEPATH=1"]
    # By this the role finds that it runs with other settings.
    assert "sha256sum" in service["ExecStartPre"][0]
    # Keys of model providers, which are in no environment.
    assert service["LoadCredential"] == ["jobs-credentials:<__mlflow_server_jobs_credentials_file>"]


def test_what_a_user_wrote_has_its_connection_and_nothing_else():
    listens, service = unit("mlflow-scorer.socket")["Socket"], unit("mlflow-scorer@.service")["Service"]
    assert (listens["Accept"], listens["SocketMode"], listens["SocketGroup"]) == (["yes"], ["0660"], ["mlflow"])
    assert int(listens["MaxConnections"][0]) <= 16
    assert service["StandardInput"] == service["StandardOutput"] == ["socket"] and service["StandardError"] == ["journal"]
    # Whom it runs as has nothing, reads nothing of the service's and reaches nobody.
    assert service["DynamicUser"] == service["PrivateNetwork"] == ["true"] and "Group" not in service
    # One for each connection: what is another scorer's is another user's.
    assert service["User"] == ["scorer-%i"] and service["ProtectProc"] == ["invisible"]
    assert service["RestrictAddressFamilies"] == ["none"] and "EnvironmentFile" not in service and "LoadCredential" not in service
    assert {"/etc/mlflow", "-/var/lib/mlflow", "-/run/mlflow", "-/var/log"} <= set(service["InaccessiblePaths"][0].split())
    # And has an end, and no more than its share.
    assert {"RuntimeMaxSec", "MemoryMax", "LimitDATA", "TasksMax", "LimitFSIZE"} <= set(service)
    assert service["MemorySwapMax"] == ["0"]


def test_jobs_are_there_for_the_server_where_they_are_run():
    names = ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "MLFLOW_SERVER_JOB_EXECUTION_ENGINE", "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS")
    for given, said in (
        ({}, ("false", None, None)),
        ({"mlflow_server_jobs": True}, ("true", "executor", "false")),
        ({"mlflow_server_jobs": True, "mlflow_server_custom_scorers": True}, ("true", "executor", "true")),
        # The one word without the other opens nothing.
        ({"mlflow_server_custom_scorers": True}, ("false", None, None)),
    ):
        found = environment(**NOTHING, **given)
        assert tuple(map(found.get, names)) == said


def test_what_is_to_be_there_after_a_boot_is_started_by_it():
    wanted = {name: unit(name).get("Install", {}) for name in UNITS}
    assert {name: found["WantedBy"] for name, found in wanted.items() if found} == {
        "mlflow.service": ["multi-user.target"],
        "mlflow.socket": ["sockets.target"],
        "mlflow-gc.timer": ["timers.target"],
        "mlflow-jobs.service": ["multi-user.target"],
        "mlflow-scorer.socket": ["sockets.target"],
        "mlflow-trace-archival.timer": ["timers.target"],
    }
    # With the one comes the other.
    assert wanted["mlflow.service"]["Also"] == ["mlflow.socket"]


def test_a_hand_over_has_the_new_ones_ready_before_the_old_ones_end():
    service = unit("mlflow-handover.service")["Service"]
    # Several commands, one after the other, are for this type alone.
    assert service["Type"] == ["oneshot"]
    assert [command.split()[1:] for command in service["ExecStart"]] == [["restart", name] for name in reversed(SERVERS)]
    assert "stop mlflow-next.service" in service["ExecStopPost"][0]
    assert unit("mlflow.service")["Service"]["ExecReload"][0].endswith("start --no-block mlflow-handover.service")
    # By which the role finds that they run with other settings than there are.
    assert "sha256sum /etc/mlflow/mlflow.env" in unit("mlflow.service")["Service"]["ExecStartPre"][0]
    assert "ExecStartPre" not in unit("mlflow-next.service")["Service"]


def test_the_socket_is_there_for_nginx_whatever_the_service_does():
    socket = unit("mlflow.socket")["Socket"]
    assert socket["TriggerLimitIntervalSec"] == ["0"] and socket["Backlog"] and socket["ListenStream"]
    assert (socket["SocketUser"], socket["SocketGroup"], socket["SocketMode"]) == (["root"], ["mlflow-proxy"], ["0660"])


# -- what the service and its libraries read -------------------------------------------------------------------------


def environment(**given) -> dict[str, str]:
    lines = rendered("mlflow.env.j2", **given).splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


# What is always said, and what only where somebody has said it to the role.
ALWAYS = {
    "MLFLOW_BACKEND_STORE_URI", "PGSERVICEFILE", "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE", "MLFLOW_SERVE_ARTIFACTS",
    "MLFLOW_ARTIFACTS_DESTINATION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "MLFLOW_SERVER_ALLOWED_HOSTS",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "MLFLOW_SERVER_MAX_BODY_MIB", "MLFLOW_SERVER_WORKERS", "MLFLOW_SERVER_DRAIN_SECONDS",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "MLFLOW_ENABLE_AI_GATEWAY", "MLFLOW_MODEL_CATALOG_URI", "MLFLOW_DISABLE_TELEMETRY",
    "DO_NOT_TRACK", "MLFLOW_SERVER_OPENED", "TMPDIR", "MALLOC_MMAP_THRESHOLD_",
}  # fmt: skip
SOMETIMES = {
    ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"): {"mlflow_server_pool_size": 5},
    ("MLFLOW_SERVER_DATABASE_CONNECTIONS", "MLFLOW_SERVER_WORKERS_OF_ALL_HOSTS"): {"mlflow_server_pool_size": 0},
    ("AWS_REGION", "AWS_DEFAULT_REGION"): {"mlflow_server_aws_region": "eu-central-1"},
    ("MLFLOW_S3_ENDPOINT_URL",): {"mlflow_server_s3_endpoint_url": "https://s3.example.com"},
    ("AWS_CA_BUNDLE",): {"mlflow_server_s3_ca_file": "ca.pem"},
    ("MLFLOW_AUTH_CONFIG_PATH",): {"mlflow_server_auth_enabled": True},
    ("MLFLOW_SERVER_TLS", "MLFLOW_SERVER_ADDRESSES"): {"mlflow_server_tls": "acme"},
    ("MLFLOW_SERVER_LEFT_OUT",): {"mlflow_server_shortcuts": False},
    ("MLFLOW_SERVER_EXTRA_ROUTES",): {"mlflow_server_extra_routes": ["GET /x"]},
    ("MLFLOW_GATEWAY_ALLOWED_PROVIDERS",): {"mlflow_server_gateway": True},
    ("MLFLOW_SERVER_JOB_EXECUTION_ENGINE", "MLFLOW_SERVER_JOBS_AT_ONCE", "MLFLOW_SERVER_ENABLE_CUSTOM_SCORERS"): {
        "mlflow_server_jobs": True
    },
    ("MLFLOW_SERVER_METRICS",): {"mlflow_server_metrics_allowed_cidrs": ["192.0.2.0/24"]},
}
NOTHING = {
    "mlflow_server_aws_region": "", "mlflow_server_s3_endpoint_url": "", "mlflow_server_tls": "none",
    "mlflow_server_s3_ca_file": "", "mlflow_server_auth_enabled": False, "mlflow_server_shortcuts": True,
    "mlflow_server_shortcuts_left_out": [], "mlflow_server_extra_routes": [], "mlflow_server_environment": {},
    "mlflow_server_s3_access_key_id": "", "mlflow_server_pool_size": 0,
}  # fmt: skip


def test_the_service_is_told_all_that_it_asks_for():
    pool = set(next(names for names in SOMETIMES if "MLFLOW_SERVER_DATABASE_CONNECTIONS" in names))
    assert set(environment(**NOTHING)) == ALWAYS | pool
    for names, given in SOMETIMES.items():
        expected = ALWAYS | set(names) | (set() if given.get("mlflow_server_pool_size") else pool)
        assert set(environment(**{**NOTHING, **given})) == expected


def test_what_is_switched_off_is_opened_nowhere():
    """Neither a route nor a key that nothing needs."""
    assert environment(mlflow_server_webhooks=False)["MLFLOW_SERVER_OPENED"] == '""'
    assert environment(mlflow_server_webhooks=True)["MLFLOW_SERVER_OPENED"] == '"webhooks"'
    assert environment(mlflow_server_webhooks=True, mlflow_server_jobs=True)["MLFLOW_SERVER_OPENED"] == '"webhooks jobs"'
    opened = environment(mlflow_server_webhooks=False, mlflow_server_gateway=True)
    assert (opened["MLFLOW_SERVER_OPENED"], opened["MLFLOW_ENABLE_AI_GATEWAY"]) == ('"gateway"', "true")
    assert "openai" in opened["MLFLOW_GATEWAY_ALLOWED_PROVIDERS"] and "bedrock" not in opened["MLFLOW_GATEWAY_ALLOWED_PROVIDERS"]
    assert "location /gateway/" not in rendered("nginx.conf.j2")
    assert "proxy_buffering off" in rendered("nginx.conf.j2", mlflow_server_gateway=True).partition("location /gateway/")[2][:200]
    for name in SERVERS:
        template, given = UNITS[name]
        assert "webhook-key" not in rendered(template, **given, mlflow_server_webhooks=False)


def test_what_the_services_own_code_asks_for_is_what_is_written():
    code = " ".join(path.read_text() for path in (ROLE / "files" / "service").rglob("*.py"))
    asked = set(re.findall(r"""(?:environ\[|environ\.get\(|getenv\()["'](MLFLOW_SERVER_\w+)["']""", code))
    told = ALWAYS | {name for names in SOMETIMES for name in names}
    assert len(asked) > 5 and not asked - told


def test_nothing_that_the_service_could_have_written_is_run_by_its_libraries():
    found = environment(**NOTHING)
    assert (found["AWS_CONFIG_FILE"], found["AWS_SHARED_CREDENTIALS_FILE"]) == ("/dev/null", "/dev/null")
    assert found["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == found["MLFLOW_ENABLE_AI_GATEWAY"] == "false"


FILES = {
    "auth.ini.j2": {"mlflow": {
        "default_permission", "database_uri", "admin_username", "authorization_function", "auth_cache_ttl_seconds"}},
    "aws-credentials.j2": {"default": {"aws_access_key_id", "aws_secret_access_key"}},
    "pg_service.conf.j2": {"mlflow": {
        "host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "connect_timeout", "application_name",
        "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count"}},
    # Without these a client refuses the certificate, or takes it for a CA's.
    "openssl.cnf.j2": {
        "req": {"prompt", "distinguished_name", "x509_extensions"},
        "name": {"CN"},
        "extensions": {
            "basicConstraints", "keyUsage", "extendedKeyUsage", "subjectKeyIdentifier", "authorityKeyIdentifier",
            "subjectAltName"},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_all_that_its_reader_needs(name):
    reader = configparser.ConfigParser(delimiters="=", interpolation=None)
    reader.optionxform = str
    reader.read_string(rendered(name, mlflow_server_database_sslmode="verify-full"))
    assert {section: set(reader[section]) for section in reader.sections()} == FILES[name]


def test_a_server_that_archives_says_so_and_where_and_another_one_does_not():
    given = {"mlflow_server_artifact_root": "s3://bucket/x", "mlflow_server_trace_archival_retention": "90d"}
    assert yaml.safe_load(rendered("trace-archival.yml.j2", **given)) == {
        "trace_archival": {"enabled": True, "location": "s3://bucket/x", "retention": "90d"}
    }
    assert "MLFLOW_TRACE_ARCHIVAL_CONFIG" in environment(**NOTHING, **given)
    assert "MLFLOW_TRACE_ARCHIVAL_CONFIG" not in environment(**NOTHING)


def test_a_read_replica_is_tried_first_with_the_login_and_the_ca_of_the_database():
    names = {"host": "db", "read_host": "replica", "sslmode": "verify-full"}
    given = {f"mlflow_server_database_{name}": value for name, value in names.items()}
    reader = configparser.ConfigParser(delimiters="=", interpolation=None)
    reader.read_string(rendered("pg_service.conf.j2", **given))
    own, replica = dict(reader["mlflow"]), dict(reader["mlflow_read"])
    assert (own.pop("host"), replica.pop("host")) == ("db", "replica,db")
    assert (own.pop("application_name"), replica.pop("application_name")) == ("mlflow", "mlflow-read")
    assert own == replica and own["sslmode"] == "verify-full" and {"password", "sslrootcert", "port"} <= set(own)
    store = "postgresql+psycopg2:///?service=mlflow&plugin=mlflow_server"
    found = environment(**NOTHING, **given, __mlflow_server_store_uri=store)
    assert found["MLFLOW_READ_REPLICA_BACKEND_STORE_URI"] == "postgresql+psycopg2:///?service=mlflow_read&plugin=mlflow_server"
    assert "MLFLOW_READ_REPLICA_BACKEND_STORE_URI" not in environment(**NOTHING)


def test_the_services_user_owns_its_folders_and_nginx_may_use_the_socket():
    people = [line.split()[:3] for line in rendered("sysusers.conf.j2").splitlines() if line[:1] != "#"]
    assert people == [["g", "mlflow-proxy", "-"], ["u", "mlflow", "-"], ["m", "www-data", "mlflow-proxy"]]
    folders = [line.split() for line in rendered("tmpfiles.conf.j2").splitlines() if line[:1] != "#"]
    assert folders == [
        ["d", "/var/lib/mlflow", "0700", "mlflow", "mlflow", "-"],
        ["d", "/var/lib/mlflow/spool", "0700", "mlflow", "mlflow", "2d"],
    ]
