"""Command lines that make no sense are answered with what was meant, and every tool ends cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from afterburnerd.cli import Parser, ToolError, nearest, run_tool
from afterburnerd.ctl.main import build_parser, main

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
# As an operator has it: output is buffered, and the interpreter flushes it at its end.
ENV = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | {"PYTHONPATH": str(ROOT)}


def usage(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The error of a wrong command line."""
    assert main(list(words)) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err.splitlines()[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["statuss"], "afterburnerctl: unknown command 'statuss'; did you mean status?"),
        (
            ["xyz"],
            "afterburnerctl: unknown command 'xyz'; choose from status, top, stats, inspect, reload, config, trace, "
            "connections, dial, close, qlog, keylog, send, doctor",
        ),
        ([], "afterburnerctl: the following arguments are required: COMMAND"),
        (["--nonsense"], "afterburnerctl: unknown option --nonsense"),
        (["--jsno"], "afterburnerctl: unknown option --jsno; did you mean --json?"),
        (["config"], "afterburnerctl config: the following arguments are required: ACTION"),
        (["config", "--nonsense"], "afterburnerctl config: unknown option --nonsense"),
        (["status", "--jsno"], "afterburnerctl status: unknown option --jsno; did you mean --json?"),
        (["status", "--intervall=3"], "afterburnerctl status: unknown option --intervall"),
        (["top", "--intervall=3"], "afterburnerctl top: unknown option --intervall; did you mean --interval?"),
        (["status", "now"], "afterburnerctl status: unexpected argument 'now'"),
        (["config", "shwo"], "afterburnerctl config: unknown command 'shwo'; did you mean show?"),
        (["top", "--interval", "0"], "afterburnerctl top: argument --interval: '0' is not a positive number"),
        (["top", "--interval", "nan"], "afterburnerctl top: argument --interval: 'nan' is not a positive number"),
        (["top", "--count", "-1"], "afterburnerctl top: argument --count: '-1' is not a positive whole number"),
        (["top", "--count", "1.5"], "afterburnerctl top: argument --count: '1.5' is not a positive whole number"),
        (["status", "--conf", "x"], "afterburnerctl status: unknown option --conf; did you mean --config?"),
    ],
)
def test_wrong_command_lines(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert usage(capsys, *words) == message


@pytest.mark.parametrize(
    "words", [["afterburnerctl"], ["afterburnerd"], ["afterburner-lab"], ["afterburner-lab", "bench"]]
)
def test_every_executable_complains_of_the_flag(words: list[str]) -> None:
    done = subprocess.run([BIN / words[0], *words[1:], "--nonsense"], capture_output=True, text=True)
    assert done.returncode == 64
    assert done.stderr.splitlines()[0] == f"{' '.join(words)}: unknown option --nonsense"


def test_help_and_version_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "exit codes:" in capsys.readouterr().out
    assert main(["inspect", "--help"]) == 0
    assert main(["--version"]) == 0


def test_common_options_stand_on_either_side() -> None:
    for words in (["-j", "--name", "x", "status"], ["status", "-j", "--name", "x"], ["-j", "status", "--name", "x"]):
        args = build_parser().parse_args(words)
        assert (args.json, args.name, args.config) == (True, "x", None)


def test_every_command_takes_j() -> None:
    parser = build_parser()
    for words in (
        ["status"],
        ["top"],
        ["stats"],
        ["inspect"],
        ["reload"],
        ["config", "show"],
        ["config", "check"],
        ["config", "diff"],
        ["trace"],
        ["doctor"],
    ):
        assert parser.parse_args([*words, "-j"]).json is True
        assert parser.parse_args(words).json is False


def test_values_of_choices_are_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="x")
    parser.add_argument("--mode", choices=["fast", "slow"])
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--mode", "fats"])
    assert caught.value.code == 64
    assert "unknown value of --mode 'fats'; did you mean fast?" in capsys.readouterr().err


def test_nearest_says_nothing_rather_than_nonsense() -> None:
    assert nearest("qqq", ["status"]) == ""


def test_tool_errors_become_one_line_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise ToolError("no such thing", 77)

    assert run_tool("x", body) == 77
    assert capsys.readouterr().err == "x: no such thing\n"


def test_ctrl_c_is_130_and_bugs_are_not_hidden() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    def broken() -> int:
        raise ZeroDivisionError

    assert run_tool("x", interrupted) == 130
    with pytest.raises(ZeroDivisionError):
        run_tool("x", broken)


def tool(code: str) -> subprocess.Popen[str]:
    """A tool in a process of its own."""
    script = f"import sys, time\nfrom afterburnerd.cli import run_tool\n{code}\nsys.exit(run_tool('x', body))\n"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=ENV,
    )


@pytest.mark.parametrize("lines", [3, 100_000])
def test_a_closed_pipe_is_no_error(lines: int) -> None:
    """Few lines lie in the buffer until the end; many fill it and the pipe."""
    process = tool(
        f"def body():\n    input()\n    for n in range({lines}): print(n)\n    return 0".replace("    input()\n", "")
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.close()  # only now may it begin to print
        assert process.stderr.read() == ""
        assert process.wait(30) == 141


def test_ctrl_c_of_a_process_shows_no_traceback() -> None:
    process = tool("def body():\n    print('ready', flush=True)\n    time.sleep(60)\n    return 0")
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == ""


def test_a_real_command_survives_a_closed_pipe() -> None:
    """The pipe's reading end is closed before the tool prints, so every write fails."""
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "afterburnerd.ctl.main", "config", "show", "--config", "config/afterburner.toml"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=ENV,
        check=False,
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (141, "")


def test_help_is_quick_to_load() -> None:
    """Nothing slow is imported before a command runs."""
    code = "import sys\nfrom afterburnerd.ctl.main import build_parser\nbuild_parser()\nprint([m for m in sys.modules if m in ('rich', 'pyroute2', 'msgspec', 'asyncio')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"
