#!/bin/sh
# Installs Redis, for the tests, where this machine has none, without leaving one running: the tests
# start their own. Does nothing where it is there already.
set -eu
. "$(dirname "$0")/packages.sh"

has redis-server || install_stopped Redis redis-server redis redis
