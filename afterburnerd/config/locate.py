"""On which line of a TOML file does each key stand?

`tomllib` gives values without positions, and a message without a line sends the operator searching. This file walks
the text a second time and notes the line of every key path. It is no second parser: it runs only on text that
`tomllib` has accepted, so it need not judge, it only has to know where strings, comments and brackets end.

    [interface]                 ("interface",)             -> 1
    queues = [                  ("interface", "queues")    -> 2
        0,                      ("interface", "queues", 0) -> 3
    ]
    [[capture]]                 ("capture",)               -> 5     first appearance of the array
    name = "tpu"                ("capture", 0)             -> 5     the header of the element
                                ("capture", 0, "name")     -> 6

A path holds the string of each key and the index of each array element, as one would write `data["capture"][0]`.
A key that appears in several places (a table that is opened again for a sub-table) keeps its first line.
"""

import re

Path = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]*")
_BASIC = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LITERAL = re.compile(r"'([^']*)'")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def locate(text: str) -> dict[Path, int]:
    """Map every key path of a valid TOML text to its line (the first is 1)."""
    return _Locator(text).run()


class _Locator:
    """One walk over one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pos = 0
        self.lines: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}  # elements so far of each array of tables
        self._line = 1  # line of _line_pos; counting on from there keeps the walk linear
        self._line_pos = 0

    def run(self) -> dict[Path, int]:
        table: Path = ()
        while self.skip_blank():
            if self.text.startswith("[[", self.pos):
                self.pos += 2
                table = self.header(array=True)
                self.pos += 2
            elif self.text[self.pos] == "[":
                self.pos += 1
                table = self.header(array=False)
                self.pos += 1
            else:
                self.pair(table)
        return self.lines

    def header(self, *, array: bool) -> Path:
        """Read the keys of a table header; return the path of the table that it opens."""
        line = self.line()
        path: Path = ()
        parts = self.keys()
        for number, part in enumerate(parts, 1):
            path += (part,)
            self.note(path, line)
            if array and number == len(parts):
                self.arrays[path] = self.arrays.get(path, 0) + 1
            if path in self.arrays:  # a header speaks of the last element of an array
                path += (self.arrays[path] - 1,)
                self.note(path, line)
        return path

    def pair(self, table: Path) -> None:
        """Read `key = value`."""
        line = self.line()
        path = table
        for part in self.keys():
            path += (part,)
            self.note(path, line)
        self.pos += 1  # the "="
        self.skip(_SPACE)
        self.value(path)

    def value(self, path: Path) -> None:
        """Read a value, noting what it contains."""
        char = self.text[self.pos]
        if char == "[":
            self.pos += 1
            index = 0
            while self.skip_blank() and self.text[self.pos] != "]":
                self.note((*path, index), self.line())
                self.value((*path, index))
                self.comma()
                index += 1
            self.pos += 1
        elif char == "{":
            self.pos += 1
            while self.skip_blank() and self.text[self.pos] != "}":
                self.pair(path)
                self.comma()
            self.pos += 1
        elif self.text.startswith('"""', self.pos):
            self.multi_line('"')
        elif self.text.startswith("'''", self.pos):
            self.multi_line("'")
        elif char == '"':
            self.skip(_BASIC)
        elif char == "'":
            self.skip(_LITERAL)
        else:
            self.skip(_SCALAR)

    def keys(self) -> list[str]:
        """Read a dotted key, each part bare or quoted; stop before "=" or "]"."""
        parts = []
        while True:
            self.skip(_SPACE)
            char = self.text[self.pos]
            if char == '"':
                parts.append(_ESCAPE.sub(_unescape, self.skip(_BASIC)[1:-1]))
            elif char == "'":
                parts.append(self.skip(_LITERAL)[1:-1])
            else:
                parts.append(self.skip(_BARE_KEY))
            self.skip(_SPACE)
            if self.text[self.pos] != ".":
                return parts
            self.pos += 1

    def multi_line(self, quote: str) -> None:
        """Skip a multi-line string. It ends at three quotes; up to two more quotes there still belong to it."""
        pos = self.pos + 3
        while not self.text.startswith(quote * 3, pos):
            pos += 2 if quote == '"' and self.text[pos] == "\\" else 1
        pos += 3
        for _ in range(2):
            if self.text.startswith(quote, pos):
                pos += 1
        self.pos = pos

    def comma(self) -> None:
        self.skip_blank()
        if self.text[self.pos] == ",":
            self.pos += 1

    def skip(self, pattern: re.Pattern[str]) -> str:
        """Skip what a pattern matches here; the text is valid, so it matches."""
        match = pattern.match(self.text, self.pos)
        assert match is not None, f"not valid TOML at offset {self.pos}"
        self.pos = match.end()
        return match.group()

    def skip_blank(self) -> bool:
        """Skip spaces, line ends and comments; False at the end of the text."""
        self.skip(_BLANK)
        return self.pos < len(self.text)

    def line(self) -> int:
        """The line that the walk is on."""
        self._line += self.text.count("\n", self._line_pos, self.pos)
        self._line_pos = self.pos
        return self._line

    def note(self, path: Path, line: int) -> None:
        self.lines.setdefault(path, line)


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    if code:
        return chr(int(code, 16))
    return _ESCAPES.get(match.group(3), match.group(3))
