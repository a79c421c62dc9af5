-- Applies one range to one shard, all or nothing.
--
-- KEYS[1] position, KEYS[2] progress, KEYS[3] index, KEYS[4] labels, KEYS[5] meta, KEYS[6] ids, KEYS[7] shares,
--   KEYS[8] changes, KEYS[9…] the keys that ARGV[3] refers to by number.
--   No key name is built here: Cluster lets a script write to an undeclared key while its slot is being moved away.
-- ARGV[1] the position at which this range starts, '' for none
-- ARGV[2] the new position, '' to keep the old one
-- ARGV[3] MessagePack of the additions, see _Additions in step.py
-- ARGV[4] a random token, never used before
-- ARGV[5…] digests of event ids, eight bytes each, in the order of the additions' `ids`; then, if the additions have an
--   `inventory`, a MessagePack array of the items that it refers to by number.
--
-- Returns {1, numbers of the users additions that are in sketches, clock}; {0, position, clock} if nothing was written.
-- The clock is this store's TIME in ms.

local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
local have = redis.call('GET', KEYS[1]) or ''
if have ~= ARGV[1] then
  return {0, have, clock}
end

local CHUNK = 3900  -- arguments per call: Lua's unpack overflows its stack near 8,000
local add = cmsgpack.unpack(ARGV[3])

-- Redis does not roll a script back, so everything that could fail is checked before the first write.
local function must_be(key, kind)
  local is = redis.call('TYPE', key).ok
  if is == 'none' then
    return
  end
  if is ~= (kind == 'sketch' and 'string' or kind) then
    error({err = 'LEDGER ' .. key .. ' holds a ' .. is .. ' instead of a ' .. kind})
  end
  if kind == 'sketch' and redis.call('GETRANGE', key, 0, 3) ~= 'HYLL' then
    error({err = 'LEDGER ' .. key .. ' holds no HyperLogLog'})
  end
end
must_be(KEYS[2], 'hash')
must_be(KEYS[3], 'zset')
must_be(KEYS[4], 'set')
must_be(KEYS[5], 'hash')
must_be(KEYS[6], 'hash')
must_be(KEYS[7], 'hash')
must_be(KEYS[8], 'hash')
for _, users in ipairs(add.users) do
  for part = 0, users.small and 15 or -1 do
    must_be(KEYS[users.small + part], 'set')
  end
  for part = 0, users.sketches - 1 do
    must_be(KEYS[users.sketch + part], 'sketch')
  end
end
for _, counts in ipairs(add.counts) do
  must_be(KEYS[counts.key], 'hash')
end
for _, written in ipairs(add.written) do
  must_be(KEYS[written.key], 'hash')
end
for _, clients in ipairs(add.clients) do
  must_be(KEYS[clients.key], 'sketch')
end
for _, ids in ipairs(add.ids) do
  must_be(KEYS[ids.key], 'string')
  if ids.realms then
    must_be(KEYS[ids.realms], 'hash')
  end
end
if add.unexpected then
  must_be(KEYS[add.unexpected.key], 'set')
end
local inventory = add.inventory or {hashes = {}, strings = {}, rows = {}, maxima = {}}
-- Flat lists:
--   hashes: key, first and last item to set, first and last item to delete
--   strings: key, byte to write at, item, state: 1 if the item fills the string, 2 if it was full before
--   rows (sorted sets): key, first and last item of the scores and members
for at = 1, #inventory.hashes, 5 do
  must_be(KEYS[inventory.hashes[at]], 'hash')
end
for at = 1, #inventory.strings, 4 do
  -- STRLEN raises WRONGTYPE if the key has another type.
  local length = redis.call('STRLEN', KEYS[inventory.strings[at]])
  if length < inventory.strings[at + 1] and not (length == 0 and inventory.strings[at + 3] == 2) then
    error({err = 'LEDGER ' .. KEYS[inventory.strings[at]] .. ' is shorter than ' .. inventory.strings[at + 1]})
  end
end
for at = 1, #inventory.rows, 3 do
  must_be(KEYS[inventory.rows[at]], 'zset')
end
for _, maxima in ipairs(inventory.maxima) do
  must_be(KEYS[maxima.key], 'hash')
end

-- Periods that the end of this script removes from the index. Read here, so that a Redis user who may not run ZRANGE is
-- refused before the first write.
local expired = redis.call('ZRANGE', KEYS[3], '-inf', clock / 1000, 'BYSCORE')

-- Keys were removed since the worker loaded its cache, which may contain them.
if add.removals and (redis.call('HGET', KEYS[5], 'removals') or '') ~= add.removals then
  return {0, have, clock}
end

local function chunked(command, key, list)
  for from = 1, #list, CHUNK do
    redis.call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
  end
end

local items = add.inventory and cmsgpack.unpack(ARGV[#ARGV]) or {}
local function with_items(command, key, first, last)
  for from = first, last, CHUNK do
    redis.call(command, key, unpack(items, from, math.min(from + CHUNK - 1, last)))
  end
end

local function expire(key, at)
  if at > 0 then
    redis.call('EXPIREAT', key, at)
  end
end

local function widen(key, low, high, first, last)
  local was = redis.call('HMGET', key, low, high)
  if not was[1] or tonumber(first) < tonumber(was[1]) then
    redis.call('HSET', key, low, first)
  end
  if not was[2] or tonumber(last) > tonumber(was[2]) then
    redis.call('HSET', key, high, last)
  end
end

local in_sketches = {}
for number, users in ipairs(add.users) do
  local sketched = not users.small or redis.call('EXISTS', KEYS[users.sketch]) == 1
  if not sketched then
    local size = 0
    for part, list in pairs(users.parts) do
      chunked('SADD', KEYS[users.small + part], list)
    end
    for part = 0, 15 do
      size = size + redis.call('SCARD', KEYS[users.small + part])
    end
    if size > users.bound then
      -- Above the bound, so all members move to the sketches. All sketches are created: the first one's existence
      -- shows that the users are in sketches.
      for sketch = 0, users.sketches - 1 do
        redis.call('PFADD', KEYS[users.sketch + sketch])
      end
      for part = 0, 15 do
        local key = KEYS[users.small + part]
        chunked('PFADD', KEYS[users.sketch + part % users.sketches], redis.call('SMEMBERS', key))
        redis.call('DEL', key)
      end
      sketched = true
    else
      for part, _ in pairs(users.parts) do
        expire(KEYS[users.small + part], users.expires)
      end
    end
  else
    for part, list in pairs(users.parts) do
      chunked('PFADD', KEYS[users.sketch + part % users.sketches], list)
    end
  end
  if sketched then
    in_sketches[#in_sketches + 1] = number
    for sketch = 0, users.sketches - 1 do
      expire(KEYS[users.sketch + sketch], users.expires)
    end
  end
end

for _, counts in ipairs(add.counts) do
  local key = KEYS[counts.key]
  for name, more in pairs(counts.fields) do
    redis.call('HINCRBY', key, name, more)
  end
  expire(key, counts.expires)
end

for _, written in ipairs(add.written) do
  widen(KEYS[written.key], 'first_ms', 'last_ms', written.first, written.last)
  expire(KEYS[written.key], written.expires)
end

for _, clients in ipairs(add.clients) do
  chunked('PFADD', KEYS[clients.key], clients.add)
  expire(KEYS[clients.key], clients.expires)
end

-- Drop first: an hour that alone exceeded the limit starts again with new ids.
for _, ids in ipairs(add.ids_dropped) do
  for _, key in ipairs(ids.keys) do
    redis.call('DEL', KEYS[key])
  end
  redis.call('HDEL', KEYS[6], ids.hour)
end
for number, ids in ipairs(add.ids) do
  redis.call('APPEND', KEYS[ids.key], ARGV[4 + number])
  redis.call('HINCRBY', KEYS[6], ids.hour, ids.count)
  for realm, more in pairs(ids.by_realm or {}) do
    redis.call('HINCRBY', KEYS[ids.realms], realm, more)
  end
end
for name, value in pairs(add.ids_fields) do
  redis.call('HSET', KEYS[6], name, value)
end

for at = 1, #inventory.hashes, 5 do
  local key, from, to, drop, last = unpack(inventory.hashes, at, at + 4)
  with_items('HSET', KEYS[key], from, to)
  with_items('HDEL', KEYS[key], drop, last)
end
for at = 1, #inventory.strings, 4 do
  local key, from, what, full = unpack(inventory.strings, at, at + 3)
  if full ~= 2 or redis.call('EXISTS', KEYS[key]) == 1 then
    redis.call('SETRANGE', KEYS[key], from, items[what])
  end
  if full == 1 then
    -- APPEND and SETRANGE allocate twice the length; a full string is copied to free the spare half.
    redis.call('SET', KEYS[key], redis.call('GET', KEYS[key]))
  end
end
for at = 1, #inventory.rows, 3 do
  with_items('ZADD', KEYS[inventory.rows[at]], inventory.rows[at + 1], inventory.rows[at + 2])
end
for _, maxima in ipairs(inventory.maxima) do
  for day, count in pairs(maxima.days) do
    local was = redis.call('HGET', KEYS[maxima.key], day)
    if not was or tonumber(was) < count then
      redis.call('HSET', KEYS[maxima.key], day, string.format('%d', count))
    end
  end
end

for name, more in pairs(add.progress) do
  redis.call('HINCRBY', KEYS[2], name, more)
end
-- Types become known in log order, so the result does not depend on where ranges end.
for at = 1, #add.unknown_types, 2 do
  local name, more = add.unknown_types[at], add.unknown_types[at + 1]
  if name ~= add.unknown_other and not redis.call('HGET', KEYS[2], name) then
    if tonumber(redis.call('HGET', KEYS[2], 'unknown_types') or 0) < add.unknown_most then
      redis.call('HINCRBY', KEYS[2], 'unknown_types', 1)
    else
      name = add.unknown_other
    end
  end
  redis.call('HINCRBY', KEYS[2], name, more)
end
if add.first_event then
  widen(KEYS[2], 'first_event_ms', 'last_event_ms', add.first_event, add.last_event)
end
if add.last_record then
  widen(KEYS[2], 'first_record_ms', 'last_record_ms', add.first_record, add.last_record)
end

for period, expires in pairs(add.index) do
  -- LT keeps the earlier expiry: after a change of retention some keys of a period expire before others, and a period
  -- must not be read in part.
  redis.call('ZADD', KEYS[3], 'LT', expires, period)
  redis.call('HSET', KEYS[8], period, ARGV[4])
  if tonumber(expires) <= clock / 1000 then
    expired[#expired + 1] = period
  end
end
-- The index expires by the same clock as the keys; a record's timestamp may have any value.
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', clock / 1000)
chunked('HDEL', KEYS[8], expired)
if add.renew_epoch or not redis.call('HGET', KEYS[8], 'epoch') then
  redis.call('HSET', KEYS[8], 'epoch', ARGV[4])
end
if add.unexpected then
  if add.unexpected.clear then
    redis.call('DEL', KEYS[add.unexpected.key])
  end
  for _, offset in ipairs(add.unexpected.add) do
    redis.call('SADD', KEYS[add.unexpected.key], offset)
  end
end
if #add.labels > 0 then
  chunked('SADD', KEYS[4], add.labels)
end
for group, more in pairs(add.shares) do
  redis.call('HINCRBY', KEYS[7], group, more)
end
for name, value in pairs(add.meta) do
  redis.call('HSET', KEYS[5], name, value)
end

if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2])
end
return {1, in_sketches, clock}
