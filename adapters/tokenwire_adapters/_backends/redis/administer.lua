-- Deletes from one channel, and sets its retention.
--
-- KEYS[1]: the channel; the others are those that are used, all in its slot. ARGV: what to do, and:
--   "channel"                              delete everything
--   "some" ids ids... entries...           delete responses (`ids` of them), and entries of single events
--   "retention" packed keep keep_open      set the retention ('' for none) and the TTLs (0: for ever)
-- Returns {responses, events, streaming...}: how many were deleted, and what was not since it is
-- streaming. A channel of which something is streaming is not deleted.

local base, what = KEYS[1], ARGV[1]
local PARTS = {':log', ':open', ':starts', ':ends', ':sizes', ':singles', ':cancels', ':cancels:old',
               ':keys', ':keys:old'}

-- Others may have written to the keys: one of another type has nothing that is ours.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return nil end
  return redis.call(...)
end

local function unlink_response(id) redis.call('UNLINK', base .. ':r:' .. id, base .. ':t:' .. id) end

local function all_responses()
  local ids, seen = {}, {}
  for _, part in ipairs({':starts', ':ends', ':open'}) do
    for _, id in ipairs(try('ZRANGE', base .. part, 0, -1) or {}) do
      if not seen[id] then ids[#ids + 1] = id end
      seen[id] = true
    end
  end
  return ids
end

-- Forget the ids of single events that are deleted, so that they can be sent, or imported, again.
local function forget_keys(entries)
  for _, part in ipairs({':keys', ':keys:old'}) do
    local fields = try('HGETALL', base .. part) or {}
    for i = 1, #fields, 2 do
      if entries[string.match(fields[i + 1], '^%d+%-%d+') or ''] then
        redis.call('HDEL', base .. part, fields[i])
      end
    end
  end
end

if what == 'channel' then
  local streaming = try('ZRANGE', base .. ':open', 0, -1) or {}
  if #streaming > 0 then return {0, 0, unpack(streaming)} end
  local ids = all_responses()
  local events = try('XLEN', base .. ':singles') or 0
  for _, id in ipairs(ids) do unlink_response(id) end
  for _, part in ipairs(PARTS) do redis.call('UNLINK', base .. part) end
  redis.call('UNLINK', base)
  return {#ids, events}
end

if what == 'some' then
  local count, responses, events, bytes, streaming = tonumber(ARGV[2]), 0, 0, 0, {}
  for i = 3, 2 + count do
    local id = ARGV[i]
    local state = try('HGET', base .. ':r:' .. id, 'state')
    if state == 'streaming' and try('ZSCORE', base .. ':open', id) then
      streaming[#streaming + 1] = id
    else
      if state then responses = responses + 1 end
      bytes = bytes + (tonumber(try('HGET', base .. ':sizes', id) or 0) or 0)
      unlink_response(id)
      for _, part in ipairs({':starts', ':ends'}) do try('ZREM', base .. part, id) end
      for _, part in ipairs({':sizes', ':cancels', ':cancels:old'}) do try('HDEL', base .. part, id) end
    end
  end
  local entries = {}
  for i = 3 + count, #ARGV do
    entries[ARGV[i]] = true
    events = events + (try('XDEL', base .. ':singles', ARGV[i]) or 0)
  end
  if events > 0 then forget_keys(entries) end
  if responses + events > 0 then
    -- An older cursor is answered with snapshots of what is left.
    redis.call('UNLINK', base .. ':log')
    local kept = tonumber(redis.call('HGET', base, 'bytes') or 0) or 0
    redis.call('HSET', base, 'events', 0, 'event_bytes', 0, 'bytes', math.max(0, kept - bytes))
  end
  return {responses, events, unpack(streaming)}
end

local keep, keep_open = tonumber(ARGV[3]), tonumber(ARGV[4])
local function expire(key, after)
  if keep > 0 then redis.call('PEXPIRE', key, after) else redis.call('PERSIST', key) end
end
if ARGV[2] == '' then
  redis.call('HDEL', base, 'retention')
  expire(base, keep_open)
else
  redis.call('HSET', base, 'retention', ARGV[2])
  redis.call('PERSIST', base)
end
for _, part in ipairs(PARTS) do expire(base .. part, keep_open) end
for _, id in ipairs(all_responses()) do
  local after = try('ZSCORE', base .. ':open', id) and keep_open or keep
  expire(base .. ':r:' .. id, after)
  expire(base .. ':t:' .. id, after)
end
return {0, 0}
