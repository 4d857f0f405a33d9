# Sourced by the install scripts: installs system packages, as root or through sudo.
# shellcheck shell=sh

has() {
    command -v "$1" >/dev/null 2>&1
}

fail() {
    echo "error: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail "this needs root or sudo: $*"
    fi
}

apt_install() {
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@"
}

# Debian's packages start their service after the installation and at each boot. A temporary policy prevents the
# first, unless this machine has a policy already; the second is disabled afterwards.
apt_install_stopped() {
    policy=/usr/sbin/policy-rc.d
    ours=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        ours=$policy
    fi
    installed=yes
    apt_install "$1" || installed=
    [ -z "$ours" ] || as_root rm -f "$ours"
    [ -n "$installed" ] || fail "apt-get could not install $1"
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --quiet --now "$1"
    fi
}

# Installs a server without running it. Arguments: its name, then its package for apt-get, dnf and brew.
install_stopped() {
    echo "Installing $1."
    if has apt-get; then
        apt_install_stopped "$2"
    elif has dnf; then
        as_root dnf install -y "$3"
    elif has brew; then
        brew install "$4"
    else
        fail "no apt-get, dnf or brew here: install your system's $1 server package"
    fi
}
