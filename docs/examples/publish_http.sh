# Sends one event over HTTP. Sending it again is safe: events with the same id count once.
curl --fail-with-body --silent --retry 3 "$AUTHTALLY_URL/v1/events" \
    --header "Authorization: Bearer $AUTHTALLY_TOKEN" \
    --header 'Content-Type: application/json' \
    --data @- <<EVENT
{"type": "login", "time": "$(date -u +%FT%TZ)", "user_id": "ada", "realm": "acme", "id": "shop:4711"}
EVENT
