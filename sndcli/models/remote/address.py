"""Where a remote model is, and who may ask it: addresses, credentials from the environment, certificates."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from sndcli.errors import ConfigError
from sndcli.models.remote.settings import Remote

PREFIXES = ("http://", "https://")


@dataclass(frozen=True)
class Address:
    """An address without credentials.

    Attributes:
        scheme: ``http`` or ``https``.
        place: ``HOST`` or ``HOST:PORT``.
        path: without a slash at its end; empty, or begins with one.
        loopback: whether it is this machine's own.
    """

    scheme: str
    place: str
    path: str
    loopback: bool

    @property
    def root(self) -> str:
        """Scheme and place."""
        return f"{self.scheme}://{self.place}"


def parse(source: str, authorised: bool) -> Address:
    """The address in ``--model http…``.

    Raises:
        ConfigError: it has a user or password, a query or a fragment, or none may be asked there.
    """
    try:
        parts = urlsplit(source)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"Expected `http://HOST:PORT[/PATH]` but that address has no meaning: {error}.") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "Expected an address without user and password.\n"
            "Credentials come from the environment only: --header-env NAME."
        )
    if parts.query or parts.fragment:
        raise ConfigError(
            "Expected an address without `?` and `#`: `http://HOST:PORT[/PATH]`.\n"
            "Credentials come from the environment (--header-env NAME), the rest from a file (--endpoint FILE)."
        )
    if not host or not re.fullmatch(r"[\x21-\x7e]+", source):
        raise ConfigError(f"Expected `http://HOST:PORT[/PATH]` but got `{source}`.")
    loopback = is_loopback(host)
    if not loopback and not authorised:
        raise ConfigError(
            f"{host} is not this machine. Attack only what you own or are asked to test;\n"
            "say that you are with --i-am-authorised."
        )
    return Address(parts.scheme, parts.netloc, parts.path.rstrip("/"), loopback)


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine's own address, which no other machine reaches.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def headers(names: Sequence[str]) -> dict[str, str]:
    """Headers from environment variables: ``Name: value``, or a token alone, which is sent as a bearer's.

    Raises:
        ConfigError: a variable that is not set, or holds no header. What it holds is not shown.
    """
    found = {}
    for name in names:
        text = os.environ.get(name, "").strip()
        header, colon, value = text.partition(":")
        if not colon:
            header, value = "Authorization", f"Bearer {text}"
        value = value.strip()
        if not text or not value or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header) or not value.isprintable():
            raise ConfigError(
                f"Expected the environment variable `{name}` to hold a header `Name: value`, or a token alone."
            )
        if not value.isascii():
            raise ConfigError(f"Expected the header in the environment variable `{name}` to be ASCII.")
        found[header] = value
    return found


def certificates(remote: Remote) -> ssl.SSLContext | bool:
    """Whom this client trusts, and who it is; True for what is usual.

    Raises:
        ConfigError: a file that is missing or holds something else; a key without a certificate.
    """
    if remote.client_key and not remote.client_cert:
        raise ConfigError("Expected --client-cert beside --client-key.")
    if not remote.client_cert and not remote.ca_file:
        return True
    try:
        context = ssl.create_default_context(cafile=remote.ca_file)
    except OSError as error:
        raise ConfigError(f"--ca-file {remote.ca_file} cannot be used: {error.strerror or error}.") from None
    if remote.client_cert:
        try:
            context.load_cert_chain(remote.client_cert, remote.client_key, password="")
        except OSError as error:
            raise ConfigError(
                f"--client-cert {remote.client_cert} cannot be used: {error.strerror or error}."
            ) from None
    return context
