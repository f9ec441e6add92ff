#!/usr/bin/env bash
# Set-up for `make`: does what is missing, and nothing, silently, where all is there.
#
#   1. .venv with this package (editable), its tests and its tools, pinned by constraints.txt, and
#      with PyTorch for its tests, where pip knows a place that has the build for CPUs
#   2. the system libraries behind napari's window, and Xvfb, on Debian and Ubuntu
#
# PYTHON=/path/to/python chooses the interpreter. macOS's bash 3.2 runs this too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin # ldconfig: not on the path of a Debian user who is not root

readonly STAMP=.venv/.set-up

# What PyQt6 (`readelf -d` of its Qt libraries and of the xcb plugin), vispy's OpenGL and the
# tests load from the system, and the package that brings it. Packages were renamed between
# releases (libglib2.0-0t64), library names were not: so we look for libraries.
readonly NEEDED='
libEGL.so.1               libegl1
libGL.so.1                libgl1
libX11.so.6               libx11-6
libX11-xcb.so.1           libx11-xcb1
libdbus-1.so.3            libdbus-1-3
libfontconfig.so.1        libfontconfig1
libfreetype.so.6          libfreetype6
libglib-2.0.so.0          libglib2.0-0
libgssapi_krb5.so.2       libgssapi-krb5-2
libxcb-cursor.so.0        libxcb-cursor0
libxcb-glx.so.0           libxcb-glx0
libxcb-icccm.so.4         libxcb-icccm4
libxcb-image.so.0         libxcb-image0
libxcb-keysyms.so.1       libxcb-keysyms1
libxcb-randr.so.0         libxcb-randr0
libxcb-render-util.so.0   libxcb-render-util0
libxcb-render.so.0        libxcb-render0
libxcb-shape.so.0         libxcb-shape0
libxcb-shm.so.0           libxcb-shm0
libxcb-sync.so.1          libxcb-sync1
libxcb-util.so.1          libxcb-util1
libxcb-xfixes.so.0        libxcb-xfixes0
libxcb-xkb.so.1           libxcb-xkb1
libxkbcommon.so.0         libxkbcommon0
libxkbcommon-x11.so.0     libxkbcommon-x11-0
xvfb-run                  xvfb
xauth                     xauth
'

main() {
    environment_is_current || make_environment
    system_libraries
}

say() { echo "set-up: $*" >&2; }

fail() {
    say "$@"
    exit 1
}

# --- the virtual environment -----------------------------------------------------------------

# An editable install knows the folder it was made in: a moved checkout needs a new one.
fingerprint() { echo "$PWD $(cat pyproject.toml constraints.txt | cksum)"; }

environment_is_current() {
    [ -x .venv/bin/python ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$(fingerprint)" ]
}

make_environment() {
    # Without pip: a set-up that was interrupted at this very step.
    if ! { is_suitable .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
        local python
        python=$(find_python) || { install_python && python=$(find_python); } || no_python
        say "making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv
    fi
    say "installing napari, TensorFlow and the tools into .venv (about 3 GB, some minutes, once)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable '.[dev]' ||
        fail "pip could not install the packages (its reason stands above). Run make again:" \
            "what was fetched is kept."
    cpu_torch
    fingerprint >"$STAMP"
}

# The tests of PyTorch skip themselves without it, so a lack is no failure. Under Linux its usual
# build is one for GPUs, of gigabytes, which `make torch` installs; that for CPUs has a version of its
# own, +cpu, and pip finds it where PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL names a place that has it.
cpu_torch() {
    [ "$(uname)" = Linux ] || return 0
    .venv/bin/python -c 'import importlib.util, sys; sys.exit(not importlib.util.find_spec("torch"))' &&
        return
    local version
    version=$(sed -n 's/^torch==//p' constraints.txt)
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary=:all: \
        --constraint constraints.txt "torch==$version+cpu" >/dev/null 2>&1 ||
        say "PyTorch $version for CPUs was not found: its tests will be skipped"
}

# Debian splits venv's other half, ensurepip, off into a package: without it `-m venv` fails.
# TensorFlow has no release for Python 3.14 yet.
is_suitable() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
        2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if is_suitable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

install_python() {
    [ -z "${PYTHON:-}" ] && has_apt && apt_update || return 1
    local packages
    packages=$(python_packages)
    # shellcheck disable=SC2086 # a list of words
    [ -n "$packages" ] && apt_install $packages
}

# Newest first, of what this release of Debian or Ubuntu has; nothing where it has none.
python_packages() {
    local version
    for version in 3.13 3.12 3.11; do
        if apt-cache show "python$version-venv" >/dev/null 2>&1; then
            echo "python$version python$version-venv"
            return
        fi
    done
}

no_python() {
    if [ -n "${PYTHON:-}" ]; then
        fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 with the modules venv and ensurepip."
    fi
    local packages=
    has_apt && packages=$(python_packages)
    if [ -n "$packages" ]; then
        fail "No Python 3.11, 3.12 or 3.13 with the modules venv and ensurepip was found. Type" \
            "the next line, then run make again:"$'\n'"    sudo apt-get install $packages"
    fi
    fail "No Python 3.11, 3.12 or 3.13 with the modules venv and ensurepip was found. Install" \
        "one and run make again, or name it: make PYTHON=/path/to/python3.12 ..."
}

# --- the system's libraries ------------------------------------------------------------------

# The network and the command line work without them, so a lack of them does not end the set-up.
system_libraries() {
    [ "$(uname)" = Linux ] || return 0
    local packages
    packages=$(missing_packages)
    [ -n "$packages" ] || return 0
    if ! has_apt; then
        say "napari's window and its tests need system libraries that are missing here; on" \
            "Debian their packages are called: $packages"
    elif ! {
        # shellcheck disable=SC2086 # a list of words
        apt_update && apt_install $packages
    }; then
        say "napari's window and its tests need system libraries that are missing here. Type the" \
            "next line, then run make again:"$'\n'"    sudo apt-get install $packages"
    fi
}

missing_packages() {
    local libraries needed package missing=
    libraries=$(ldconfig -p) || return 0 # another C library: nothing is known here
    while read -r needed package; do
        case $needed in
        '') ;;
        *.so.*) case $libraries in *"$needed ("*) ;; *) missing+=" $package" ;; esac ;;
        *) command -v "$needed" >/dev/null || missing+=" $package" ;;
        esac
    done <<<"$NEEDED"
    echo "${missing# }"
}

# --- apt -------------------------------------------------------------------------------------

has_apt() { command -v apt-get >/dev/null; }

# Never asks for a password: a set-up that waits for one hangs in CI.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# Fails only where we may not be root. A source that cannot be reached is no reason to give up.
apt_update() {
    as_root true 2>/dev/null || return 1
    as_root apt-get update -qq >/dev/null 2>&1 || true
}

apt_install() {
    say "installing with apt-get: $*"
    local output
    output=$(as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq \
        --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" 2>&1) && return
    say "apt-get failed:"$'\n'"$output"
    return 1
}

main
