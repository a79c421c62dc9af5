#!/usr/bin/env bash
# Creates the secrets that compose.yaml mounts, in `secrets/` beside it. Safe to repeat: existing files stay unchanged.
set -euo pipefail
cd "$(dirname "$0")"

# Only the owner may enter the folder. The files inside are readable, because containers run as other users.
mkdir -p secrets
chmod 0700 secrets
cd secrets

random() { openssl rand -hex 24; }
sha256() { printf %s "$1" | openssl dgst -sha256 -r | cut -d' ' -f1; }
# keep NAME VALUE: writes the file in one step, unless it exists.
keep() {
    [ -e "$1" ] || { printf '%s\n' "$2" > "$1.new" && chmod 0444 "$1.new" && mv "$1.new" "$1"; }
}

# Keep this key forever, with a copy elsewhere: with another key, every user counts as a new one.
keep user_hash_key "$(random)"
keep grafana_password "$(random)"
for token in dashboard_token publisher_token metrics_token statistics_token worker_password api_password operator_password; do
    keep $token "$(random)"
done

for user in worker api operator; do
    keep ${user}_redis_url "redis://$user:$(cat ${user}_password)@valkey:6379/0"
done

# Redis gets only digests of the passwords.
acl=$(while read -r line; do
    read -r _ name _ <<< "$line"
    case $name in
        worker | api | operator) line+=" #$(sha256 "$(cat "${name}_password")")" ;;
    esac
    printf '%s\n' "$line"
done < ../../redis/users.acl)
keep users.acl "$acl"

entry() { printf '{"sha256": "%s", "subject": "%s", "scopes": %s}' "$(sha256 "$(cat "$1_token")")" "$1" "$2"; }
keep tokens.json "[
$(entry dashboard '["stats:read", "jans_stat", "read:stats", "reporting"]'),
$(entry publisher '["events:write"]'),
$(entry metrics '["metrics:read"]'),
$(entry statistics '["jans_stat"]')
]"

echo "secrets: $PWD"
echo "sign in to the dashboard with the token in dashboard_token, to Grafana as admin with grafana_password"
