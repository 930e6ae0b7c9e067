"""The configuration: what can be set, how it is read, and what changes when it is read again.

    key.py       what a key is made of: help, reload class, limits; the kinds that keys share
    tables/      the keys: frozen structs, a file for each concept                         (data)
    model.py     the tables put together                                                   (data)
    schema.py    the model read back: sections, keys, what a key accepts in words
    locate.py    key path -> line of a TOML text
    load.py      files -> Config, or every problem with file, line, key path and a suggestion
    check.py     keys against each other
    diff.py      two configurations -> changes and what a reload does with them
    generate.py  writes config/afterburner.toml and docs/configuration.md from the model

Everything here is pure but for `load.read`, which reads files. Nothing here imports other rooms of the daemon, and
nothing looks at the machine.
"""

from afterburnerd.config import schema
from afterburnerd.config.diff import Change, diff, worst
from afterburnerd.config.load import (
    DEFAULT_PATH,
    ConfigError,
    Loaded,
    Origin,
    Problem,
    Source,
    check_config,
    key_path,
    load,
    parse,
    peek,
)
from afterburnerd.config.model import (
    Capture,
    Config,
    Connect,
    Daemon,
    Exporter,
    Interface,
    Listen,
    Memory,
    Quic,
    Records,
    Reload,
    Watch,
    Worker,
    Xdp,
    parse_listen,
)

__all__ = [
    "DEFAULT_PATH",
    "Capture",
    "Change",
    "Config",
    "ConfigError",
    "Connect",
    "Daemon",
    "Exporter",
    "Interface",
    "Listen",
    "Loaded",
    "Memory",
    "Origin",
    "Problem",
    "Quic",
    "Records",
    "Reload",
    "Source",
    "Watch",
    "Worker",
    "Xdp",
    "check_config",
    "diff",
    "key_path",
    "load",
    "parse",
    "parse_listen",
    "peek",
    "schema",
    "worst",
]
