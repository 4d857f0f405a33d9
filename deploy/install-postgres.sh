#!/bin/sh
# Installs PostgreSQL's server programs if they are missing, without leaving a server running: reservd
# starts its own.
set -eu
. "$(dirname "$0")/packages.sh"

# reservd refuses older versions.
oldest_major=14

# Whether the folder has a postgres that is new enough, with initdb beside it after resolving links.
is_usable() {
    [ -x "$1/postgres" ] || return 1
    program=$(readlink -f "$1/postgres") && [ -x "${program%/*}/initdb" ] || return 1
    version=$("$program" --version 2>/dev/null) || return 1
    major=$(echo "$version" | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge "$oldest_major" ]
}

# Searches the same folders as reservd. In a subshell, since it changes IFS.
is_installed() (
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin \
        /home/linuxbrew/.linuxbrew/opt/postgresql*/bin \
        /Applications/Postgres.app/Contents/Versions/*/bin; do
        is_usable "$folder" && exit 0
    done
    IFS=:
    for folder in $PATH; do
        is_usable "$folder" && exit 0
    done
    exit 1
)

# Debian's package creates a cluster and starts it at boot unless its configuration forbids that. The
# configuration is removed afterwards, so that it does not affect later versions.
install_with_apt() {
    config=/etc/postgresql-common/createcluster.d/reservd.conf
    as_root mkdir -p "${config%/*}"
    echo 'create_main_cluster = false' | as_root tee "$config" >/dev/null
    apt_install postgresql || { as_root rm -f "$config"; fail "apt-get could not install postgresql"; }
    as_root rm -f "$config"
}

# For root, reservd runs PostgreSQL as the user postgres, which most packages make, or else as reservd.
ensure_user() {
    [ "$(id -u)" -ne 0 ] || id postgres >/dev/null 2>&1 || id reservd >/dev/null 2>&1 || useradd --system reservd
}

if is_installed; then
    ensure_user
    exit 0
fi
echo "Installing the PostgreSQL server programs."
if has apt-get; then
    install_with_apt
elif has dnf; then
    as_root dnf install -y postgresql-server
elif has brew; then
    brew install postgresql@17
else
    fail "no apt-get, dnf or brew here: install your system's PostgreSQL server package, $oldest_major or newer"
fi
is_installed || fail "the PostgreSQL of this system's packages is older than $oldest_major: install a newer one from postgresql.org, or set DATABASE_URL"
ensure_user
