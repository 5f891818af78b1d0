# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""A private CA of one level, as this collection's filters have it. Private to the collection."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519

# datetime has it by this name from Python 3.11 on.
UTC = datetime.timezone(datetime.timedelta(0))
# A client whose clock is a little behind takes them, too.
AHEAD = datetime.timedelta(hours=1)
AUTHORITY_DAYS = 3650
# A common name has room for so many characters.
COMMON_NAME = 64
PEM = serialization.Encoding.PEM
PUBLIC = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
# What a key may be used for, of which there must be a word for each.
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def now():
    return datetime.datetime.now(UTC).replace(microsecond=0)


def end_of(certificate):
    # cryptography 42 gave this an hour of the world; older ones have UTC without saying so.
    return getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after.replace(tzinfo=UTC)


def public_of(thing):
    return thing.public_key().public_bytes(*PUBLIC)


def extension(certificate, kind):
    """None where there is none."""
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def read_certificate(text):
    """The only certificate in a text. Raises ValueError."""
    (certificate,) = x509.load_pem_x509_certificates(text.encode())
    return certificate


def read_key(text):
    """The key in a text. Raises ValueError, and TypeError where it is encrypted."""
    return serialization.load_pem_private_key(text.encode(), password=None)


def _usage(*used):
    return x509.KeyUsage(**{name: name in used for name in USAGES})


def _name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text[:COMMON_NAME])])


def _digest(key):
    """Keys of these kinds have their own."""
    return None if isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)) else hashes.SHA256()


def make(name):
    """The certificate and the key of a new CA, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # Of one name and different keys, some clients would take the one for the other.
    number = f" CA {serial:x}"[:12]
    subject = _name(f"{name[: COMMON_NAME - len(number)]}{number}")
    begin = now() - AHEAD
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), serial)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=AUTHORITY_DAYS))
        # Servers alone, and no CA below this one. Not names: clients are to go on when the server gets another one.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(public, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(public), critical=False)
    )
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"certificate": builder.sign(key, hashes.SHA256()).public_bytes(PEM).decode(), "key": private.decode()}


def oldest(texts):
    """Of several CAs, each a text with certificate and key, the one that ends first of those that have not ended."""
    found = []
    for text in texts:
        certificate, key = read_certificate(text), read_key(text)
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pem = certificate.public_bytes(PEM).decode()
        if end_of(certificate) > now():
            found.append((end_of(certificate), pem, {"certificate": pem, "key": private.decode()}))
    return min(found, key=lambda item: item[:2])[2] if found else {}


def sign(request, authority, names, days):
    """
    The certificate of a server that has asked for one. The request gives its public key and nothing else: a host that
    somebody has taken over gets no other names by it.
    """
    csr = x509.load_pem_x509_csr(request.encode())
    if not csr.is_signature_valid:
        raise ValueError("the request is not signed by its own key")
    certificate, key = read_certificate(authority["certificate"]), read_key(authority["key"])
    begin = now() - AHEAD
    alternatives = [
        x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP Address" else x509.DNSName(value)
        for kind, dummy, value in (name.partition(":") for name in names)
    ]
    builder = (
        x509.CertificateBuilder(
            certificate.subject, _name(names[0].partition(":")[2]), csr.public_key(), x509.random_serial_number()
        )
        .not_valid_before(begin)
        .not_valid_after(min(begin + datetime.timedelta(days=days), end_of(certificate)))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(csr.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                extension(certificate, x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    )
    return builder.sign(key, _digest(key)).public_bytes(PEM).decode()


def problems(certificate, key, variable):
    """What is wrong with a CA that somebody has given, in a sentence for each. None of them holds the key."""
    try:
        parsed = read_certificate(certificate)
    except ValueError:
        return [f"{variable}_certificate must hold one certificate in PEM, that of the CA which signs."]
    try:
        private = read_key(key)
    except TypeError:
        return [f"{variable}_key is encrypted with a password; give it without one, and Ansible Vault protects it."]
    except ValueError:
        return [f"{variable}_key holds no private key in PEM."]
    constraints, usage = extension(parsed, x509.BasicConstraints), extension(parsed, x509.KeyUsage)
    found = []
    if not (constraints and constraints.critical and constraints.value.ca and usage and usage.value.key_cert_sign):
        found.append(f"{variable}_certificate is not a CA's: it must have CA:TRUE, as critical, and the key usage keyCertSign.")
    if extension(parsed, x509.SubjectKeyIdentifier) is None:
        found.append(f"{variable}_certificate has no subject key identifier, without which newer clients refuse what it signs.")
    if parsed.subject != parsed.issuer:
        found.append(f"{variable}_certificate is signed by another CA; it must be one that clients can trust by itself.")
    if public_of(parsed) != public_of(private):
        found.append(f"{variable}_key is not the key of the certificate in {variable}_certificate.")
    if end_of(parsed) < now():
        found.append(f"{variable}_certificate ended on {end_of(parsed):%Y-%m-%d}.")
    return found
