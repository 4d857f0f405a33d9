#!/bin/sh
# Installs what the tests call reservd and check its files with, into .tools/ of the checkout: Python's and
# Node's gRPC clients, what the example shop needs, and buf; and protoc, promtool and Chromium of the system. Skipped
# while the lists of packages are the same as last time.
set -eu
cd "$(dirname "$0")/../.."
. deploy/packages.sh

clients=tests/clients
shop=examples/order-service
python=.tools/python
node=.tools/node
stamp=.tools/clients.stamp

hash_of_lists() {
    cat "$clients/python/requirements.txt" "$shop/requirements.txt" "$clients"/node/package*.json "$clients/install.sh" |
        { sha256sum 2>/dev/null || shasum -a 256; }
}

is_up_to_date() {
    has_protoc && has promtool && has chromium && [ -x "$python/bin/python" ] && [ -d "$node/node_modules" ] &&
        [ "$(cat "$stamp" 2>/dev/null)" = "$(hash_of_lists)" ]
}

# Debian splits these off; where they come from elsewhere, apt has nothing to do.
require() {
    has apt-get || fail "install $* first"
    echo "Installing $*."
    apt_install "$@"
}

# It generates code for C++, C#, Java, Objective-C, PHP and Ruby, and needs the files of protobuf's own types.
has_protoc() {
    has protoc && [ -e "$(dirname "$(command -v protoc)")/../include/google/protobuf/timestamp.proto" ]
}

install_protoc() {
    has_protoc || require protobuf-compiler libprotobuf-dev
}

# Its promtool checks the alert rules.
install_prometheus() {
    has promtool || install_stopped Prometheus prometheus golang-github-prometheus prometheus
}

install_chromium() {
    has chromium || require chromium
}

install_python_clients() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || require python3 python3-venv
    rm -rf "$python"
    python3 -m venv "$python"
    "$python/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$clients/python/requirements.txt" --requirement "$shop/requirements.txt"
}

# No package's own install script is run; none is needed.
install_node_clients() {
    has npm || require nodejs npm
    rm -rf "$node"
    mkdir -p "$node"
    cp "$clients"/node/package*.json "$clients/node/.npmrc" "$node"
    npm ci --prefix "$node" --ignore-scripts --no-audit --no-fund --loglevel=error
}

is_up_to_date && exit 0
echo "Installing the test clients into .tools/."
rm -f "$stamp"
mkdir -p .tools
install_protoc
install_prometheus
install_chromium
install_python_clients
install_node_clients
hash_of_lists >"$stamp"
