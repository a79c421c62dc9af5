-- Rows of LinOTP's table `reporting` after number :after, one JSON object per line, oldest first.
-- LinOTP writes local times without an offset. :'zone' is the time zone of its server, such as Europe/Berlin.
SELECT json_build_object(
  'id', id,
  'timestamp', to_char(timestamp AT TIME ZONE :'zone' AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'event', event,
  'realm', realm,
  'parameter', parameter,
  'count', "count"
)
FROM reporting
WHERE id > :after
ORDER BY id
LIMIT 100000;
