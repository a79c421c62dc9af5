#!/usr/bin/env bash
# Makes the secrets that compose.yaml mounts, in `secrets/` beside it. Safe to repeat: what is there stays as it is.
set -euo pipefail
cd "$(dirname "$0")"

# Nobody else may enter the folder. The files inside are readable, since containers run as users of their own.
mkdir -p secrets
chmod 0700 secrets
cd secrets

random() { openssl rand -hex 24; }
sha256() { printf %s "$1" | openssl dgst -sha256 -r | cut -d' ' -f1; }
# keep NAME VALUE: writes a file that is not there yet, in one step.
keep() {
    [ -e "$1" ] || { printf '%s\n' "$2" > "$1.new" && chmod 0444 "$1.new" && mv "$1.new" "$1"; }
}

# Keep this one for ever, and somewhere else too: with another key everybody is new.
keep user_hash_key "$(random)"
keep grafana_password "$(random)"
for token in dashboard_token publisher_token metrics_token statistics_token worker_password api_password operator_password; do
    keep $token "$(random)"
done

for user in worker api operator; do
    keep ${user}_redis_url "redis://$user:$(cat ${user}_password)@valkey:6379/0"
done

# Redis knows the passwords' digests only.
acl=$(while read -r line; do
    read -r _ name _ <<< "$line"
    case $name in
        worker | api | operator) line+=" #$(sha256 "$(cat "${name}_password")")" ;;
    esac
    printf '%s\n' "$line"
done < ../../redis/users.acl)
keep users.acl "$acl"

told() { printf '{"sha256": "%s", "subject": "%s", "scopes": %s}' "$(sha256 "$(cat "$1_token")")" "$1" "$2"; }
keep tokens.json "[
$(told dashboard '["stats:read", "jans_stat", "read:stats", "reporting"]'),
$(told publisher '["events:write"]'),
$(told metrics '["metrics:read"]'),
$(told statistics '["jans_stat"]')
]"

echo "secrets: $PWD"
echo "sign in to the dashboard with the token in dashboard_token, to Grafana as admin with grafana_password"
