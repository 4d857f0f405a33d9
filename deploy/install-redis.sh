#!/bin/sh
# Installs Redis for the tests if it is missing, without leaving it running: the tests start their own.
set -eu
. "$(dirname "$0")/packages.sh"

has redis-server || install_stopped Redis redis-server redis redis
