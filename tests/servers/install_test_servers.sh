#!/usr/bin/env bash
# Installs what the tests run against and Debian has. Safe to repeat; needs root or sudo only when something is missing.
set -euo pipefail

# command it provides    Debian package
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
cc                       gcc
chromium                 chromium
"

# Where Debian puts nginx, and not everybody looks.
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
# Services that a package would start on its own ports are not wanted: the tests start their own.
quietly=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1)

"${quietly[@]}" apt-get update -qq
for packages in "${missing[@]}"; do
    installed=no
    # The first name that this release of Debian has.
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
