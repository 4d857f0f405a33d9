#!/bin/sh
# Installs RabbitMQ's server, for the tests, where this machine has none, without leaving one
# running: the tests start their own. Does nothing where it is there already.
set -eu
. "$(dirname "$0")/packages.sh"

# Debian's package keeps the programs out of PATH, in its library folder.
is_installed() {
    has rabbitmq-server || ls /usr/lib/rabbitmq/bin/rabbitmq-server \
        /opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server \
        /usr/local/opt/rabbitmq/sbin/rabbitmq-server 2>/dev/null | grep -q .
}

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
    apt_install rabbitmq-server || installed=
    [ -z "$ours" ] || as_root rm -f "$ours"
    [ -n "$installed" ] || fail "apt-get could not install rabbitmq-server"
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --quiet --now rabbitmq-server
    fi
}

is_installed && exit 0
echo "Installing RabbitMQ."
if has apt-get; then
    install_with_apt
elif has dnf; then
    as_root dnf install -y rabbitmq-server
elif has brew; then
    brew install rabbitmq
else
    fail "no apt-get, dnf or brew here: install your system's RabbitMQ server package"
fi
