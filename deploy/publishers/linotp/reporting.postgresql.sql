-- Rows of LinOTP's table "REPORTING" after number :after, one JSON object per line, oldest first.
-- LinOTP writes local times without an offset. :'zone' is the time zone of its server, such as Europe/Berlin.
SELECT json_build_object(
  'id', "R_ID",
  'timestamp', to_char("R_TIMESTAMP" AT TIME ZONE :'zone' AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
  'event', "R_EVENT",
  'realm', "R_REALM",
  'parameter', "R_PARAMETER",
  'value', "R_VALUE",
  'count', "R_COUNT",
  'detail', "R_DETAIL",
  'session', "R_SESSION",
  'description', "R_DESCRIPTION"
)
FROM "REPORTING"
WHERE "R_ID" > :after
ORDER BY "R_ID"
LIMIT 100000;
