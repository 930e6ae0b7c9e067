#!/usr/bin/env bash
# Sets this machine up to build, run and test Afterburner: Debian packages, virtual environment, build.
# Idempotent: what is done already is skipped. usage: deploy/debian/setup.sh [packages|venv|build ...]  (default: all)
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv
stamps=build/.stamps
say() { printf '\033[1msetup:\033[0m %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 69; }
digest() { cat "$@" | sha256sum | cut -d ' ' -f 1; }

packages() {
    command -v dpkg-query > /dev/null || die "this is not a Debian machine: install what deploy/debian/packages.txt lists by hand, then run 'make build'"
    local missing=() name
    while read -r name; do
        dpkg-query -W -f '${Status}' "$name" 2> /dev/null | grep -q 'ok installed' || missing+=("$name")
    done < <(sed "s/#.*//; s/ *\[$(dpkg --print-architecture)\]//; /\[/d; s/[[:space:]]*\$//; /^\$/d" deploy/debian/packages.txt)
    if [ ${#missing[@]} = 0 ]; then
        say "Debian packages: all there"
        return
    fi
    local sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo > /dev/null || die "installing ${missing[*]} needs root: run as root, or install sudo"
        sudo=(sudo)
    fi
    say "Debian packages: installing ${missing[*]}"
    "${sudo[@]}" apt-get update -q > /dev/null || die "apt-get update failed: is the package mirror reachable?"
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" > build/apt.log 2>&1 \
        || { tail -n 20 build/apt.log >&2; die "apt-get install failed (whole log: build/apt.log)"; }
}

venv() {
    local want
    want=$(digest pyproject.toml)
    if [ -x $venv/bin/python ] && [ "$(cat $stamps/venv 2> /dev/null)" = "$want" ]; then
        say "virtual environment: up to date"
        return
    fi
    # Debian's own python3, whatever else is first in PATH; its dist-packages are visible for python3-bpfcc.
    [ -x $venv/bin/python ] || { say "virtual environment: making $venv"; /usr/bin/python3 -m venv --system-site-packages $venv; }
    say "virtual environment: installing Python packages"
    local -a wants
    mapfile -t wants < <($venv/bin/python - <<'P'
import tomllib
with open("pyproject.toml", "rb") as f:
    project = tomllib.load(f)["project"]
extras = project["optional-dependencies"]
print("\n".join(project["dependencies"] + extras["systemd"] + extras["dev"]))
P
    )
    $venv/bin/pip install -q --disable-pip-version-check "${wants[@]}" || die "pip could not install the Python packages (see above): is PyPI reachable?"
    echo "$want" > $stamps/venv
}

build() {
    # In place: Python runs from the tree, the compiled files are put where an installed wheel has them.
    local tree=build/tree name target site
    [ -f $tree/build.ninja ] || { say "build: configuring"; PATH="$PWD/$venv/bin:$PATH" meson setup $tree > build/setup.log 2>&1 \
        || { cat build/setup.log >&2; die "meson setup failed (see above)"; }; }
    PATH="$PWD/$venv/bin:$PATH" ninja -C $tree -j 2 > build/compile.log 2>&1 || { cat build/compile.log >&2; die "the build failed (see above)"; }
    if grep -q 'no work to do' build/compile.log; then say "build: up to date"; else say "build: C helper and BPF object built"; fi
    mkdir -p afterburnerd/bpf afterburnerd/lab/bin
    # Renamed into place: a running daemon keeps the file that it has mapped.
    for name in afterburnerd/native/_native.abi3.so afterburnerd/bpf/afterburner.bpf.o afterburnerd/lab/bin/afterburner-labio; do
        cmp -s "$tree/$(basename $name)" $name || { cp "$tree/$(basename $name)" $name.new && mv $name.new $name; }
    done
    site=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$PWD" > "$site/afterburner.pth"
    while IFS='= ' read -r name target; do
        printf '#!%s\nimport sys\nfrom %s import %s\nsys.exit(%s())\n' "$PWD/$venv/bin/python" "${target%:*}" "${target#*:}" "${target#*:}" > "$venv/bin/$name"
        chmod +x "$venv/bin/$name"
    done < <(sed -n '/^\[project.scripts\]/,/^$/s/^\(afterburner[^ ]*\) = "\(.*\)"/\1 = \2/p' pyproject.toml)
}

mkdir -p build $stamps
[ $# -gt 0 ] || set -- packages venv build
for step in "$@"; do "$step"; done
