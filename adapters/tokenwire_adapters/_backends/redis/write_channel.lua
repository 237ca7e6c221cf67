-- The write script, part one: a channel, its log, and retention.
--
-- Its jobs make all changes to channels: entries of responses, single events, leases, and ends of
-- abandoned responses.
--
-- KEYS: the keys that are used, all in one slot of a Cluster. The jobs name them again, since
-- without a Cluster one call may serve many channels.
-- ARGV[1]: settings; ARGV[2]: the jobs; both msgpack arrays. ARGV[3..]: payloads (msgpack batches
-- of events), one for each job that has one.
-- Returns {lines, cancel, cancel, ...}, with a line for each job, in order:
-- "code cursor state cancel message", where cancel is the index of the cancel's payload, or 0.

local OK, FENCED, ENDED, UNKNOWN, GAP, DAMAGED, FAILED = 0, 1, 2, 3, 4, 5, 9
local START, PART, DELTA, SNAPSHOT, END, RESULT, CANCEL, OTHER = 0, 1, 2, 3, 4, 5, 6, 7
local FORMAT = 1 -- of what is stored; absent where it is the first
local ENTRY, SINGLE, REAP, RENEW = 1, 2, 3, 4

if redis.replicate_commands then redis.replicate_commands() end -- Redis 6.2 wants it before TIME
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local settings = cmsgpack.unpack(ARGV[1])
local publish, by_token, max_pending, max_message = settings[6], settings[7], settings[8], settings[9]
local jobs = cmsgpack.unpack(ARGV[2])

local channels, cancels = {}, {}

-- What is kept of a channel: limits, and the TTLs of keys of ended and of streaming responses.
local function limits(kept)
  local age = kept[5]
  local keep = age > 0 and math.floor(age * 1.125) + 1000 or 0
  return {events = kept[1], event_bytes = kept[2], responses = kept[3], bytes = kept[4], age = age,
          keep = keep, keep_open = keep + 3600000}
end
local usual = limits(settings)

-- The limits in the field `retention` of a channel, which is its own; else those of the settings.
local function limits_of(packed)
  local fine, kept = pcall(cmsgpack.unpack, packed or '')
  if not fine or type(kept) ~= 'table' or #kept < 5 then return usual end
  for i = 1, 5 do
    if type(kept[i]) ~= 'number' then return usual end
  end
  local own = limits(kept)
  own.own = true
  return own
end

local function expire(keep, key, after)
  if keep.keep > 0 then redis.call('PEXPIRE', key, after) end
end

-- The TTL of a channel's own key, which stays where it has a retention.
local function expire_base(keep, base)
  if not keep.own then expire(keep, base, keep.keep_open) end
end

local function expire_channel(keep, base)
  if keep.keep == 0 then return end
  expire_base(keep, base)
  for _, part in ipairs({':log', ':open', ':starts', ':ends', ':sizes', ':singles'}) do
    redis.call('PEXPIRE', base .. part, keep.keep_open)
  end
end

local function number(text) return tonumber(text or 0) or 0 end

-- The fields of a channel; written back at the end of the call. `born`, the id of its first entry,
-- names its log: with data that was lost, another one begins.
local function channel_of(base)
  local c = channels[base]
  if c then return c end
  local h = redis.call('HMGET', base, 'head', 'started', 'events', 'event_bytes', 'bytes', 'kept', 'born',
    'retention', 'format')
  if number(h[9]) > FORMAT then error('NEWERFORMAT ' .. h[9], 0) end
  local ms, seq = string.match(h[1] or '', '^(%d+)-(%d+)-%d+$')
  c = {base = base, head = ms and h[1] or '0-0-0', fresh = not ms, started = number(h[2]),
       events = number(h[3]), event_bytes = number(h[4]), bytes = number(h[5]), kept = number(h[6]),
       born = ms and h[7] or nil, keep = limits_of(h[8])}
  c.stored = {started = c.started, bytes = c.bytes, kept = c.kept, born = c.born}
  c.ms, c.seq = number(ms), number(seq)
  channels[base] = c
  return c
end

-- The first write to a channel: remove keys that an eviction or an expiry may have left.
local function begin(c)
  for _, part in ipairs({':log', ':open', ':starts', ':ends', ':sizes', ':singles'}) do
    redis.call('DEL', c.base .. part)
  end
end

local function trim_log(c)
  local log = c.base .. ':log'
  while c.events > c.keep.events or c.event_bytes > c.keep.event_bytes do
    local batch = redis.call('XRANGE', log, '-', '+', 'COUNT', 64)
    if #batch == 0 then
      c.events, c.event_bytes = 0, 0
      return
    end
    local keep_from = nil
    for _, entry in ipairs(batch) do
      if c.events <= c.keep.events and c.event_bytes <= c.keep.event_bytes then
        keep_from = entry[1]
        break
      end
      c.events = c.events - 1
      c.event_bytes = c.event_bytes - #entry[2][2]
    end
    if not keep_from then
      local ms, seq = string.match(batch[#batch][1], '^(%d+)-(%d+)$')
      keep_from = ms .. '-' .. tonumber(seq) + 1
    end
    redis.call('XTRIM', log, 'MINID', keep_from)
  end
end

-- Remove ended responses beyond the retention, oldest end first. Their keys are not among KEYS:
-- while a Cluster slot moves, they stay until the next time.
local function trim_responses(c)
  local ends = c.base .. ':ends'
  local count = redis.call('ZCARD', ends)
  local keep = c.keep
  local limit = keep.age > 0 and (now - keep.age) * 1000 or -1
  if count == 0 then c.bytes = 0 end
  while count > 0 do
    local oldest = redis.call('ZRANGE', ends, 0, 0, 'WITHSCORES')
    if count <= keep.responses and c.bytes <= keep.bytes and tonumber(oldest[2]) >= limit then
      return
    end
    local id = oldest[1]
    local reply = redis.pcall('UNLINK', c.base .. ':r:' .. id, c.base .. ':t:' .. id)
    if type(reply) == 'table' and reply.err then return end
    local size = redis.call('HGET', c.base .. ':sizes', id)
    redis.call('ZREM', ends, id)
    redis.call('ZREM', c.base .. ':starts', id)
    redis.call('HDEL', c.base .. ':sizes', id)
    c.bytes = math.max(0, c.bytes - tonumber(size or 0))
    count = count - 1
  end
end

local function refresh(c)
  local keep = c.keep
  if keep.keep == 0 or now - c.kept < keep.age / 16 then return end
  c.kept = now
  expire_channel(keep, c.base)
  local oldest = math.max(0, now - keep.age)
  local before = redis.call('XLEN', c.base .. ':log')
  redis.call('XTRIM', c.base .. ':log', 'MINID', oldest)
  redis.call('XTRIM', c.base .. ':singles', 'MINID', oldest)
  local after = redis.call('XLEN', c.base .. ':log')
  if after < before then
    c.event_bytes = math.floor(c.event_bytes * after / before)
    c.events = after
  end
  trim_responses(c)
end

-- Add an entry to a stream. Others may have written to it: a key of another type is replaced, and
-- entries that are ahead of the channel's head, before which none can be added, are removed.
local function add(key, id, event, ...)
  local reply = redis.pcall('XADD', key, ...)
  if type(reply) ~= 'table' or not reply.err then return end
  local wrong_type = string.find(reply.err, 'WRONGTYPE', 1, true)
  local behind = string.find(reply.err, 'equal or smaller', 1, true) or
    string.find(reply.err, 'exhausted', 1, true)
  if not wrong_type and not behind then
    redis.call('XADD', key, ...)
  end
  local entries = wrong_type and {} or redis.call('XRANGE', key, '-', '(' .. id)
  redis.call('DEL', key)
  for _, entry in ipairs(entries) do redis.call('XADD', key, entry[1], unpack(entry[2])) end
  redis.call('XADD', key, id, 'e', event)
end

-- Append events to the log and publish them. Returns the cursors of the first and the last.
local function append(c, payload, ops, single, control)
  if c.fresh then
    begin(c)
    c.fresh = false
  end
  if now > c.ms then c.ms, c.seq = now, 0 else c.seq = c.seq + 1 end
  local before = c.head
  local id = c.ms .. '-' .. c.seq
  if before == '0-0-0' or not c.born then c.born = id end
  local first, kind = id .. '-0', 'r'
  local log, singles = c.base .. ':log', c.base .. ':singles'
  if by_token then
    kind = 't'
    for i, op in ipairs(ops) do
      if i > 1 then c.seq = c.seq + 1 end
      id = c.ms .. '-' .. c.seq
      local event = '\145' .. string.sub(payload, op[2], op[3])
      add(log, id, event, id, 'e', event)
      if single then add(singles, id, event, 'MAXLEN', '~', c.keep.responses, id, 'e', event) end
    end
    c.events = c.events + #ops
    c.head = id .. '-0'
  else
    add(log, id, payload, id, 'e', payload)
    if single then add(singles, id, payload, 'MAXLEN', '~', c.keep.responses, id, 'e', payload) end
    c.events = c.events + 1
    c.head = id .. '-' .. #ops - 1
  end
  if single then expire(c.keep, singles, c.keep.keep_open) end
  c.event_bytes = c.event_bytes + #payload
  local text = first .. '-' .. c.born .. ' ' .. before .. ' ' .. kind .. ' '
  if #payload <= max_message then text = text .. payload end -- else: read it from the log
  redis.call(publish, c.base .. ':live', text)
  if control then redis.call(publish, c.base .. ':control', text) end
  -- In steps of a sixteenth, so that with a full log not every entry trims it.
  if c.events > c.keep.events * 17 / 16 or c.event_bytes > c.keep.event_bytes * 17 / 16 then trim_log(c) end
  return first, c.head
end

-- The score of a cursor in the sorted set of ends.
local function score(cursor)
  local ms, seq = string.match(cursor, '^(%d+)-(%d+)')
  return tonumber(ms) * 1000 + math.min(tonumber(seq), 999)
end
