"""Manual pages and completion scripts say what the parsers say, and the programs that read them have no complaint."""

from __future__ import annotations

import argparse
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from afterburnerd import generated, manuals, roff
from afterburnerd.cli import Parser
from afterburnerd.config import schema

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "man").iterdir())


def needs(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def test_generated_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert manuals.main(["--check"]) == 0, capsys.readouterr().out


def test_check_sees_a_stale_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generated, "ROOT", tmp_path)
    assert manuals.main([]) == 0
    assert manuals.main(["--check"]) == 0
    (tmp_path / "docs/man/afterburnerctl.1").write_text("old")
    capsys.readouterr()
    assert manuals.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("docs/man/afterburnerctl.1: stale")


def test_the_terminal_makes_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow = dict(manuals.rendered())
    monkeypatch.setenv("COLUMNS", "300")
    assert dict(manuals.rendered()) == narrow


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_groff_has_no_complaint(page: Path) -> None:
    done = subprocess.run(
        [needs("groff"), "-man", "-Tutf8", "-ww", "-z", str(page)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def shown(page: Path) -> str:
    """A page as a reader sees it, without the line breaks."""
    done = subprocess.run(
        [needs("groff"), "-man", "-Tascii", "-P-cbou", "-rLL=2000n", "-rHY=0", str(page)],
        capture_output=True,
        text=True,
        check=True,
    )
    return " ".join(done.stdout.split())


def test_every_command_and_option_is_in_the_page() -> None:
    text = shown(ROOT / "docs/man/afterburnerctl.1")
    for command in (
        "status",
        "top",
        "stats [PATTERN ...]",
        "inspect",
        "reload",
        "config show",
        "config check",
        "config diff",
        "doctor",
    ):
        assert f" {command} " in text
    for option in ("--interval SECONDS", "--program BASE58", "--for SECONDS", "-j, --json", "--run-dir DIR"):
        assert option in text
    assert "77 Permission denied." in text
    assert "afterburnerctl inspect --program vote --count 10" in text
    assert text.count("--run-dir DIR") == 1, "common options stand once"


def test_every_key_is_in_the_page() -> None:
    text = shown(ROOT / "docs/man/afterburner.toml.5")
    for section in schema.sections():
        for key in section.keys:
            assert f" {key.name} {key.help.split()[0]} " in text.replace('"', "")


@pytest.mark.parametrize("text", [".starts", "'quoted'", "a-b", "back\\slash", '"q"', "`code`", "~^"])
def test_no_letter_is_markup(text: str, tmp_path: Path) -> None:
    page = roff.Page("x", 1, "y")
    page.text(text.replace("`", "``") if "`" in text else text)
    page.item(roff.bold(text), text.replace("`", ""))
    file = tmp_path / "x.1"
    file.write_text(str(page))
    assert shown(file).count(text.replace("`", "") if "`" in text else text) >= 2


def test_an_epilog_becomes_sections() -> None:
    parser = Parser(prog="x", description="Does.", epilog="exit codes:\n  3  gone\n\nexamples:\n  x --y   why\n")
    parser.add_argument("--y", choices=["a", "b"], help="yes")
    text = roff.of_parser(parser, 1, [], ["z(5)"])
    assert ".SH EXIT STATUS\n.TP\n\\fB3\\fR\nGone." in text
    assert ".SH EXAMPLES\n.PP\n.nf\n.RS 4\nx \\-\\-y   why\n.RE" in text
    assert "\\fB\\-\\-y\\fR {a, b}\nYes." in text


def test_the_value_of_a_default_is_filled_in() -> None:
    parser = argparse.ArgumentParser(prog="x", description="Does.")
    parser.add_argument("--n", default=7, help="how many (default: %(default)s)")
    assert "How many (default: 7)." in roff.of_parser(parser, 1, [], [])


def in_bash(*words: str) -> list[str]:
    """What a real bash offers for the last word."""
    quoted = " ".join(f"'{w}'" for w in words)
    script = f"""
        source deploy/completion/bash/afterburnerctl
        COMP_WORDS=({quoted})
        COMP_CWORD={len(words) - 1}
        function=$(complete -p afterburnerctl | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        $function
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    return sorted(done.stdout.split())


def in_fish(*words: str) -> list[str]:
    """What a real fish offers for the last word."""
    script = f"source deploy/completion/fish/afterburnerctl.fish; complete -C '{' '.join(words)}'"
    done = subprocess.run([needs("fish"), "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    return sorted(line.partition("\t")[0] for line in done.stdout.splitlines())


@pytest.mark.parametrize("complete", [in_bash, in_fish])
def test_shells_complete_commands_options_and_files(complete: Callable[..., list[str]]) -> None:
    assert complete("afterburnerctl", "s") == ["send", "stats", "status"]
    assert complete("afterburnerctl", "config", "") == ["check", "diff", "show"]
    assert complete("afterburnerctl", "inspect", "--m") == ["--malformed", "--max-size", "--min-size"]
    assert complete("afterburnerctl", "status", "--config", "pypro") == ["pyproject.toml"]


def expect(fd: int, seen: str, wanted: str) -> str:
    """Read from a terminal until something has been shown; returns what came behind it."""
    deadline = time.monotonic() + 30
    while wanted not in seen:
        assert select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0], seen
        seen += os.read(fd, 65_536).decode(errors="replace")
    return seen.partition(wanted)[2]


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("afterburnerctl conf", "ig"), ("afterburnerctl config ch", "eck"), ("afterburnerctl inspect --mal", "formed")],
)
def test_zsh_completes_what_is_typed(typed: str, completed: str) -> None:
    """zsh completes only at a terminal, so it gets one."""
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": "/nonexistent"}
    zsh = subprocess.Popen(
        [needs("zsh"), "-fi"], stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    )
    os.close(theirs)
    try:
        set_up = f"PS1='READY'; unsetopt zle_bracketed_paste; fpath=({ROOT}/deploy/completion/zsh $fpath)"
        os.write(ours, f"{set_up}; autoload -U compinit; compinit -u -D; echo COMP''LETE\n".encode())
        seen = expect(ours, "", "COMPLETE")
        seen = expect(ours, seen, "READY")
        os.write(ours, f"{typed}\t".encode())
        expect(ours, seen, typed + completed)
    finally:
        zsh.kill()
        zsh.wait()
        os.close(ours)
