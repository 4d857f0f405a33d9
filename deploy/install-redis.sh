#!/bin/sh
# Installs Redis, for the tests, where this machine has none, without leaving one running: the tests
# start their own. Does nothing where it is there already.
set -eu
. "$(dirname "$0")/packages.sh"

# Debian's package starts its service at once and at each boot. A policy forbids the first while it
# is installed, unless this machine has one of its own; the second is taken back afterwards.
install_with_apt() {
    policy=/usr/sbin/policy-rc.d
    ours=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        ours=$policy
    fi
    installed=yes
    apt_install redis-server || installed=
    [ -z "$ours" ] || as_root rm -f "$ours"
    [ -n "$installed" ] || fail "apt-get could not install redis-server"
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --quiet --now redis-server
    fi
}

has redis-server && exit 0
echo "Installing Redis."
if has apt-get; then
    install_with_apt
elif has dnf; then
    as_root dnf install -y redis
elif has brew; then
    brew install redis
else
    fail "no apt-get, dnf or brew here: install your system's Redis package"
fi
