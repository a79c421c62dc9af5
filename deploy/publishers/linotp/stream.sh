#!/bin/sh
# Streams LinOTP's reporting table: every INTERVAL_S seconds it publishes the rows after the last published one.
#
# The arguments are a command that prints the rows with numbers above $AFTER, one JSON object per line. LAST names the
# file that stores the last number. Rows that are published twice, after a crash, count once.
set -eu
last=${LAST:-linotp-reporting.last}
interval=${INTERVAL_S:-60}
rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
trap 'exit 0' INT TERM
while :; do
    AFTER=$(cat "$last" 2>/dev/null || echo 0)
    export AFTER
    "$@" >"$rows"
    if [ -s "$rows" ]; then
        ${AUTHTALLY:-authtally} publish --format linotp-report - <"$rows"
        tail -n 1 "$rows" | sed 's/.*"id" *: *\([0-9]*\).*/\1/' >"$last.new"
        mv "$last.new" "$last"
    fi
    [ "$interval" = 0 ] && exit 0
    sleep "$interval" &
    wait $!
done
