"""Signatures by OpenSSH's keys, in its own form (its PROTOCOL.sshsig): ``ssh-keygen -Y sign`` makes them. Pure.

A signature by an SSH key names what it is for, the namespace, so that a login or a commit signed with the same key
cannot be shown as a release.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

NAMESPACE: Final = "release@gold-standard-harness.dev"

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = (1).to_bytes(4, "big")
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----"
_END: Final = "-----END SSH SIGNATURE-----"
_HASHES: Final = ("sha256", "sha512")


@dataclass(frozen=True, slots=True)
class SshPublicKey:
    """A public key of OpenSSH: its bytes, and the key that they are."""

    blob: bytes
    key: Any

    @property
    def name(self) -> str:
        """Fingerprint, as ``ssh-keygen -l`` prints it."""
        return fingerprint(self.blob)

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """True when the signature is this key's, of these bytes, as a release."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # heavy

        try:
            blob, namespace, reserved, named, inner = _fields(signature)
            kind, raw = _strings(inner)
            if blob != self.blob or namespace != NAMESPACE.encode() or named.decode() not in _HASHES:
                return False
            hashed = hashlib.new(named.decode(), signed).digest()
            _verify(self.key, kind.decode(), raw, _MAGIC + _joined((namespace, reserved, named, hashed)))
        except (ValueError, InvalidSignature):
            return False
        return True


def public_key(line: str) -> SshPublicKey:
    """The key of a line ``type base64 comment``, as ``id_ed25519.pub`` has it; raises ValueError."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # heavy
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415  # heavy
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key  # noqa: PLC0415  # heavy

    kind, _, rest = line.strip().partition(" ")
    try:
        key = load_ssh_public_key(line.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError(f"a key of the kind {kind} is not read here") from error
    if kind.startswith("sk-") or not isinstance(
        key, ed25519.Ed25519PublicKey | rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    ):
        raise ValueError(f"a key of the kind {kind} is not read here")
    return SshPublicKey(base64.b64decode(rest.split()[0], validate=True), key)


def signer(signature: bytes) -> str | None:
    """Fingerprint of the key that a signature says it is by; None when it is none of OpenSSH's."""
    try:
        return fingerprint(_fields(signature)[0])
    except ValueError:
        return None


def fingerprint(blob: bytes) -> str:
    """A public key's SHA-256, as OpenSSH prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _fields(signature: bytes) -> tuple[bytes, ...]:
    """Public key, namespace, reserved, name of the hash, signature; raises ValueError."""
    lines = signature.decode("ascii").split()
    text = " ".join(lines)
    if not (text.startswith(_BEGIN) and text.endswith(_END)):
        raise ValueError("not a signature of OpenSSH")
    data = base64.b64decode(text[len(_BEGIN) : -len(_END)].replace(" ", ""), validate=True)
    head = _MAGIC + _VERSION
    fields = _strings(data.removeprefix(head))
    if not data.startswith(head) or len(fields) != 5:
        raise ValueError("not a signature of OpenSSH's first version")
    return fields


def _strings(data: bytes) -> tuple[bytes, ...]:
    """The strings that bytes are made of, each behind its length; raises ValueError."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        if len(data) < end:
            raise ValueError("it is cut short")
        found.append(data[4:end])
        data = data[end:]
    return tuple(found)


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _verify(key: Any, kind: str, raw: bytes, data: bytes) -> None:
    """Raise InvalidSignature, or ValueError for a kind that this key does not make (SHA-1 among them)."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415  # heavy
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils  # noqa: PLC0415  # heavy

    if isinstance(key, ed25519.Ed25519PublicKey) and kind == "ssh-ed25519":
        key.verify(raw, data)
    elif isinstance(key, rsa.RSAPublicKey) and kind in {"rsa-sha2-256", "rsa-sha2-512"}:
        key.verify(raw, data, padding.PKCS1v15(), hashes.SHA256() if kind.endswith("256") else hashes.SHA512())
    elif isinstance(key, ec.EllipticCurvePublicKey) and kind == f"ecdsa-sha2-nistp{key.key_size}":
        r, s = (int.from_bytes(number, "big", signed=True) for number in _strings(raw))
        hashed = {256: hashes.SHA256(), 384: hashes.SHA384()}.get(key.key_size, hashes.SHA512())
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashed))
    else:
        raise ValueError(f"{kind} is no signature of this key")
