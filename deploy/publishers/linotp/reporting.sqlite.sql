-- Rows of LinOTP's table `REPORTING` after number :after, one JSON object per line, oldest first.
-- LinOTP writes local times without an offset. 'utc' converts them from this machine's time zone; SQLite rounds to
-- milliseconds, so the fraction is copied as text.
SELECT json_object(
  'id', R_ID,
  'timestamp', strftime('%Y-%m-%dT%H:%M:%S', substr(R_TIMESTAMP, 1, 19), 'utc') || substr(R_TIMESTAMP, 20) || 'Z',
  'event', R_EVENT,
  'realm', R_REALM,
  'parameter', R_PARAMETER,
  'value', R_VALUE,
  'count', R_COUNT,
  'detail', R_DETAIL,
  'session', R_SESSION,
  'description', R_DESCRIPTION
)
FROM REPORTING
WHERE R_ID > :after
ORDER BY R_ID
LIMIT 100000;
