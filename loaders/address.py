"""Addresses to listen on."""

import socket
from ipaddress import ip_address
from typing import NamedTuple

from loaders.errors import CdwError


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``HOST:PORT``; an IPv6 address stands in brackets.

        Raises:
            ValueError: it is not of that form.
        """
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
            raise ValueError("HOST:PORT is needed, for instance 127.0.0.1:2575")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it.

        Raises:
            CdwError: there is no such address.
        """
        try:
            found = socket.getaddrinfo(*self, type=socket.SOCK_STREAM)
        except OSError:
            raise CdwError(
                "there is no such address",
                where=str(self),
                do=f"listen on an address of this machine, for instance 127.0.0.1:{self.port}",
            ) from None
        return all(ip_address(str(socket_address[0])).is_loopback for *_, socket_address in found)

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.host}:{self.port}"
