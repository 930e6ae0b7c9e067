"""The daemon as a whole: its name and place (`[daemon]`), and where it shows its figures (`[exporter]`)."""

from ipaddress import ip_address
from typing import Annotated, Literal

from afterburnerd.config.key import Shape, Table, key


class Daemon(Table, frozen=True):
    """The daemon itself: its name, where it lives, what it says."""

    name: Annotated[
        str,
        key(
            "Name of this instance. Shared memory is called `/<name>.stats` and `/<name>.records.<worker>`, "
            "so two instances on one machine need two names.",
            reload="restart",
            why="one instance a machine is the usual case",
            shape=Shape(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", "at most 63 letters, digits, _ and -"),
        ),
    ] = "afterburner"
    run_dir: Annotated[
        str,
        key(
            "Directory of the control socket (`control.sock`). It must exist and belong to the daemon's user.",
            reload="restart",
            why="systemd creates it (RuntimeDirectory=)",
            shape=Shape(r"^/", "an absolute path"),
        ),
    ] = "/run/afterburner"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        key("Least severity that is logged.", reload="live", why="info logs changes of state, never packets"),
    ] = "info"
    user: Annotated[
        str,
        key(
            "User that the data plane becomes when the daemon was started by root. Empty: it stays the user that "
            "the daemon runs as, without any capability.",
            reload="data-plane",
            why="the systemd unit already runs the daemon as a system user",
            example='"afterburner"',
            shape=Shape(r"^([a-z_][a-z0-9_-]{0,31})?$", "a user name"),
        ),
    ] = ""


class Exporter(Table, frozen=True):
    """The page that Prometheus scrapes (`/metrics`) and the health page (`/healthz`)."""

    listen: Annotated[
        str,
        key(
            'Address and port, "127.0.0.1:9475" or "[::1]:9475". Empty: no exporter.',
            reload="live",
            why="figures about a trading host are nobody else's business: open it deliberately",
        ),
    ] = "127.0.0.1:9475"


def parse_listen(text: str) -> tuple[str, int] | None:
    """Split "host:port" or "[v6]:port" of an exporter; None when it is empty (off). ValueError says what is wrong."""
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("has no port; write it as address:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address needs brackets, as in [::1]:9475")
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f'"{host}" is not an IP address (names are not resolved)') from None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise ValueError(f'"{port}" is not a port; ports are 1 to 65535')
    return host, int(port)
