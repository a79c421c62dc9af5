-- Rows of LinOTP's table `reporting` after number @after, one JSON object per line, oldest first. MySQL 5.7 or MariaDB 10.2.
-- LinOTP writes local times without an offset. @zone is the time zone of its server: '+01:00' or a name known to MySQL.
SELECT JSON_OBJECT(
  'id', id,
  'timestamp', DATE_FORMAT(CONVERT_TZ(timestamp, @zone, '+00:00'), '%Y-%m-%dT%H:%i:%s.%fZ'),
  'event', event,
  'realm', realm,
  'parameter', parameter,
  'count', `count`
)
FROM reporting
WHERE id > @after
ORDER BY id
LIMIT 100000;
