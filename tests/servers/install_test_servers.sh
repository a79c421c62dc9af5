#!/usr/bin/env bash
# Installs the servers and tools of the tests from Debian. Safe to repeat; needs root or sudo only if one is missing.
set -euo pipefail

# command                Debian packages, the first available one is installed
needed="
java                     openjdk-17-jre-headless default-jre-headless
javac                    openjdk-17-jdk-headless default-jdk-headless
mvn                      maven
redis-server             redis-server
prometheus               prometheus
promtool                 prometheus
openssl                  openssl
curl                     curl
wrk                      wrk
nginx                    nginx-light nginx
caddy                    caddy
faketime                 faketime
systemd-analyze          systemd
cc                       gcc
node                     nodejs
npm                      npm
chromium                 chromium
mariadbd                 mariadb-server
mysql                    mariadb-client
psql                     postgresql
sqlite3                  sqlite3
node                     nodejs
npm                      npm
"

# Debian installs nginx into /usr/sbin, which is not in every user's PATH.
PATH=$PATH:/usr/sbin

missing=()
while read -r command packages; do
    [ -n "$command" ] || continue
    if ! command -v "$command" > /dev/null; then
        missing+=("$packages")
    fi
done <<< "$needed"

if [ ${#missing[@]} -eq 0 ]; then
    echo "test servers: nothing to install"
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi
# RUNLEVEL=1 keeps packages from starting services on their default ports; the tests start their own servers.
quietly=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1)

"${quietly[@]}" apt-get update -qq
for packages in "${missing[@]}"; do
    installed=no
    # Install the first package that this release of Debian has.
    for package in $packages; do
        if apt-cache show "$package" > /dev/null 2>&1; then
            "${quietly[@]}" apt-get install -y -qq --no-install-recommends "$package" > /dev/null
            installed=$package
            break
        fi
    done
    if [ "$installed" = no ]; then
        echo "test servers: no package of this system provides: $packages" >&2
        exit 1
    fi
    echo "test servers: installed $installed"
done
