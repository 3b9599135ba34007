"""Signatures as OpenSSH spells them (PROTOCOL.sshsig), made here by hand: which verify, and what is none."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from harness.release import signing, sshsig

SIGNED = b"the release"
SPACE = b"release@gold-standard-harness.dev"


def strings(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def number(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


@cache
def key(name: str) -> Any:
    curves: dict[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    if name in curves:
        return ec.generate_private_key(curves[name])
    return rsa.generate_private_key(65537, 2048) if name == "rsa" else ed25519.Ed25519PrivateKey.generate()


def line(name: str) -> bytes:
    return bytes(key(name).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def raw(name: str, kind: str, data: bytes) -> bytes:
    private = key(name)
    if name.startswith("p"):
        hashed = {"p256": hashes.SHA256(), "p384": hashes.SHA384(), "p521": hashes.SHA512()}[name]
        return strings(*map(number, decode_dss_signature(private.sign(data, ec.ECDSA(hashed)))))
    if name == "rsa":
        how = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512(), "ssh-rsa": hashes.SHA1()}[kind]
        return bytes(private.sign(data, padding.PKCS1v15(), how))
    return bytes(private.sign(data))


def made(
    name: str,
    kind: str,
    *,
    hashed: str = "sha512",
    space: bytes = SPACE,
    magic: bytes = b"SSHSIG",
    version: int = 1,
    call_it: str | None = None,
    more: tuple[bytes, ...] = (),
) -> bytes:
    """A signature by a key, in its armour."""
    over = strings(space, b"", hashed.encode(), hashlib.new(hashed, SIGNED).digest())
    blob = base64.b64decode(line(name).split()[1])
    inner = strings((call_it or kind).encode(), raw(name, kind, b"SSHSIG" + over))
    body = magic + version.to_bytes(4, "big") + strings(blob, space, b"", hashed.encode(), inner, *more)
    return armoured(body)


def armoured(body: bytes) -> bytes:
    text = base64.encodebytes(body).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{text}-----END SSH SIGNATURE-----\n".encode()


def verifies(name: str, signature: bytes, signed: bytes = SIGNED) -> bool:
    return sshsig.public_key(line(name).decode()).verifies(signature, signed)


KINDS = [
    ("ed25519", "ssh-ed25519"),
    ("rsa", "rsa-sha2-256"),
    ("rsa", "rsa-sha2-512"),
    ("p256", "ecdsa-sha2-nistp256"),
    ("p384", "ecdsa-sha2-nistp384"),
    ("p521", "ecdsa-sha2-nistp521"),
]


@pytest.mark.parametrize("hashed", ["sha256", "sha512"])
@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_every_kind_of_signature_verifies_by_its_key_alone(name: str, kind: str, hashed: str) -> None:
    signature = made(name, kind, hashed=hashed)
    assert verifies(name, signature)
    assert not verifies(name, signature, SIGNED + b".")
    assert not verifies("another", signature)
    assert sshsig.signer(signature) == sshsig.public_key(line(name).decode()).name


REFUSED: dict[str, Callable[[], bytes]] = {
    "for files": lambda: made("ed25519", "ssh-ed25519", space=b"file"),
    "an older hash": lambda: made("ed25519", "ssh-ed25519", hashed="sha1"),
    "a shorter hash": lambda: made("ed25519", "ssh-ed25519", hashed="sha384"),
    "another's kind": lambda: made("ed25519", "ssh-ed25519", call_it="rsa-sha2-512"),
    "no kind": lambda: made("ed25519", "ssh-ed25519", call_it="ssh-ed448"),
    "a field more": lambda: made("ed25519", "ssh-ed25519", more=(b"",)),
    "version 2": lambda: made("ed25519", "ssh-ed25519", version=2),
    "another magic": lambda: made("ed25519", "ssh-ed25519", magic=b"SSHSIH"),
    "cut": lambda: armoured(base64.b64decode(b"".join(made("ed25519", "ssh-ed25519").splitlines()[1:-1]))[:-1]),
    "without its beginning": lambda: made("ed25519", "ssh-ed25519").partition(b"\n")[2],
    "without its end": lambda: made("ed25519", "ssh-ed25519").rpartition(b"-----END")[0],
    "another beginning": lambda: made("ed25519", "ssh-ed25519").replace(b"BEGIN SSH", b"BEGIN PGP"),
    "another end": lambda: made("ed25519", "ssh-ed25519").replace(b"END SSH", b"END PGP"),
    "no base64": lambda: made("ed25519", "ssh-ed25519").replace(b"\nU1NIU0", b"\n*1NIU0"),
    "nothing": lambda: b"",
    "no text": lambda: b"\xff",
}


@pytest.mark.parametrize("signature", REFUSED.values(), ids=REFUSED)
def test_what_is_no_signature_of_a_release_verifies_by_no_key(signature: Callable[[], bytes]) -> None:
    assert not verifies("ed25519", signature())


def test_an_rsa_key_is_not_believed_with_sha_1() -> None:
    assert not verifies("rsa", made("rsa", "ssh-rsa"))
    assert not verifies("rsa", made("rsa", "rsa-sha2-256", call_it="rsa-sha2-512"))


@pytest.mark.parametrize("name", ["version 2", "a field more", "without its end", "nothing", "no text", "cut"])
def test_what_is_no_signature_names_no_signer(name: str) -> None:
    assert sshsig.signer(REFUSED[name]()) is None


@pytest.mark.parametrize("kind", ["ssh-ed448", "x"])
def test_a_kind_of_key_that_is_not_known_here_is_named(kind: str) -> None:
    blob = base64.b64encode(strings(kind.encode(), bytes(57))).decode()
    with pytest.raises(ValueError, match=f"^a key of the kind {kind} is not read here$"):
        sshsig.public_key(f"{kind} {blob} me")


def test_a_key_of_a_kind_that_no_program_reads_is_named() -> None:
    unknown = bytes.fromhex("300c30060604 2a030405 0302 0000".replace(" ", ""))
    text = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(unknown).decode()}\n-----END PUBLIC KEY-----\n"
    with pytest.raises(ValueError, match="a kind of key that is not read here"):
        signing._pem(text)
