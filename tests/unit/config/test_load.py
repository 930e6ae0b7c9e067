"""Files become a configuration, or every problem that they have."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from afterburnerd.config import Config, ConfigError, Source, check_config, load, parse, peek

GOOD = """
[interface]
name = "eth0"
queues = [0, 1]

[[capture]]
name = "tpu"
port = 8001
"""


def problems(*texts: str) -> list[str]:
    """Problems of files named a, b, c ..."""
    _, found = parse([Source(name, text) for name, text in zip("abcdef", texts, strict=False)])
    return [str(p) for p in found]


def test_nothing_set_is_the_default() -> None:
    loaded, found = parse([Source("a", "")])
    assert not found
    assert loaded.config == Config()


def test_values_arrive() -> None:
    loaded, found = parse([Source("a", GOOD)])
    assert not found
    assert loaded.config.interface.name == "eth0"
    assert loaded.config.interface.queues == (0, 1)
    assert loaded.config.captures[0].port == 8001
    assert loaded.config.memory == Config().memory


def test_later_files_win_tables_merge_arrays_of_tables_append_and_origins_follow() -> None:
    drop_in = (
        '[interface]\nname = "eth1"\njumbo = "off"\n\n[[capture]]\nname = "gossip"\nport = 8000\ndecoder = "raw"\n'
    )
    loaded, found = parse([Source("a", GOOD), Source("b", drop_in)])
    assert not found
    interface = loaded.config.interface
    assert (interface.name, interface.queues, interface.jumbo) == ("eth1", (0, 1), "off")
    assert [c.name for c in loaded.config.captures] == ["tpu", "gossip"]
    assert str(loaded.origin("interface", "name")) == "b:2"
    assert str(loaded.origin("interface", "queues")) == "a:4"
    assert str(loaded.origin("capture", 0, "port")) == "a:8"
    assert str(loaded.origin("capture", 1, "decoder")) == "b:8"
    assert loaded.origin("memory", "ring") is None


def test_a_plain_list_is_a_value_and_replaced() -> None:
    loaded, _ = parse([Source("a", GOOD), Source("b", "interface.queues = [3]")])
    assert loaded.config.interface.queues == (3,)


def test_inline_tables_append_like_tables() -> None:
    loaded, found = parse([Source("a", GOOD), Source("b", 'capture = [{name = "x", port = 1}]')])
    assert not found
    assert [c.name for c in loaded.config.captures] == ["tpu", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[interface]\nquues = "all"', 'a:2: interface.quues: unknown key; did you mean "queues"?'),
        ("[interface]\nframes = 1", 'a:2: interface.frames: unknown key; did you mean "memory.frames"?'),
        ("\n[inteface]\n", 'a:2: inteface: unknown table; did you mean "interface"?'),
        ("[[captures]]\nport = 1", "a:1: captures: unknown table; did you mean [[capture]]?"),
        ('log_level = "info"', 'a:1: log_level: unknown key; did you mean "daemon.log_level"?'),
        ("memory = 3", "a:1: memory: is a table: [memory]"),
        ("[[memory]]\nring = 64", "a:1: memory: is written once: [memory]"),
        (
            "[capture]\nport = 1",
            "a:1: capture: may be written several times, so its header has two brackets: [[capture]]",
        ),
        ("[[capture]]\nport = 1", "a:1: capture[0].name: is missing, and has no default"),
        (
            '[interface]\nmode = "zerocopy"',
            'a:2: interface.mode: "zerocopy" is not accepted; expected one of "auto", "zero-copy", "copy", "generic", '
            '"socket"; did you mean "zero-copy"?',
        ),
        ("[memory]\nring = true", "a:2: memory.ring: true is not accepted; expected an integer from 64 to 65536"),
        ("[memory]\nring = 1.5", "a:2: memory.ring: 1.5 is not accepted; expected an integer from 64 to 65536"),
        (
            "[interface]\nqueues = [0, -1]",
            'a:2: interface.queues: [0, -1] is not accepted; expected "all" or a list of integers from 0 to 63',
        ),
        (
            '[daemon]\nname = "a/b"',
            'a:2: daemon.name: "a/b" is not accepted; expected a string (at most 63 letters, digits, _ and -)',
        ),
    ],
)
def test_one_problem(text: str, message: str) -> None:
    assert problems(text) == [message]


def test_an_unknown_key_that_resembles_nothing_lists_what_there_is() -> None:
    assert problems("[exporter]\nzzz = 1") == ["a:2: exporter.zzz: unknown key; the keys here are listen"]


def test_all_problems_at_once_in_the_order_of_the_files() -> None:
    first = '[[capture]]\nname = "x"\nport = 0\n[memory]\nring = 3000\nframes = "many"\n[xpd]\n'
    second = '[[capture]]\nname = "x"\nport = 7\nfoo = 1\n'
    assert [p.partition(": ")[0] for p in problems(first, second)] == ["a:3", "a:5", "a:6", "a:7", "b:4"]


def test_a_wrong_key_is_not_compared_with_others() -> None:
    """frames is no number, so the ring is not called larger than it."""
    assert len(problems('[memory]\nframes = "many"\nring = 65536')) == 1


def test_elements_keep_their_number_when_one_before_them_is_wrong() -> None:
    text = "[[capture]]\nport = 1\n" + '[[capture]]\nname = "b"\nport = 2\naddress = "224.0.0.1"\n'
    assert [p.split(":")[2].strip() for p in problems(text)] == ["capture[0].name", "capture[1].address"]


def test_a_value_that_a_later_file_replaces_must_be_right_too() -> None:
    assert [p.partition(": ")[0] for p in problems("memory.ring = 1", "memory.ring = 64")] == ["a:1"]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("a = 1\nb = \n", "a:2: is not TOML: "),
        ("a = 1\na = 2\n", "a:2: is not TOML: "),
        ('a = 1\nb = """', "a:2: is not TOML: "),
    ],
)
def test_syntax_errors_have_a_line(text: str, start: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(start)


def test_a_broken_file_does_not_hide_the_problems_of_another() -> None:
    assert [p.partition(": ")[0] for p in problems("x = ", "[memory]\nrung = 1")] == ["a:1", "b:2"]


def test_load_merges_conf_d_in_name_order_and_leaves_out_what_is_not_meant(tmp_path: Path) -> None:
    main = tmp_path / "afterburner.toml"
    main.write_text(GOOD)
    drop_ins = tmp_path / "conf.d"
    drop_ins.mkdir()
    (drop_ins / "20-b.toml").write_text("[memory]\nring = 256\n")
    (drop_ins / "10-a.toml").write_text("[memory]\nring = 128\nframes = 4096\n")
    (drop_ins / ".#20-b.toml").write_text("broken")
    (drop_ins / "30-c.toml~").write_text("broken")
    loaded = load(main)
    assert (loaded.config.memory.ring, loaded.config.memory.frames) == (256, 4096)
    assert [Path(f).name for f in loaded.files] == ["afterburner.toml", "10-a.toml", "20-b.toml"]


def test_conf_d_is_read_in_name_order_whatever_the_directory_says(tmp_path: Path) -> None:
    main = tmp_path / "afterburner.toml"
    main.write_text("")
    (tmp_path / "conf.d").mkdir()
    names = [f"{n:02}.toml" for n in range(30)]
    for name in [*names[1::2], *names[-2::-2]]:
        (tmp_path / "conf.d" / name).write_text(f"watch.hang_ms = {100 + int(name[:2])}\n")
    loaded = load(main)
    assert [Path(f).name for f in loaded.files[1:]] == names
    assert loaded.config.watch.hang_ms == 129


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"none\.toml: cannot be read: No such file or directory; name another"
    ) as caught:
        load(tmp_path / "none.toml")
    assert caught.value.exit_code == 78


def test_a_directory_and_a_binary_file_are_problems(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)
    binary = tmp_path / "x.toml"
    binary.write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(ConfigError, match=r"x\.toml:2: is not UTF-8 text"):
        load(binary)


def test_a_forbidden_file_is_a_matter_of_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root, who runs the tests, may read everything
    with pytest.raises(ConfigError, match="cannot be read: Permission denied; run as root") as caught:
        load(tmp_path / "x.toml")
    assert caught.value.exit_code == 77


def test_check_config_says_everything_and_returns_78(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[memory]\nrung = 1\nframes = 1\n")
    out, err = io.StringIO(), io.StringIO()
    assert check_config(path, out, err) == 78
    assert out.getvalue() == ""
    lines = err.getvalue().splitlines()
    assert [line.removeprefix(f"{path}").split(":")[1] for line in lines[:2]] == ["2", "3"]
    assert lines[2] == f"{path}: 2 problems found"


def test_check_config_of_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(GOOD)
    out, err = io.StringIO(), io.StringIO()
    assert check_config(os.fspath(path), out, err) == 0
    assert out.getvalue() == f"{path}: valid; 4 keys set\n"
    assert err.getvalue() == ""


def test_peek_finds_the_daemon_behind_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[daemon]\nname = "second"\nrun_dir = "/run/second"\n[memory]\nring = 3\n')
    daemon, found = peek(path)
    assert (daemon.name, daemon.run_dir) == ("second", "/run/second")
    assert len(found) == 1
