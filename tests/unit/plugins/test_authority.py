# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The private CA and what it signs, as clients see them: by Python's own TLS, at its strictest, by openssl and by curl."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from plugin_support import plugin

NAMES = ["DNS:mlflow.example.com", "IP Address:127.0.0.1"]


@pytest.fixture
def ours():
    return plugin("module_utils", "_authority")


@pytest.fixture
def host(tmp_path):
    """A host's key, and what it asks for: more than it is to get."""
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc",
         "-subj", "/CN=bank.example.com", "-addext", "subjectAltName=DNS:bank.example.com",
         "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", tmp_path / "server.key", "-out", tmp_path / "csr"],
        check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path


def served(folder, leaf):
    """A context that serves it with the host's key."""
    (folder / "server.crt").write_text(leaf)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    return context


@contextlib.contextmanager
def serving(context):
    """The port of a server that shakes hands with whoever comes and says a line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    plain, _address = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as secure:
                    secure.recv(1000)
                    secure.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        # A listener that is only closed leaves its thread waiting.
        listener.shutdown(socket.SHUT_RDWR)


def trusts(trusted, port, name="mlflow.example.com"):
    """What a client says that trusts just this; nothing where it comes in."""
    context = ssl.create_default_context(cadata=trusted)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain, server_hostname=name):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


@pytest.mark.parametrize("name, said", [
    ("mlflow.example.com", ""), ("127.0.0.1", ""),
    ("bank.example.com", "Hostname mismatch"), ("192.0.2.1", "IP address mismatch"),
])  # fmt: skip
def test_a_client_that_trusts_the_ca_comes_in_by_the_names_that_were_given(ours, host, name, said):
    ca = ours.make("mlflow.example.com")
    leaf = ours.sign((host / "csr").read_text(), ca, NAMES, 825)
    with serving(served(host, leaf)) as port:
        assert said in trusts(ca["certificate"], port, name) and bool(said) == bool(trusts(ca["certificate"], port, name))
        assert trusts(ours.make("mlflow.example.com")["certificate"], port) != ""


def test_openssl_and_curl_take_it_at_their_strictest(ours, host):
    ca = ours.make("mlflow.example.com")
    leaf = ours.sign((host / "csr").read_text(), ca, NAMES, 825)
    (host / "ca.crt").write_text(ca["certificate"])
    with serving(served(host, leaf)) as port:
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "mlflow.example.com"]
        subprocess.run([*command, "-CAfile", host / "ca.crt", host / "server.crt"], check=True, capture_output=True)
        url = f"https://127.0.0.1:{port}/"
        done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--cacert", host / "ca.crt", url], capture_output=True, text=True)
        assert done.stdout == "yes", done.stderr


def test_a_client_goes_on_through_other_names_and_renewals(ours, host):
    ca = ours.make("mlflow.example.com")
    seen = set()
    for names in (["DNS:a.example.com"], ["DNS:b.example.com"], ["DNS:b.example.com"]):
        leaf = ours.sign((host / "csr").read_text(), ca, names, 825)
        seen.add(leaf)
        with serving(served(host, leaf)) as port:
            assert trusts(ca["certificate"], port, names[0].removeprefix("DNS:")) == ""
    assert len(seen) == 3


def test_the_role_asks_at_its_end_as_such_a_client(ours, host):
    """By the host's loopback address, which is in no certificate, for the public name."""
    module = plugin("modules", "mlflow_ready")
    ca = ours.make("mlflow.example.com")
    leaf = ours.sign((host / "csr").read_text(), ca, NAMES[:1], 825)
    asked = []

    def web(url, **options):
        asked.append(options)
        raise OSError("not asked any further")

    with serving(served(host, leaf)) as port:
        for trusted, name, said in (
            (ca["certificate"], "mlflow.example.com", "not asked any further"),
            (ca["certificate"], "other.example.com", "does not take .* for other.example.com: .*Hostname mismatch"),
            (ours.make("x")["certificate"], "mlflow.example.com", "does not take .* for mlflow.example.com: .*verify failed"),
        ):
            (host / "ca.crt").write_text(trusted)
            about = {"validate_certs": False, "ca_path": str(host / "ca.crt"), "certificate_name": name}
            with pytest.raises(module.NotReady, match=said):
                module.Server(f"https://127.0.0.1:{port}", web, **about).check()
    assert [options["validate_certs"] for options in asked] == [False] and "certificate_name" not in asked[0]
    # Who is not there yet is waited for.
    with pytest.raises(module.NotReady, match="Connection refused"):
        module.Server(f"https://127.0.0.1:{port}", web, **about).check()


def test_what_a_host_gets_signs_nothing(ours, host):
    """A host that somebody has taken over asks for a CA of its own; the names and rights are the controller's."""
    ca = ours.make("x")
    leaf = ours.sign((host / "csr").read_text(), ca, NAMES, 825)
    forged = ours.sign((host / "csr").read_text(), {"certificate": leaf, "key": (host / "server.key").read_text()}, NAMES, 30)
    with serving(served(host, forged + leaf)) as port:
        assert trusts(ca["certificate"], port) != ""


def test_the_ca_signs_servers_and_no_other_ca(ours):
    ca = ours.make("n" * 80)
    certificate = x509.load_pem_x509_certificate(ca["certificate"].encode())
    found = {item.oid._name: item for item in certificate.extensions}
    assert found["basicConstraints"].critical and found["basicConstraints"].value == x509.BasicConstraints(True, 0)
    usage = found["keyUsage"]
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature
    assert list(found["extendedKeyUsage"].value) == [x509.ExtendedKeyUsageOID.SERVER_AUTH]
    days = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days
    assert days == 3650 and certificate.not_valid_before_utc < ours.now() - datetime.timedelta(minutes=50)
    # Of one name and two keys, a client with both files could take the one for the other.
    assert certificate.subject != x509.load_pem_x509_certificate(ours.make("n" * 80)["certificate"].encode()).subject


def with_an_end(ours, monkeypatch, days):
    """A CA that ends in so many days."""
    with monkeypatch.context() as patch:
        patch.setattr(ours, "AUTHORITY_DAYS", days)
        return ours.make("x")


def test_a_certificate_does_not_outlive_its_ca(ours, host, monkeypatch):
    ca = with_an_end(ours, monkeypatch, 40)
    for days, wanted in ((825, 40), (30, 30)):
        leaf = x509.load_pem_x509_certificate(ours.sign((host / "csr").read_text(), ca, NAMES, days).encode())
        assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == wanted


def test_the_oldest_ca_counts_that_has_not_ended(ours, monkeypatch):
    texts = {days: with_an_end(ours, monkeypatch, days) for days in (300, 200, 100, 0)}
    found = ours.oldest(["".join(texts[days].values()) for days in (300, 100, 0, 200)])
    assert found == texts[100]
    assert ours.oldest([]) == {} and ours.oldest(["".join(texts[0].values())]) == {}


def test_a_request_that_somebody_has_changed_is_not_signed(ours, host, monkeypatch):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "one")])
    der = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    der = der.public_bytes(serialization.Encoding.DER).replace(b"one", b"two")
    changed = x509.load_der_x509_csr(der).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(ValueError, match="not signed by its own key"):
        ours.sign(changed, ours.make("x"), NAMES, 30)


KEYS = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


def given(key, ca=True, critical=True, signs=True, identifier=True, issuer="x", days=10):
    """The certificate of a CA that somebody has made, and its key."""
    subject, issuer = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("x", issuer))
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(days=20))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca, None), critical)
    )
    usage = {name: False for name in plugin("module_utils", "_authority").USAGES} | {"key_cert_sign": signs, "crl_sign": True}
    builder = builder.add_extension(x509.KeyUsage(**usage), True)
    if identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    made = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode(), private(key)


def private(key, encryption=None):
    encryption = encryption or serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


@pytest.mark.parametrize("kind", KEYS)
def test_a_ca_of_another_kind_signs_as_well(ours, host, kind):
    certificate, key = given(KEYS[kind]())
    assert ours.problems(certificate, key, "v") == []
    leaf = ours.sign((host / "csr").read_text(), ours.oldest([f"{certificate}\n{key}"]), NAMES, 825)
    with serving(served(host, leaf)) as port:
        assert trusts(certificate, port) == ""


@pytest.mark.parametrize(
    "how, said",
    [
        ({}, []),
        ({"ca": False}, ["v_certificate is not a CA's"]),
        ({"critical": False}, ["v_certificate is not a CA's"]),
        ({"signs": False}, ["v_certificate is not a CA's"]),
        ({"identifier": False}, ["v_certificate has no subject key identifier"]),
        ({"issuer": "another"}, ["v_certificate is signed by another CA"]),
        ({"days": -1}, ["v_certificate ended on 20"]),
        ({"days": -1, "ca": False}, ["v_certificate is not a CA's", "v_certificate ended on 20"]),
    ],
)
def test_what_is_wrong_with_a_given_ca_is_said(how, said):
    certificate, key = given(ec.generate_private_key(ec.SECP256R1()), **how)
    problems = plugin("filter", "authority_problems").authority_problems(certificate, key, "v")
    assert len(problems) == len(said)
    for problem, text in zip(problems, said, strict=True):
        assert problem.startswith(text)


def test_what_is_wrong_with_the_key_of_a_given_ca_is_said_without_it(ours):
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, good = given(key)
    closed = private(key, serialization.BestAvailableEncryption(b"secret"))
    other = private(ec.generate_private_key(ec.SECP256R1()))
    cases = ((closed, "encrypted"), (other, "is not the key of"), (certificate, "no private key"), ("", "no private key"))
    for text, said in cases:
        (problem,) = ours.problems(certificate, text, "v")
        assert problem.startswith("v_key") and said in problem and not set(text.splitlines()[1:-1]) & set(problem.split())
    for text in ("", good, certificate + certificate):
        assert ours.problems(text, good, "v") == ["v_certificate must hold one certificate in PEM, that of the CA which signs."]
