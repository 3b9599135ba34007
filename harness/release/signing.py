"""Signs a release with a key of the operator's, and holds a signed one against the key that it should be by.

Two kinds of key: OpenSSH's, by its own program, so that agent, passphrase and hardware stay its business; and
Ed25519 in PEM, whose signatures other DSSE tools read, too.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from harness.core.errors import BadInput
from harness.core.text import printable
from harness.release.envelope import Envelope, Signature
from harness.release.sshsig import NAMESPACE, public_key, signer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_MAX_BYTES: Final = 1 << 16
_PRIVATE: Final = "PRIVATE KEY-----"


class PublicKey(Protocol):
    """A key that a signature can be held against."""

    @property
    def name(self) -> str:
        """Digest of the key, as its own tools print it."""

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """True when the signature is this key's, of these bytes."""


@dataclass(frozen=True, slots=True)
class PemPublicKey:
    """An Ed25519 key; ``name`` is the SHA-256 of its SubjectPublicKeyInfo, ``verify`` raises InvalidSignature."""

    name: str
    verify: Callable[[bytes, bytes], None]

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """True when the signature is this key's, of these bytes."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # heavy

        try:
            self.verify(signature, signed)
        except InvalidSignature:
            return False
        return True


def public_keys(path: Path) -> tuple[PublicKey, ...]:
    """The keys of a file: one in PEM, or OpenSSH's, one a line; raises BadInput."""
    text = _text(path)
    if _PRIVATE in text:
        raise BadInput(
            f"{path} is a private key, and a signature is checked with the public one",
            remedy="Name the .pub file beside it, or: openssl pkey -in KEY -pubout",
        )
    try:
        if "-----BEGIN" in text:
            return (_pem(text),)
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        found = tuple(public_key(line) for line in lines)
    except ValueError as error:
        raise BadInput(f"{path} is no public key that is known here: {printable(str(error), 200)}") from error
    if not found:
        raise BadInput(f"{path} has no key in it")
    return found


def signed(envelope: Envelope, key: Path) -> Envelope:
    """The envelope with a signature by this key, in the place of an older one by it; raises BadInput."""
    made = _by_pem(envelope, key) if "BEGIN PRIVATE KEY" in _text(key) else _by_ssh(envelope, key)
    others = tuple(one for one in envelope.signatures if one.keyid != made.keyid)
    return replace(envelope, signatures=(*others, made))


def verifier(envelope: Envelope, keys: Sequence[PublicKey]) -> PublicKey | None:
    """The key by which the envelope is signed, of those that are trusted; None when it is signed by none of them."""
    pairs = ((key, one) for key in keys for one in envelope.signatures)
    return next((key for key, one in pairs if key.verifies(one.data, envelope.signed)), None)


def problem(envelope: Envelope, keys: Sequence[PublicKey]) -> str:
    """The reason why an envelope is signed by none of these keys, in words."""
    trusted = " or ".join(key.name for key in keys)
    if not envelope.signatures:
        return f"it is not signed, and was to be signed by {trusted}"
    claimed = [signer(one.data) or one.keyid or "a key that it does not name" for one in envelope.signatures]
    if any(key.name in claimed for key in keys):
        return f"the signature by {trusted} is of another statement, or was not made for a release"
    return f"it is signed by {printable(', '.join(claimed), 200)}, and not by {trusted}"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is no key: it is not text") from error
    except OSError as error:
        raise BadInput(f"cannot read the key {path}: {error.strerror or error}") from error


def _pem(text: str) -> PemPublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # heavy
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415  # heavy
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415  # heavy

    try:
        key = load_pem_public_key(text.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError("a kind of key that is not read here") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("a key in PEM must be an Ed25519 one")  # noqa: TRY004 - one error for all that is not read
    return _known(key)


def _known(key: Ed25519PublicKey) -> PemPublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415  # heavy

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PemPublicKey(hashlib.sha256(der).hexdigest(), key.verify)


def _by_pem(envelope: Envelope, path: Path) -> Signature:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  # heavy
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415  # heavy

    try:
        key = load_pem_private_key(_text(path).encode(), None)
    except ValueError as error:
        raise BadInput(f"{path} is no private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path} is no Ed25519 key", remedy="openssl genpkey -algorithm ed25519 makes one.")
    return Signature(_known(key.public_key()).name, key.sign(envelope.signed))


def _by_ssh(envelope: Envelope, path: Path) -> Signature:
    """A signature that ssh-keygen makes; it asks for passphrase and touch at the terminal, by itself."""
    words = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(path)]
    try:
        done = subprocess.run(words, input=envelope.signed, stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise BadInput(
            f"ssh-keygen cannot be started: {error.strerror or error}",
            remedy="Install OpenSSH's client (Windows: Settings, Optional features), or name an Ed25519 key in PEM.",
        ) from error
    name = signer(done.stdout)
    if done.returncode or name is None:
        raise BadInput(
            f"ssh-keygen did not sign with {path}; it said why above", remedy="ssh-add -l lists the agent's keys."
        )
    return Signature(name, done.stdout)
