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

is_installed || install_stopped RabbitMQ rabbitmq-server rabbitmq-server rabbitmq
