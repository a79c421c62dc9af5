-- Rows of LinOTP's table `reporting` after number :after, one JSON object per line, oldest first.
-- LinOTP writes local times without an offset. 'utc' converts them from this machine's time zone.
SELECT json_object(
  'id', id,
  'timestamp', strftime('%Y-%m-%dT%H:%M:%fZ', timestamp, 'utc'),
  'event', event,
  'realm', realm,
  'parameter', parameter,
  'count', count
)
FROM reporting
WHERE id > :after
ORDER BY id
LIMIT 100000;
