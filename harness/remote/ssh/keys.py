"""SSH key pair of the operator: ed25519, made here, readable by its owner only."""

from __future__ import annotations

import getpass
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from harness.core import durable
from harness.core.errors import BadInput

_KINDS = (Ed25519PrivateKey, EllipticCurvePrivateKey, RSAPrivateKey)


def generate_keypair(path: Path) -> str:
    """Write a new ed25519 private key to ``path`` (owner only) and return its public line, also in ``path``.pub.

    An existing key is kept and its public line returned. Raises BadInput when the file there is no usable key.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    if not path.exists() and durable.create(path, private, mode=0o600):
        _make_private(path)
    public = f"{public_key(path)} gold-standard-harness"
    durable.write(path.with_name(path.name + ".pub"), f"{public}\n".encode(), mode=0o644)
    return public


def public_key(path: Path) -> str:
    """Public line (``type base64``) of a private key file. Raises BadInput when it cannot be read."""
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BadInput(f"the SSH key {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:  # TypeError: the key needs a passphrase
        raise BadInput(
            f"{path} is not an SSH private key that can be used without a passphrase: {error}",
            remedy="Name an unencrypted private key. The harness's own may be moved away: it then makes another, and "
            "has it attached.",
        ) from error
    if not isinstance(key, _KINDS):
        raise BadInput(
            f"{path} is a key of a kind that SSH servers no longer let in",
            remedy="Name an ed25519, ECDSA or RSA private key.",
        )
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode("ascii")
    )


def _make_private(path: Path) -> None:
    """Best effort on Windows, where OpenSSH refuses a key that others can read; elsewhere the mode already says it."""
    if sys.platform == "win32":
        grant = f"{getpass.getuser()}:F"
        subprocess.run(["icacls", str(path), "/inheritance:r", "/grant:r", grant], check=False, capture_output=True)
    else:
        path.chmod(0o600)
