#!/bin/sh
# Prints users.acl with the hash of each user's password, read from the file named after the user in FOLDER.
# A user without a file gets no password and cannot sign in.
#
#   with_passwords.sh FOLDER > /etc/authtally/users.acl
set -eu

folder=$1
umask 077
while read -r line; do
    user=${line#user }
    user=${user%% *}
    if [ -s "$folder/$user" ]; then
        # $(…) removes the newline that editors append.
        hash=$(printf %s "$(cat "$folder/$user")" | sha256sum)
        line="$line #${hash%% *}"
    fi
    printf '%s\n' "$line"
done < "$(dirname "$0")/users.acl"
