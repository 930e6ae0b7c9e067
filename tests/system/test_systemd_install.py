"""`make install` puts down what the unit needs, nothing of the build tree in it, and never touches an edited configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from . import container
from .service import NOTHING, UNIT, Service

INSTALLED = (
    "etc/afterburner/afterburner.toml",
    "etc/afterburner/conf.d",
    "usr/local/bin/afterburner-lab",
    "usr/local/bin/afterburnerctl",
    "usr/local/bin/afterburnerd",
    "usr/local/lib/afterburner/bin/python",
    "usr/local/lib/systemd/system/afterburner.service",
    "usr/local/lib/sysusers.d/afterburner.conf",
    "usr/local/lib/tmpfiles.d/afterburner.conf",
    "usr/local/share/afterburner/afterburner.toml",
    "usr/local/share/afterburner/grafana/afterburner.json",
    "usr/local/share/afterburner/prometheus/afterburner.rules.yml",
    "usr/local/share/bash-completion/completions/afterburnerctl",
    "usr/local/share/fish/vendor_completions.d/afterburnerctl.fish",
    "usr/local/share/man/man1/afterburnerctl.1",
    "usr/local/share/man/man5/afterburner.toml.5",
    "usr/local/share/man/man8/afterburnerd.8",
    "usr/local/share/zsh/site-functions/_afterburnerctl",
)
pytestmark = pytest.mark.privileged


def install(stage: Path, *action: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [container.ROOT / "deploy/debian/install.sh", *action],
        env={**os.environ, "DESTDIR": str(stage), **env},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(stage: Path, tmp_path: Path) -> Path:
    """An installation that a test may change."""
    return Path(shutil.copytree(stage, tmp_path / "root", symlinks=True))


def test_everything_is_there(stage: Path) -> None:
    assert [name for name in INSTALLED if not os.path.lexists(stage / name)] == []


def test_links_into_the_environment_are_relative(stage: Path) -> None:
    for name in ("afterburnerd", "afterburnerctl", "afterburner-lab"):
        assert (stage / "usr/local/bin" / name).resolve() == stage / "usr/local/lib/afterburner/bin" / name


def test_nothing_installed_names_the_place_it_was_made_in(stage: Path) -> None:
    places = ("-e", str(stage), "-e", str(container.ROOT))
    # compiled C names its sources in assertions and debug information, relative to the build directory
    found = subprocess.run(["grep", "-rlF", *places, stage], capture_output=True, text=True)
    assert found.stdout.splitlines() == []


def test_an_edited_configuration_is_kept_and_the_new_one_shown(copy: Path) -> None:
    config = copy / "etc/afterburner/afterburner.toml"
    config.write_text("# mine\n")
    again = install(copy)
    assert again.returncode == 0, again.stderr
    assert config.read_text() == "# mine\n"
    assert "kept your /etc/afterburner/afterburner.toml" in again.stdout
    shipped = copy / "usr/local/share/afterburner/afterburner.toml"
    assert shipped.read_text() == (container.ROOT / "config/afterburner.toml").read_text()


def test_a_second_run_replaces_the_environment_whole(copy: Path) -> None:
    home = copy / "usr/local/lib/afterburner"
    (home / "left over from an older version").touch()
    assert install(copy).returncode == 0
    assert sorted(p.name for p in home.parent.glob("afterburner*")) == ["afterburner"]
    assert not (home / "left over from an older version").exists()


def test_another_prefix_reaches_the_unit(tmp_path: Path) -> None:
    done = install(tmp_path, PREFIX="/opt/burn")
    assert done.returncode == 0, done.stderr
    unit = (tmp_path / "opt/burn/lib/systemd/system/afterburner.service").read_text()
    commands = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("Exec")]
    assert commands and all(command.startswith("/opt/burn/bin/afterburner") for command in commands)
    shebang = (tmp_path / "opt/burn/lib/afterburner/bin/afterburnerd").read_text().splitlines()[0]
    assert shebang == "#!/opt/burn/lib/afterburner/bin/python"


def test_uninstall_leaves_the_configuration_and_purge_leaves_nothing(copy: Path) -> None:
    assert install(copy, "uninstall").returncode == 0
    assert sorted(str(p.relative_to(copy)) for p in copy.rglob("*") if not p.is_dir()) == [
        "etc/afterburner/afterburner.toml"
    ]
    assert install(copy, "purge").returncode == 0
    assert [p for p in copy.rglob("*") if not p.is_dir()] == []
    assert not (copy / "etc/afterburner").exists()


def test_a_relative_prefix_is_refused(tmp_path: Path) -> None:
    done = install(tmp_path, PREFIX="opt")
    assert done.returncode == 64
    assert "PREFIX=opt is not an absolute path" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_installed_environment_is_complete(machine: container.Container) -> None:
    code = "import afterburnerd.native as n, systemd.daemon, bcc; print(n.__file__)"
    assert machine.run("/usr/local/lib/afterburner/bin/python", "-c", code).stdout.startswith("/usr/local/lib/")
    assert machine.path(
        "/usr/local/lib/afterburner/lib/python3.11/site-packages/afterburnerd/bpf/afterburner.bpf.o"
    ).exists()


def test_the_account_has_no_shell_and_no_home(machine: container.Container) -> None:
    assert machine.run("getent", "passwd", "afterburner").stdout.rstrip().endswith(":/nonexistent:/usr/sbin/nologin")


@pytest.mark.timeout(600)
def test_install_upgrade_and_removal_on_a_running_machine(tmp_path: Path) -> None:
    """As an administrator does it: the command itself runs inside, where systemd is."""
    command = str(container.ROOT / "deploy/debian/install.sh")
    with container.booted(tmp_path) as machine:
        assert machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
        first = machine.run(command, timeout=300)
        assert "systemctl enable --now afterburner" in first.stdout
        service = Service(machine)
        service.configure(service.config)
        machine.run("systemctl", "enable", "--now", UNIT)
        service.serves()
        main = service.main_pid()

        again = machine.run(command, timeout=300)
        assert "systemctl restart afterburner" in again.stdout
        assert service.main_pid() == main
        service.serves()
        machine.run("systemctl", "restart", UNIT)
        assert service.main_pid() != main
        service.serves()

        machine.run(command, "uninstall")
        assert service.left_over() == NOTHING
        assert machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
        assert machine.run("sh", "-c", "command -v afterburnerd afterburnerctl", check=False).stdout == ""
        assert machine.path("/etc/afterburner/conf.d/50-test.toml").exists()
