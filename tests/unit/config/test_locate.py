"""Every key path of a TOML text is found, on the line where it stands."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afterburnerd.config.locate import Path, locate

DOCUMENT = r"""# comment with [brackets] and "quotes = 1"
title = "a # no comment, a \" quote and a ] too" # comment

[interface]
queues = [ # 5
    0, # the first, [not] {this}
    1,
]
a.b.c = 1
a . "b" . 'd' = 2
"quoted.key" = 3
'it''s' = 4 """.replace("'it''s'", "'literal.key'")


def paths(value: Any, prefix: Path = ()) -> set[Path]:
    """All key paths of parsed data."""
    found: set[Path] = {prefix} if prefix else set()
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        found |= paths(inner, (*prefix, key))
    return found


def test_lines_of_a_document() -> None:
    assert locate(DOCUMENT) == {
        ("title",): 2,
        ("interface",): 4,
        ("interface", "queues"): 5,
        ("interface", "queues", 0): 6,
        ("interface", "queues", 1): 7,
        ("interface", "a"): 9,
        ("interface", "a", "b"): 9,
        ("interface", "a", "b", "c"): 9,
        ("interface", "a", "b", "d"): 10,
        ("interface", "quoted.key"): 11,
        ("interface", "literal.key"): 12,
    }


def test_arrays_of_tables() -> None:
    text = '[[capture]]\nname = "a"\n\n[[capture]]\n[capture.sub]\nx = 1\n[[capture.list]]\n[[capture.list]]\ny = 2\n'
    lines = locate(text)
    assert lines[("capture",)] == 1
    assert lines[("capture", 0)] == 1
    assert lines[("capture", 0, "name")] == 2
    assert lines[("capture", 1)] == 4
    assert lines[("capture", 1, "sub")] == 5
    assert lines[("capture", 1, "sub", "x")] == 6
    assert lines[("capture", 1, "list", 0)] == 7
    assert lines[("capture", 1, "list", 1)] == 8
    assert lines[("capture", 1, "list", 1, "y")] == 9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n# only comments",
        "a = 1",
        "a=1\r\nb = 2\r\n[c]\r\nd = 3\r\n",
        "a = {b = 1, c = {d = [1, {e = 2}]}, 'f' = ''}",
        "a = {}\nb = []\nc = [[], [[]], {}]",
        'a = """\n[no]\nb = 1\n"""\nc = 1',
        "a = '''\n[no]\n\\'''\nc = 1",
        'a = """two quotes end it"""""\nb = 1',
        'a = """one quote ends it""""\nb = 1',
        'a = """"""\nb = 1',
        "a = ''''two in front'''''\nb = 1",
        'a = """escaped \\""" still in\\\\"""\nb = 1',
        'a = """line \\\n   continued"""\nb = 1',
        'a = "\\\\"\nb = "#"\nc = \'\\\'',
        'a = ["]", \'[\', """\n]""", "#", 1979-05-27 07:32:00, # comment ]\n 1e3]\nb = 1',
        "a = 1979-05-27T07:32:00Z\nb = -1_000\nc = 0xff\nd = inf\ne = +nan\nf = 07:32:00",
        '"" = 1\n\'a b\' = 2\n"\\u0041\\t" = 3\n"\\"" = 4',
        "[ a . b ]\nc = 1\n[ a ]\nd = 1",
        "[a.b.c]\n[a]\nx.y = 1",
        "[[a]]\n[[a.b]]\n[[a.b]]\n[a.b.c]\nd=1\n[[a]]\n[[a.b]]\nx=1",
        "a = [\n  {b = 1},\n  {b = 2, c = [\n 3]},\n]",
        "a = true # c\nb = false# c\nc = [true,false]",
        "1 = 2\n3.4 = 5\n-a_ = 6",
    ],
)
def test_finds_exactly_the_paths_that_tomllib_finds(text: str) -> None:
    assert set(locate(text)) == paths(tomllib.loads(text))


# Texts are made together with the line of each key, so the expectation does not come from a second locator.
KEYS = st.sampled_from(["a", "b", "c-d", '"q k"', "'l.k'", '"\\u00e9"'])
NAMES = {'"q k"': "q k", "'l.k'": "l.k", '"\\u00e9"': "é"}
VALUES = st.sampled_from(
    [
        "1",
        '"x # y"',
        "'''\n[z]\n'''",
        '"""\n\\"""\n"""',
        "[1,\n2, # c\n[3]]",
        "{x = [\n1], y = '}'}",
        "1979-05-27 07:32:00",
    ]
)
FILLER = st.sampled_from(["", "# [x]\n", "\n\n", "   \t\n", '# """\n'])


@given(st.lists(st.tuples(FILLER, KEYS, VALUES), unique_by=lambda t: NAMES.get(t[1], t[1])), st.booleans())
def test_lines_are_those_that_the_text_was_made_with(rows: list[tuple[str, str, str]], table: bool) -> None:
    text, want = ("[[t]]\n", {}) if table else ("", {})
    prefix: Path = ("t", 0) if table else ()
    for filler, key, value in rows:
        text += filler
        want[(*prefix, NAMES.get(key, key))] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    lines = locate(text)
    assert {p: n for p, n in lines.items() if p in want} == want
    assert set(lines) == paths(tomllib.loads(text))
