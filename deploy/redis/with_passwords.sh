#!/bin/sh
# Prints users.acl with the hash of each user's password, read from the file of the user's name in a folder.
# Who has no file there keeps no password, and cannot sign in.
#
#   with_passwords.sh FOLDER > /etc/authtally/users.acl
set -eu

folder=$1
umask 077
while read -r line; do
    user=${line#user }
    user=${user%% *}
    if [ -s "$folder/$user" ]; then
        # As $(…) does: without the newline that editors leave.
        hash=$(printf %s "$(cat "$folder/$user")" | sha256sum)
        line="$line #${hash%% *}"
    fi
    printf '%s\n' "$line"
done < "$(dirname "$0")/users.acl"
