-- Rows of LinOTP's table `REPORTING` after number @after, one JSON object per line, oldest first. MySQL 5.7 or MariaDB 10.2.
-- LinOTP writes local times without an offset. @zone is the time zone of its server: '+01:00' or a name known to MySQL.
SELECT JSON_OBJECT(
  'id', R_ID,
  'timestamp', DATE_FORMAT(CONVERT_TZ(R_TIMESTAMP, @zone, '+00:00'), '%Y-%m-%dT%H:%i:%s.%fZ'),
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
WHERE R_ID > @after
ORDER BY R_ID
LIMIT 100000;
