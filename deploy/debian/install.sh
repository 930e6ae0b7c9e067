#!/usr/bin/env bash
# Installs Afterburner on a host, or below DESTDIR for a package or an image; the counterpart of `make install`.
# usage: [DESTDIR=..] [PREFIX=/usr/local] deploy/debian/install.sh [install | uninstall | purge]
#
#   $PREFIX/lib/afterburner/          a virtual environment of its own, with every dependency at the version of pyproject.toml
#   $PREFIX/bin/afterburner*          links into it
#   $PREFIX/lib/systemd/system/       afterburner.service
#   $PREFIX/lib/sysusers.d/, tmpfiles.d/
#   $PREFIX/share/afterburner/        the configuration as shipped; scrape settings, alert rules and dashboard for Prometheus
#   $PREFIX/share/man/, completions for bash, zsh and fish
#   $PREFIX/share/                    manual pages; completion for bash, zsh, fish
#   /etc/afterburner/afterburner.toml the same, only where there is none yet: an edited configuration is never touched
#
# The environment is made beside the old one and renamed into place, so an interrupted run leaves the old version whole.
# Wheels are kept in build/wheelhouse: a second run needs no network.
set -euo pipefail
umask 022
cd "$(dirname "$0")/../.."
DESTDIR=${DESTDIR:-} PREFIX=${PREFIX:-/usr/local}
venv=.venv
home=$PREFIX/lib/afterburner # where the environment will be found at run time
house=build/wheelhouse
config=/etc/afterburner/afterburner.toml
programs=(afterburnerd afterburnerctl afterburner-lab)
say() { printf '\033[1minstall:\033[0m %s\n' "$*"; }
die() { printf 'install: %s\n' "$2" >&2; exit "$1"; }

[[ $PREFIX == /* ]] || die 64 "PREFIX=$PREFIX is not an absolute path"
[[ -z $DESTDIR || $DESTDIR == /* ]] || DESTDIR=$PWD/$DESTDIR
DESTDIR=${DESTDIR%/}
[ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || die 77 "writing to $PREFIX needs root: sudo make install, or name a DESTDIR"

# Wheels of everything that the daemon needs at run time (the product's own among them) into the wheelhouse.
collect() {
    mkdir -p $house build/.stamps
    local -a needs
    mapfile -t needs < <($venv/bin/python - << 'P'
import tomllib
with open("pyproject.toml", "rb") as f:
    project = tomllib.load(f)["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["systemd"]))
P
    )
    if [ "$(cat build/.stamps/wheelhouse 2> /dev/null)" != "${needs[*]}" ]; then
        say "collecting dependencies into $house"
        rm -rf ${house:?}/*
        # PEP 517: what a source package needs for its build comes along, whatever this machine has
        $venv/bin/pip wheel -q --disable-pip-version-check --use-pep517 -w $house "${needs[@]}" \
            || die 69 "pip could not fetch the dependencies (see above): is PyPI reachable?"
        echo "${needs[*]}" > build/.stamps/wheelhouse
    fi
    say "building the wheel"
    rm -f $house/afterburner-*.whl
    # Meson and its kin are those of the development environment: nothing is fetched here.
    PATH="$PWD/$venv/bin:$PATH" $venv/bin/pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation \
        --config-settings=build-dir=build/wheel-tree -w $house . > build/wheel.log 2>&1 || { cat build/wheel.log >&2; die 69 "the wheel could not be built"; }
}

environment() {
    local at=$DESTDIR$home new=$DESTDIR$home.new file
    say "environment: $at"
    rm -rf "$new"
    mkdir -p "$(dirname "$new")"
    # System packages stay visible: python3-bpfcc (live tracing) has no counterpart on PyPI.
    /usr/bin/python3 -m venv --system-site-packages --without-pip "$new"
    $venv/bin/pip --python "$new/bin/python" install -q --disable-pip-version-check --no-index --find-links $house \
        --no-compile --ignore-installed "afterburner[systemd]"
    # Paths inside say where it will be, not where it was made.
    while IFS= read -r -d '' file; do
        ! grep -qIF "$new" "$file" || sed -i "s|$new|$home|g" "$file"
    done < <(find "$new/bin" "$new/pyvenv.cfg" -type f -print0)
    # Compiled now: the daemon sees its own files read-only.
    /usr/bin/python3 -m compileall -q -s "$new" -p "$home" "$new/lib" || die 69 "compiling the Python files failed"
    rm -rf "$at.old"
    [ ! -e "$at" ] || mv "$at" "$at.old"
    mv "$new" "$at"
    rm -rf "$at.old"
}

files() {
    local lib=$DESTDIR$PREFIX/lib share=$DESTDIR$PREFIX/share name
    say "units, account, configuration, manual"
    install -d "$DESTDIR$PREFIX/bin" "$share/afterburner" "$DESTDIR/etc/afterburner/conf.d"
    for name in "${programs[@]}"; do ln -sfn "../lib/afterburner/bin/$name" "$DESTDIR$PREFIX/bin/$name"; done
    for name in docs/man/*; do install -D -m 644 "$name" "$DESTDIR$PREFIX/share/man/man${name##*.}/${name##*/}"; done
    for name in deploy/completion/bash/*; do install -D -m 644 "$name" "$DESTDIR$PREFIX/share/bash-completion/completions/${name##*/}"; done
    for name in deploy/completion/zsh/*; do install -D -m 644 "$name" "$DESTDIR$PREFIX/share/zsh/site-functions/${name##*/}"; done
    for name in deploy/completion/fish/*; do install -D -m 644 "$name" "$DESTDIR$PREFIX/share/fish/vendor_completions.d/${name##*/}"; done
    install -d "$lib/systemd/system"
    sed "s|=/usr/bin/|=$PREFIX/bin/|" systemd/afterburner.service > "$lib/systemd/system/afterburner.service"
    install -D -m 644 systemd/sysusers.conf "$lib/sysusers.d/afterburner.conf"
    install -D -m 644 systemd/tmpfiles.conf "$lib/tmpfiles.d/afterburner.conf"
    install -m 644 config/afterburner.toml "$share/afterburner/afterburner.toml"
    install -D -m 644 -t "$share/afterburner/prometheus" deploy/prometheus/prometheus.yml deploy/prometheus/afterburner.rules.yml
    install -D -m 644 -t "$share/afterburner/grafana" deploy/grafana/*.json
    for name in docs/man/*.[1-8]; do install -D -m 644 -t "$share/man/man${name##*.}" "$name"; done
    install -D -m 644 -t "$share/bash-completion/completions" deploy/completion/bash/*
    install -D -m 644 -t "$share/zsh/site-functions" deploy/completion/zsh/*
    install -D -m 644 -t "$share/fish/vendor_completions.d" deploy/completion/fish/*
    if [ ! -e "$DESTDIR$config" ]; then
        install -m 644 config/afterburner.toml "$DESTDIR$config"
    elif ! cmp -s config/afterburner.toml "$DESTDIR$config"; then
        say "kept your $config (what this version ships: $PREFIX/share/afterburner/afterburner.toml)"
    fi
}

# What the package manager's triggers would do; below DESTDIR it is somebody else's to do.
activate() {
    [ -z "$DESTDIR" ] || return 0
    ! command -v systemd-sysusers > /dev/null || systemd-sysusers afterburner.conf
    ! command -v systemd-tmpfiles > /dev/null || systemd-tmpfiles --create afterburner.conf
    [ -d /run/systemd/system ] || { say "systemd does not run here: start $PREFIX/bin/afterburnerd by other means"; return 0; }
    systemctl daemon-reload
    if systemctl is-active -q afterburner; then
        say "now put it into force: systemctl restart afterburner"
    else
        say "edit $config, check it with 'afterburnerd --check-config', then: systemctl enable --now afterburner"
    fi
}

uninstall() {
    if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ] && systemctl cat afterburner > /dev/null 2>&1; then
        say "stopping and disabling the service"
        systemctl disable -q --now afterburner
    fi
    say "removing program, unit and links (kept: /etc/afterburner and the account)"
    local share=$DESTDIR$PREFIX/share name
    for name in "${programs[@]}"; do rm -f "$DESTDIR$PREFIX/bin/$name"; done
    rm -f "$share"/man/man[1-8]/afterburner* "$share"/{bash-completion/completions,fish/vendor_completions.d}/afterburner* \
        "$share"/zsh/site-functions/_afterburner*
    rm -rf "${DESTDIR}${home:?}" "$DESTDIR$home".{new,old} "$DESTDIR$PREFIX/share/afterburner"
    rm -f "$DESTDIR$PREFIX"/share/man/man?/afterburner{d,ctl,-lab,.toml}.? \
        "$DESTDIR$PREFIX"/share/{bash-completion/completions/,zsh/site-functions/_,fish/vendor_completions.d/}afterburner{d,ctl,-lab}{,.fish}
    rm -f "$DESTDIR$PREFIX"/lib/{systemd/system/afterburner.service,sysusers.d/afterburner.conf,tmpfiles.d/afterburner.conf}
    [ -n "$DESTDIR" ] || [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

case ${1:-install} in
    install) [ -x $venv/bin/python ] || die 69 "run 'make setup' first"; collect; environment; files; activate ;;
    uninstall) uninstall ;;
    purge) uninstall; say "removing /etc/afterburner"; rm -rf "$DESTDIR/etc/afterburner" ;;
    *) die 64 "install, uninstall or purge, not '$1'" ;;
esac
