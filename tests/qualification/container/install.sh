#!/usr/bin/env bash
# Installs the container engine of `make container` from Debian. Safe to repeat; needs root or sudo.
set -euo pipefail

# netavark needs iptables for the networks of Compose; catatonit is what `init: true` starts; mmdebstrap makes the base image.
packages="podman buildah runc netavark aardvark-dns iptables catatonit fuse-overlayfs mmdebstrap"

missing=()
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q "ok installed" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "container engine: nothing to install"
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
echo "container engine: installed ${missing[*]}"
