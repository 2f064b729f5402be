#!/bin/sh
# Puts this release of Cairn on a machine, beside the releases that are there, and makes it the current one.
#
#   configs/systemd/install.sh [--agent] [--reflector] [--compile] [--root DIR] [--python PYTHON]
#   configs/systemd/install.sh --rollback [--root DIR]
#   configs/systemd/install.sh --remove [--root DIR]
#
# Releases stand in /opt/cairn/releases, /opt/cairn/.venv points to the current one. An upgrade is this script of the
# new release and a restart of the service: the agent's ExaBGP goes on meanwhile and no session is lost. --rollback
# points back to the release before. Configuration in /etc/cairn is only written where there is none. --remove ends the
# services, a running agent for good (its routes are withdrawn), and leaves configuration and declared state alone.
# Needs Python 3.11 or newer with venv; nothing else of the system is changed.
# --compile makes the hot modules machine code, for a busy reflector: needs a C compiler and the headers of Python.
set -eu
source=$(cd "$(dirname "$0")/../.." && pwd)
root=
python=python3
services=
compile=
action=install
while [ $# -gt 0 ]; do
    case $1 in
        --agent) services="$services agent" ;;
        --reflector) services="$services reflector" ;;
        --compile) compile=yes ;;
        --root) root=${2:?--root wants a directory}; shift ;;
        --python) python=${2:?--python wants a program}; shift ;;
        --rollback) action=rollback ;;
        --remove) action=remove ;;
        *) echo "install.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
home=$root/opt/cairn

running() { [ -z "$root" ] && [ -d /run/systemd/system ]; }
reload_systemd() { if running; then systemctl daemon-reload; fi; }

put() {  # whole or not at all, be the disk full
    cp "$1" "$2.new"
    mv "$2.new" "$2"
}

take_out() {  # what the agent leaves to the next one, nobody would end any more
    systemctl kill --kill-whom=main --signal=SIGUSR2 cairn-agent 2>/dev/null || return 0
    tries=300  # a minute: one that is frozen is only stopped, as by systemctl
    while [ $tries -gt 0 ] && systemctl show --property=ActiveState cairn-agent | grep -q '=active$\|=deactivating$'; do
        sleep 0.2
        tries=$((tries - 1))
    done
}

point_to() {  # atomically: there is no moment without a current release
    ln -sfn "$1" "$home/.venv.new"
    mv -T "$home/.venv.new" "$home/.venv"
}

case $action in
    rollback)
        before=$(cat "$home/previous" 2>/dev/null) && [ -n "$before" ] && [ -d "$root$before" ] || {
            echo "install.sh: there is no release to go back to" >&2
            exit 1
        }
        now=$(readlink "$home/.venv")
        point_to "$before"
        echo "$now" >"$home/previous"
        echo "back to ${before##*/}; restart the services"
        exit 0
        ;;
    remove)
        if running; then take_out; fi
        for service in agent reflector; do
            if running; then systemctl disable --now "cairn-$service" 2>/dev/null || true; fi
            rm -f "$root/etc/systemd/system/cairn-$service.service"
        done
        rm -rf "$home"
        rm -f "$root/usr/local/bin/cairn" "$root"/usr/local/share/man/man1/cairn*.1
        reload_systemd
        echo "removed; $root/etc/cairn was left"
        exit 0
        ;;
esac

"$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "install.sh: $python is no Python 3.11 or newer with venv; on Debian: apt install python3-venv" >&2
    exit 1
}
case $("$python" -c 'import sys; print(sys.base_prefix)') in
    /root/* | /home/*)
        echo "install.sh: $python lies where the units may not look (ProtectHome); they need one outside of /root and /home" >&2
        ;;
esac
release=$home/releases/$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/pyproject.toml")-$(date +%Y%m%d%H%M%S)
mkdir -p "$home/releases"
tools=$release/tools
trap 'rm -rf "$release"' EXIT INT TERM   # a release that was not finished leaves nothing
"$python" -m venv "$release"
pip="$release/bin/python -m pip --disable-pip-version-check install --quiet --no-input"
$pip --require-hashes -r "$source/locks/build.txt"
$pip --require-hashes --no-build-isolation -r "$source/locks/run.txt"
$pip --no-deps --no-build-isolation "$source"
if [ -n "$compile" ]; then
    $pip --require-hashes --target "$tools" -r "$source/locks/compile.txt"
    PYTHONPATH=$tools "$release/bin/python" -P -m bgpd.compiled
    rm -rf "$tools"
fi
"$release/bin/cairn" --version
mkdir -p "$root/etc/cairn/secrets" "$root/etc/systemd/system" "$root/usr/local/bin" "$root/usr/local/share/man/man1"
chmod 700 "$root/etc/cairn/secrets"
ln -sfn /opt/cairn/.venv/bin/cairn "$root/usr/local/bin/cairn"
cp "$source"/docs/man/*.1 "$root/usr/local/share/man/man1/"
for service in $services; do
    [ -e "$root/etc/cairn/$service.yaml" ] || put "$source/configs/$service.yaml" "$root/etc/cairn/$service.yaml"
    put "$source/configs/systemd/cairn-$service.service" "$root/etc/systemd/system/cairn-$service.service"
done
if [ -L "$home/.venv" ]; then readlink "$home/.venv" >"$home/previous.new"; mv "$home/previous.new" "$home/previous"; fi
trap - EXIT INT TERM
point_to "${release#"$root"}"
reload_systemd
echo "installed ${release##*/}"
for service in $services; do
    echo "next: edit $root/etc/cairn/$service.yaml, then: systemctl enable --now cairn-$service"
done
