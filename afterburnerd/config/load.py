"""From files to a checked `Config`, or to everything that is wrong with them.

    afterburner.toml, conf.d/10-a.toml, conf.d/20-b.toml       read, in this order
        | tomllib: values     locate: lines
        v
    one document each  -- every key checked against the model --> problems
        | tables merge, arrays of tables append, of a value the last file wins
        v
    Config  -- check.py: keys against each other --> problems

`parse` does all of that on texts and never raises: it returns the best configuration it could make together with all
problems, each with file, line and key path. `load` reads files and raises `ConfigError` when there is any problem.
`peek` is for tools that must find a running daemon even while its file is being edited.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, TextIO

import msgspec
from msgspec import Struct

from afterburnerd.config import schema
from afterburnerd.config.check import check
from afterburnerd.config.locate import Path, locate
from afterburnerd.config.model import Config, Daemon

DEFAULT_PATH = "/etc/afterburner/afterburner.toml"

EXIT_OK = 0
EXIT_PERMISSION = 77
EXIT_CONFIG = 78


class Source(Struct, frozen=True):
    """One configuration file."""

    file: str
    text: str


class Origin(Struct, frozen=True):
    """Where a key was set."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Problem(Struct, frozen=True):
    """One thing that is wrong."""

    file: str
    line: int  # 0: the file as a whole
    path: str  # key path; empty: no single key
    message: str
    permission: bool = False  # the file may not be read

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class Loaded(Struct, frozen=True):
    """A configuration and where it came from."""

    config: Config
    files: tuple[str, ...]
    origins: Mapping[Path, Origin]  # keys that a file sets; what is not here has its default

    def origin(self, *path: str | int) -> Origin | None:
        """Where a key was set, e.g. origin("capture", 0, "port"); None: it has its default."""
        return self.origins.get(path)


class ConfigError(Exception):
    """The configuration cannot be used. `str()` is all problems, one a line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = tuple(problems)

    @property
    def exit_code(self) -> int:
        """78, or 77 when nothing but a missing permission is wrong."""
        return EXIT_PERMISSION if all(p.permission for p in self.problems) else EXIT_CONFIG


def load(path: str | FilePath = DEFAULT_PATH) -> Loaded:
    """Load the main file and its `conf.d/*.toml`. Raises ConfigError with all problems."""
    sources, problems = read(path)
    loaded, more = parse(sources)
    if problems or more:
        raise ConfigError([*problems, *more])
    return loaded


def peek(path: str | FilePath = DEFAULT_PATH) -> tuple[Daemon, list[Problem]]:
    """Name and run directory as far as they can be read, defaults otherwise; and what is wrong with the files."""
    sources, problems = read(path)
    loaded, more = parse(sources)
    return loaded.config.daemon, [*problems, *more]


def check_config(path: str | FilePath, out: TextIO, err: TextIO) -> int:
    """Check and say the result (`afterburnerd --check-config`). Returns the exit code."""
    try:
        loaded = load(path)
    except ConfigError as error:
        count = len(error.problems)
        print(error, file=err)
        print(f"{path}: {count} problem{'s' if count > 1 else ''} found", file=err)
        return error.exit_code
    keys = sum(1 for p in loaded.origins if isinstance(p[-1], str) and len(p) > 1)
    print(f"{', '.join(loaded.files)}: valid; {keys} keys set", file=out)
    return EXIT_OK


def read(path: str | FilePath) -> tuple[list[Source], list[Problem]]:
    """Read the main file and the files of `conf.d` beside it, in name order (hidden ones are left out)."""
    main = FilePath(path)
    sources: list[Source] = []
    problems: list[Problem] = []
    drop_ins = main.parent / "conf.d"
    try:
        extra = sorted(p for p in drop_ins.iterdir() if p.suffix == ".toml" and not p.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        extra = []
    except OSError as error:
        problems.append(_unreadable(drop_ins, error))
        extra = []
    for file in (main, *extra):
        try:
            sources.append(Source(str(file), file.read_bytes().decode()))
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            problems.append(Problem(str(file), line, "", "is not UTF-8 text"))
        except OSError as error:
            problems.append(_unreadable(file, error))
    return sources, problems


def _unreadable(file: FilePath, error: OSError) -> Problem:
    permission = isinstance(error, PermissionError)
    hint = ""
    if permission:
        hint = "; run as root or as a member of its group"
    elif isinstance(error, FileNotFoundError):
        hint = "; name another with --config, or start from the one that is shipped"
    return Problem(str(file), 0, "", f"cannot be read: {error.strerror}{hint}", permission)


def parse(sources: Sequence[Source]) -> tuple[Loaded, list[Problem]]:
    """Merge and check texts. Never raises: returns what could be understood, and all problems."""
    merge = _Merge()
    for source in sources:
        merge.add(source)
    merge.require()
    config, kept = merge.build()
    if not merge.unusable:  # with a file missing, keys would be compared with values they were never meant for
        merge.cross_check(config, kept)
    files = tuple(s.file for s in sources)
    order = {file: n for n, file in enumerate(files)}
    problems = sorted(merge.problems, key=lambda p: (order.get(p.file, len(files)), p.line))
    return Loaded(config, files, merge.origins), problems


class _Merge:
    """The merged document while it grows. Paths are those of the merged document, not of a single file."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.origins: dict[Path, Origin] = {}
        self.bad: set[Path] = set()  # keys and elements that are wrong by themselves
        self.unusable = False  # a file could not be parsed at all
        self.tables: dict[str, dict[str, Any]] = {s.name: {} for s in schema.sections() if not s.array}
        self.arrays: dict[str, list[dict[str, Any]]] = {s.name: [] for s in schema.sections() if s.array}

    def add(self, source: Source) -> None:
        """Merge one file."""
        try:
            document = tomllib.loads(source.text)
        except tomllib.TOMLDecodeError as error:
            self.unusable = True
            self.problems.append(_syntax(source, error))
            return
        lines = locate(source.text)
        for name, value in document.items():
            here = Origin(source.file, lines.get((name,), 0))
            section = schema.section(name)
            if section is None:
                self.problem(here, (name,), "unknown " + ("table" if _tabular(value) else "key") + _guess_section(name))
            elif section.array:
                self.add_array(section, value, here, lines, source)
            elif isinstance(value, dict):
                self.origins.setdefault((name,), here)
                self.add_table(section, value, (name,), (name,), self.tables[name], lines, source)
            else:
                self.bad.add((name,))
                how = "written once" if _tabular(value) else "a table"
                self.problem(here, (name,), f"is {how}: [{name}]")

    def add_array(
        self, section: schema.Section, value: Any, here: Origin, lines: Mapping[Path, int], source: Source
    ) -> None:
        """Append the elements of an array of tables."""
        name = section.name
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            self.bad.add((name,))
            self.problem(here, (name,), f"may be written several times, so its header has two brackets: [[{name}]]")
            return
        self.origins.setdefault((name,), here)
        for local, element in enumerate(value):
            index = len(self.arrays[name])
            path: Path = (name, index)
            self.arrays[name].append({})
            self.origins[path] = Origin(source.file, lines.get((name, local), here.line))
            self.add_table(section, element, path, (name, local), self.arrays[name][index], lines, source)

    def add_table(
        self,
        section: schema.Section,
        values: dict[str, Any],
        path: Path,
        local: Path,
        into: dict[str, Any],
        lines: Mapping[Path, int],
        source: Source,
    ) -> None:
        """Check the keys of a table and merge the good ones. `local` is the table's path in its own file."""
        for name, value in values.items():
            here = Origin(source.file, lines.get((*local, name), 0))
            key = section.key(name)
            if key is None:
                self.problem(here, (*path, name), "unknown key" + _guess_key(section, name))
                continue
            try:
                into[name] = schema.convert(value, key.type)
            except ValueError as error:
                into.pop(name, None)
                self.bad.add((*path, name))
                self.problem(here, (*path, name), f"{error}{_guess_value(key, value)}")
            else:
                self.origins[(*path, name)] = here

    def require(self) -> None:
        """Report required keys that are nowhere."""
        for section in schema.sections():
            required = [k.name for k in section.keys if k.required]
            tables: list[tuple[Path, dict[str, Any]]] = (
                [((section.name, n), t) for n, t in enumerate(self.arrays[section.name])]
                if section.array
                else [((section.name,), self.tables[section.name])]
            )
            for path, table in tables:
                for name in required:
                    if name not in table and (*path, name) not in self.bad:
                        self.bad.add((*path, name))
                        self.problem(self.origins[path], (*path, name), "is missing, and has no default")

    def build(self) -> tuple[Config, dict[str, list[int]]]:
        """Make the configuration from what is good, and say which element of an array became which."""
        document: dict[str, Any] = {name: table for name, table in self.tables.items() if table}
        kept: dict[str, list[int]] = {}
        for section in schema.sections():
            if section.array:
                need = [k.name for k in section.keys if k.required]
                elements = self.arrays[section.name]
                kept[section.name] = [n for n, e in enumerate(elements) if all(k in e for k in need)]
                if kept[section.name]:
                    document[section.name] = [elements[n] for n in kept[section.name]]
        return msgspec.convert(document, Config), kept

    def cross_check(self, config: Config, kept: Mapping[str, list[int]]) -> None:
        """Check keys against each other."""
        for finding in check(config):
            paths = [_as_written(p, kept) for p in finding.paths]
            if any(p[:n] in self.bad for p in paths for n in range(1, len(p) + 1)):
                continue
            blamed = next((p for p in paths if p in self.origins), paths[0])
            other = f"{key_path(paths[-1][:2])} ({self.place(paths[-1])})"
            self.problem(self.place(blamed), blamed, finding.message.replace("{other}", other))

    def place(self, path: Path) -> Origin:
        """Where a key is written, or the closest thing around it."""
        around = (path[:n] for n in range(len(path), 0, -1))
        return next((self.origins[p] for p in around if p in self.origins), Origin("(defaults)", 0))

    def problem(self, origin: Origin, path: Path, message: str) -> None:
        self.problems.append(Problem(origin.file, origin.line, key_path(path), message))


def key_path(path: Path) -> str:
    """Write a path as people do: capture[0].port."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f"{'.' if text else ''}{schema.toml_key(part)}"
    return text


def _as_written(path: Path, kept: Mapping[str, list[int]]) -> Path:
    """Translate an index of the built configuration to that of the merged document."""
    if len(path) < 2 or not isinstance(path[1], int):
        return path
    indices = kept.get(str(path[0])) or [path[1]]
    return (path[0], indices[path[1]], *path[2:])


def _syntax(source: Source, error: tomllib.TOMLDecodeError) -> Problem:
    """tomllib puts the position into the text: "... (at line 3, column 5)" or "... (at end of document)"."""
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
    if match is None:
        return Problem(source.file, 0, "", f"is not TOML: {error}")
    message, line, column = match.groups()
    if line is None:
        return Problem(source.file, source.text.count("\n") + 1, "", f"is not TOML: {message} at the end of the file")
    return Problem(source.file, int(line), "", f"is not TOML: {message} (column {column})")


def _tabular(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _nearest(word: str, among: Iterator[str] | Sequence[str]) -> str | None:
    close = difflib.get_close_matches(word, list(among), n=1, cutoff=0.6)
    return close[0] if close else None


def _guess_section(name: str) -> str:
    near = _nearest(name, [s.name for s in schema.sections()])
    if near:
        section = schema.section(near)
        return f'; did you mean "{near}"?' if section is None or not section.array else f"; did you mean [[{near}]]?"
    return _guess_elsewhere(name) or f"; the tables are {', '.join(s.name for s in schema.sections())}"


def _guess_key(section: schema.Section, name: str) -> str:
    near = _nearest(name, [k.name for k in section.keys])
    elsewhere = _guess_elsewhere(name)
    if near and not elsewhere:
        return f'; did you mean "{near}"?'
    return elsewhere or f"; the keys here are {', '.join(k.name for k in section.keys)}"


def _guess_elsewhere(name: str) -> str:
    """A key that exists, but in another table."""
    homes = [f'"{s.name}.{name}"' for s in schema.sections() if s.key(name)]
    return f"; did you mean {' or '.join(homes)}?" if homes else ""


def _guess_value(key: schema.Key, value: Any) -> str:
    near = _nearest(value, schema.choices(key.type)) if isinstance(value, str) else None
    return f'; did you mean "{near}"?' if near else ""
