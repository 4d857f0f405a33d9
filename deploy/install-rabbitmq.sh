#!/bin/sh
# Installs RabbitMQ's server for the tests if it is missing, without leaving it running: the tests start
# their own.
set -eu
. "$(dirname "$0")/packages.sh"

# Debian's package has the programs in its library folder, outside PATH.
is_installed() {
    has rabbitmq-server || ls /usr/lib/rabbitmq/bin/rabbitmq-server \
        /opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server \
        /usr/local/opt/rabbitmq/sbin/rabbitmq-server 2>/dev/null | grep -q .
}

is_installed || install_stopped RabbitMQ rabbitmq-server rabbitmq-server rabbitmq
