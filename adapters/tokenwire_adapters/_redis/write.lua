-- Everything that changes a channel: entries of responses, single events, leases, the reaper.
--
-- KEYS are the keys that are touched, for the Cluster's sake (all in one slot). They are named
-- again in the jobs, since one call may serve many channels where there is no Cluster.
-- ARGV[1]: settings; ARGV[2]: the jobs; both msgpack arrays. ARGV[3..]: payloads (msgpack batches
-- of events), one for each job that has one.
-- Returns {lines, cancel, cancel, ...}: one line of words for each job, in order:
-- "code cursor state cancel message", where cancel is the index of the cancel's payload, or 0.

local OK, FENCED, ENDED, UNKNOWN, GAP, FAILED = 0, 1, 2, 3, 4, 9
local START, PART, DELTA, SNAPSHOT, END, RESULT, CANCEL, OTHER = 0, 1, 2, 3, 4, 5, 6, 7
local ENTRY, SINGLE, REAP, RENEW = 1, 2, 3, 4

if redis.replicate_commands then redis.replicate_commands() end -- Redis 6.2 wants it before TIME
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local settings = cmsgpack.unpack(ARGV[1])
local max_events, max_event_bytes = settings[1], settings[2]
local max_responses, max_bytes, age = settings[3], settings[4], settings[5]
local publish, by_token, max_pending, max_message = settings[6], settings[7], settings[8], settings[9]
local jobs = cmsgpack.unpack(ARGV[2])

local keep = age > 0 and math.floor(age * 1.125) + 1000 or 0 -- how long idle keys stay
local keep_open = keep + 3600000 -- what streams stays longer, whatever the age
local channels, cancels = {}, {}

-- Numbers become text with 14 digits in Lua, and with 17 on their way to Redis: enough for both.


local function expire(key, after)
  if keep > 0 then redis.call('PEXPIRE', key, after) end
end

local function expire_channel(base)
  if keep == 0 then return end
  for _, part in ipairs({'', ':log', ':open', ':starts', ':ends', ':sizes', ':singles'}) do
    redis.call('PEXPIRE', base .. part, keep_open)
  end
end

-- A channel as it stands; written back at the end of the call.
local function channel_of(base)
  local c = channels[base]
  if c then return c end
  local h = redis.call('HMGET', base, 'head', 'started', 'events', 'event_bytes', 'bytes', 'kept')
  c = {base = base, head = h[1] or '0-0-0', fresh = not h[1], started = tonumber(h[2] or 0),
       events = tonumber(h[3] or 0), event_bytes = tonumber(h[4] or 0), bytes = tonumber(h[5] or 0),
       kept = tonumber(h[6] or 0)}
  c.stored = {started = c.started, bytes = c.bytes, kept = c.kept}
  local ms, seq = string.match(c.head, '^(%d+)-(%d+)-')
  c.ms, c.seq = tonumber(ms), tonumber(seq)
  channels[base] = c
  return c
end

-- The first write to a channel: whatever an eviction or an expiry may have left of it goes.
local function begin(c)
  for _, part in ipairs({':log', ':open', ':starts', ':ends', ':sizes', ':singles'}) do
    redis.call('DEL', c.base .. part)
  end
end

local function trim_log(c)
  local log = c.base .. ':log'
  while c.events > max_events or c.event_bytes > max_event_bytes do
    local batch = redis.call('XRANGE', log, '-', '+', 'COUNT', 64)
    if #batch == 0 then
      c.events, c.event_bytes = 0, 0
      return
    end
    local keep_from = nil
    for _, entry in ipairs(batch) do
      if c.events <= max_events and c.event_bytes <= max_event_bytes then
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

-- Forget ended responses beyond what is kept, oldest end first. Their keys cannot be named
-- beforehand: while a Cluster slot moves, this waits until the next time.
local function trim_responses(c)
  local ends = c.base .. ':ends'
  local count = redis.call('ZCARD', ends)
  local limit = age > 0 and (now - age) * 1000 or -1
  while count > 0 do
    local oldest = redis.call('ZRANGE', ends, 0, 0, 'WITHSCORES')
    if count <= max_responses and c.bytes <= max_bytes and tonumber(oldest[2]) >= limit then
      return
    end
    local id = oldest[1]
    local gone = redis.pcall('UNLINK', c.base .. ':r:' .. id, c.base .. ':t:' .. id)
    if type(gone) == 'table' and gone.err then return end
    local size = redis.call('HGET', c.base .. ':sizes', id)
    redis.call('ZREM', ends, id)
    redis.call('ZREM', c.base .. ':starts', id)
    redis.call('HDEL', c.base .. ':sizes', id)
    c.bytes = math.max(0, c.bytes - tonumber(size or 0))
    count = count - 1
  end
end

local function refresh(c)
  if keep == 0 or now - c.kept < age / 16 then return end
  c.kept = now
  expire_channel(c.base)
  local oldest = math.max(0, now - age)
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

-- Put events in the log and on the air. Returns the cursors of the first and the last.
local function append(c, payload, ops, single, aside)
  if c.fresh then
    begin(c)
    c.fresh = false
  end
  if now > c.ms then c.ms, c.seq = now, 0 else c.seq = c.seq + 1 end
  local before = c.head
  local id = c.ms .. '-' .. c.seq
  if c.ms > 0 and before == '0-0-0' then c.born = id end
  local first, kind = id .. '-0', 'r'
  local log, singles = c.base .. ':log', c.base .. ':singles'
  if by_token then
    kind = 't'
    for i, op in ipairs(ops) do
      if i > 1 then c.seq = c.seq + 1 end
      id = c.ms .. '-' .. c.seq
      local event = '\145' .. string.sub(payload, op[2], op[3])
      redis.call('XADD', log, id, 'e', event)
      if single then redis.call('XADD', singles, 'MAXLEN', '~', max_responses, id, 'e', event) end
    end
    c.events = c.events + #ops
    c.head = id .. '-0'
  else
    redis.call('XADD', log, id, 'e', payload)
    if single then redis.call('XADD', singles, 'MAXLEN', '~', max_responses, id, 'e', payload) end
    c.events = c.events + 1
    c.head = id .. '-' .. #ops - 1
  end
  if single then expire(singles, keep_open) end
  c.event_bytes = c.event_bytes + #payload
  local text = first .. ' ' .. before .. ' ' .. kind .. ' '
  if #payload <= max_message then text = text .. payload end -- else: read it from the log
  redis.call(publish, c.base .. ':live', text)
  if aside then redis.call(publish, c.base .. ':control', text) end
  if c.events > max_events or c.event_bytes > max_event_bytes then trim_log(c) end
  return first, c.head
end

-- The place of a cursor in the sorted set of ends.
local function score(cursor)
  local ms, seq = string.match(cursor, '^(%d+)-(%d+)')
  return tonumber(ms) * 1000 + math.min(tonumber(seq), 999)
end

-- The text of a response is kept as a msgpack batch of events without its header, in which deltas
-- that follow one another are one: the last one stays open, and its length is patched when it
-- closes (readers patch it themselves).
local function writer_of(h)
  return {parts = tonumber(h.parts or 0), lengths = {},
          records = tonumber(h.records or 0), size = tonumber(h.size or 0),
          run = tonumber(h.run or -1), run_at = tonumber(h.run_at or 0),
          pieces = {}, state = h.state or 'streaming', results = {}}
end

-- The lengths of the first parts come with the rest; of others they are asked for.
local function length_of(w, h, key, part)
  if w.lengths[part] then return w.lengths[part] end
  if part >= w.parts then return 0 end
  return tonumber(h['p' .. part] or redis.call('HGET', key, 'p' .. part) or 0)
end

local function push(w, piece)
  w.pieces[#w.pieces + 1] = piece
  w.size = w.size + #piece
end

local function close_run(w)
  if w.run < 0 then return end
  local length = struct.pack('>I4', w.size - w.run_at - 4)
  if w.run_piece then
    w.pieces[w.run_piece] = length
  else
    w.patch = {w.run_at, length}
  end
  w.run, w.run_piece = -1, nil
end

local function record(w, piece)
  close_run(w)
  push(w, piece)
  w.records = w.records + 1
end

local function fold_delta(w, op, payload, have)
  local part, offset = op[4], op[5]
  local to = offset + op[6]
  if to <= have and part < w.parts then return end
  local text = string.sub(payload, op[8], op[3])
  if part == w.run and offset == have then
    push(w, text)
  else -- an overlap, too, begins anew: readers pass over what they have
    record(w, string.sub(payload, op[2], op[7]) .. '\219')
    w.run, w.run_at = part, w.size
    push(w, '\0\0\0\0')
    w.run_piece = #w.pieces
    push(w, text)
  end
  w.lengths[part] = to
  w.parts = math.max(w.parts, part + 1)
end

local function fold_snapshot(w, h, key, op, payload)
  local sum, have = 0, 0
  for _, length in ipairs(op[5]) do sum = sum + length end
  for part = 0, w.parts - 1 do have = have + length_of(w, h, key, part) end
  if #op[5] < w.parts or (#op[5] == w.parts and sum < have) then return end
  w.reset, w.patch, w.run, w.run_piece = true, nil, -1, nil
  w.pieces, w.size, w.records = {}, 0, 0
  record(w, string.sub(payload, op[2], op[3]))
  w.parts, w.lengths = #op[5], {}
  for i, length in ipairs(op[5]) do w.lengths[i - 1] = length end
  w.state = op[4]
end

-- Fold the events of an entry into `w`. Returns what is missing, if something is.
local function fold(w, h, key, new, ops, payload)
  for _, op in ipairs(ops) do
    local kind = op[1]
    local part = op[4]
    local have = 0
    if kind == PART or kind == DELTA then
      have = length_of(w, h, key, part)
      if part > w.parts or (kind == DELTA and op[5] > have) then
        return string.format('part %d, offset %d: %d parts, %d code points are there',
          part, kind == DELTA and op[5] or 0, w.parts, have)
      end
    end
    if w.state == 'streaming' then
      if kind == DELTA then
        fold_delta(w, op, payload, have)
      elseif kind == START then
        if new and w.records == 0 then record(w, string.sub(payload, op[2], op[3])) end
      elseif kind == PART then
        if part == w.parts then
          record(w, string.sub(payload, op[2], op[3]))
          w.parts, w.lengths[part] = part + 1, 0
        end
      elseif kind == SNAPSHOT then
        fold_snapshot(w, h, key, op, payload)
      elseif kind == END then
        record(w, string.sub(payload, op[2], op[3]))
        w.state = op[4]
      end
    end
    if kind == RESULT then w.results[#w.results + 1] = {op[4], string.sub(payload, op[2], op[3])} end
  end
end

local function add_result(key, call_id, event)
  local field = 'result:' .. call_id
  if redis.call('HEXISTS', key, field) == 1 then return false end
  local number = redis.call('HINCRBY', key, 'results', 1)
  redis.call('HSET', key, field, struct.pack('>I4', number) .. event)
  return true
end

-- Write the text. False where what was there before is gone (evicted): then all of it goes.
local function write_text(c, id, w, key)
  local text = c.base .. ':t:' .. id
  if w.reset then
    redis.call('SET', text, table.concat(w.pieces))
    return true
  end
  if w.patch then redis.call('SETRANGE', text, w.patch[1], w.patch[2]) end
  if #w.pieces == 0 then return true end
  if redis.call('APPEND', text, table.concat(w.pieces)) == w.size then return true end
  redis.call('UNLINK', text, key)
  redis.call('ZREM', c.base .. ':open', id)
  redis.call('ZREM', c.base .. ':starts', id)
  return false
end

local function ended(c, id, w, key, cursor)
  redis.call('ZREM', c.base .. ':open', id)
  redis.call('ZADD', c.base .. ':ends', score(cursor), id)
  redis.call('HSET', c.base .. ':sizes', id, w.size)
  redis.call('HDEL', key, 'cancel')
  c.bytes = c.bytes + w.size
  local text = c.base .. ':t:' .. id
  redis.call('SET', text, redis.call('GET', text)) -- gives back what APPEND reserved
  expire(text, keep)
  expire(key, keep)
  expire(c.base .. ':ends', keep_open)
  expire(c.base .. ':sizes', keep_open)
  trim_responses(c)
end

-- Write the folded entry: text, log, state, lease.
local function commit(c, id, key, h, w, payload, ops)
  if not write_text(c, id, w, key) then return nil end
  local first, cursor = append(c, payload, ops, false, false)
  for _, result in ipairs(w.results) do add_result(key, result[1], result[2]) end
  local fields = {'seq', h.seq, 'last', cursor, 'size', w.size}
  local function changed(name, value, stored)
    if stored ~= value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  changed('parts', w.parts, tonumber(h.parts))
  changed('records', w.records, tonumber(h.records))
  changed('run', w.run, tonumber(h.run))
  changed('run_at', w.run_at, tonumber(h.run_at))
  changed('state', w.state, h.state)
  for part, length in pairs(w.lengths) do
    fields[#fields + 1] = 'p' .. part
    fields[#fields + 1] = length
    if #fields > 1000 then
      redis.call('HSET', key, unpack(fields))
      fields = {'state', w.state}
    end
  end
  if h.first == nil then
    c.started = c.started + 1
    fields[#fields + 1] = 'fence'
    fields[#fields + 1] = h.fence
    fields[#fields + 1] = 'first'
    fields[#fields + 1] = first
    fields[#fields + 1] = 'number'
    fields[#fields + 1] = c.started
    redis.call('ZADD', c.base .. ':starts', c.started, id)
    expire(c.base .. ':starts', keep_open)
  end
  if w.state == 'streaming' then
    -- The sorted set is written only when it makes a difference: a sixteenth of the lease.
    local lease = now + h.ttl
    if lease - h.lease > h.ttl / 16 then
      redis.call('ZADD', c.base .. ':open', lease, id)
      fields[#fields + 1] = 'lease'
      fields[#fields + 1] = lease
      fields[#fields + 1] = 'ttl'
      fields[#fields + 1] = h.ttl
    end
    if keep > 0 and now - h.kept > age / 16 then
      fields[#fields + 1] = 'kept'
      fields[#fields + 1] = now
    end
  end
  redis.call('HSET', key, unpack(fields))
  if w.state ~= 'streaming' then
    ended(c, id, w, key, cursor)
  elseif keep > 0 and now - h.kept > age / 16 then
    expire(key, keep_open)
    expire(c.base .. ':t:' .. id, keep_open)
    expire(c.base .. ':open', keep_open)
  end
  return cursor
end

local function head_of(key)
  local names = {'fence', 'seq', 'state', 'last', 'cancel', 'parts', 'records', 'size',
                 'run', 'run_at', 'lease', 'ttl', 'kept', 'first', 'p0', 'p1', 'p2'}
  local values = redis.call('HMGET', key, unpack(names))
  local h = {}
  for i, name in ipairs(names) do h[name] = values[i] or nil end
  h.lease, h.kept = tonumber(h.lease or 0), tonumber(h.kept or 0)
  return h
end

local function pending_cancel(c, id)
  for _, part in ipairs({':cancels', ':cancels:old'}) do
    local cancel = redis.call('HGET', c.base .. part, id)
    if cancel then return cancel end
  end
end

local function entry(job)
  local base, payload, id, fence, seq, ttl, ops = job[2], ARGV[job[3]], job[4], job[5], job[6], job[7], job[8]
  local c = channel_of(base)
  local key = base .. ':r:' .. id
  local h = head_of(key)
  local new = h.fence == nil
  if new then
    if ops[1][1] ~= START then return UNKNOWN end
    h.cancel = pending_cancel(c, id)
  elseif h.fence ~= fence then
    return FENCED
  elseif seq <= tonumber(h.seq) then
    return OK, h.last, nil, h.cancel
  elseif h.state ~= 'streaming' then
    return ENDED
  end
  local w = writer_of(h)
  local missing = fold(w, h, key, new, ops, payload)
  if missing then return GAP, nil, nil, nil, missing end
  local stored_ttl = tonumber(h.ttl or ttl)
  h.fence, h.seq, h.ttl = fence, seq, stored_ttl
  local cursor = commit(c, id, key, h, w, payload, ops)
  if not cursor then return UNKNOWN end
  if new and h.cancel then
    if w.state == 'streaming' then redis.call('HSET', key, 'cancel', h.cancel) end
    redis.call('HDEL', base .. ':cancels', id)
    redis.call('HDEL', base .. ':cancels:old', id)
  end
  refresh(c)
  return OK, cursor, nil, h.cancel
end

-- Bounded without a scan: two generations, of which the older one is dropped as a whole.
local function remember(key, field, value)
  if redis.call('HLEN', key) >= max_pending then redis.call('RENAME', key, key .. ':old') end
  redis.call('HSET', key, field, value)
  expire(key, keep_open)
end

local function single(job)
  local base, payload, idem, ops = job[2], ARGV[job[3]], job[4], job[5]
  local c = channel_of(base)
  if idem ~= '' then
    for _, part in ipairs({':keys', ':keys:old'}) do
      local known = redis.call('HGET', base .. part, idem)
      if known then
        local cursor, state = string.match(known, '^(%S+) ?(%S*)$')
        return OK, cursor, state
      end
    end
  end
  local first, cursor = append(c, payload, ops, true, job[6])
  local state = nil
  for _, op in ipairs(ops) do
    local event = string.sub(payload, op[2], op[3])
    if op[1] == CANCEL then
      local key = base .. ':r:' .. op[4]
      state = redis.call('HGET', key, 'state')
      if state == 'streaming' then
        redis.call('HSET', key, 'cancel', event)
      elseif not state then
        remember(base .. ':cancels', op[4], event)
      end
    elseif op[1] == RESULT and op[5] ~= '' then
      local key = base .. ':r:' .. op[5]
      local before = redis.call('HGET', key, 'state')
      if before and add_result(key, op[4], event) then
        redis.call('HSET', key, 'last', first)
        if before ~= 'streaming' then redis.call('ZADD', base .. ':ends', 'XX', score(first), op[5]) end
      end
    end
  end
  if idem ~= '' then
    remember(base .. ':keys', idem, state and cursor .. ' ' .. state or cursor)
  end
  refresh(c)
  return OK, cursor, state or nil
end

local function reap(job)
  local base, id = job[2], job[3]
  local key, open = base .. ':r:' .. id, base .. ':open'
  local lease = redis.call('ZSCORE', open, id)
  if not lease or tonumber(lease) >= now then return ENDED end
  local c = channel_of(base)
  local h = head_of(key)
  if not h.fence or h.state ~= 'streaming' then
    redis.call('ZREM', open, id)
    return ENDED
  end
  local event = cmsgpack.pack({
    type = 'end', response_id = id, state = 'abandoned', ts = now,
    error = string.format('its producer gave no sign of life for %g s', tonumber(h.ttl) / 1000),
  })
  local payload = '\145' .. event
  local ops = {{END, 2, #payload, 'abandoned'}}
  local w = writer_of(h)
  fold(w, h, key, false, ops, payload)
  h.seq, h.ttl = tonumber(h.seq), tonumber(h.ttl)
  local cursor = commit(c, id, key, h, w, payload, ops)
  if not cursor then return UNKNOWN end
  return OK, cursor
end

local function renew(job)
  local base, id, fence, ttl = job[2], job[3], job[4], job[5]
  local key = base .. ':r:' .. id
  local h = redis.call('HMGET', key, 'fence', 'state', 'cancel')
  if h[1] ~= fence or h[2] ~= 'streaming' then return ENDED end
  local lease = now + ttl
  redis.call('HSET', key, 'lease', lease, 'ttl', ttl)
  redis.call('ZADD', base .. ':open', lease, id)
  expire(key, keep_open)
  expire(base .. ':t:' .. id, keep_open)
  expire_channel(base)
  return OK, nil, nil, h[3] or nil
end

local handlers = {[ENTRY] = entry, [SINGLE] = single, [REAP] = reap, [RENEW] = renew}
local lines = {}
for i, job in ipairs(jobs) do
  local fine, code, cursor, state, cancel, message = pcall(handlers[job[1]], job)
  if not fine then
    message = type(code) == 'table' and code.err or tostring(code)
    code, cursor, state, cancel = FAILED, nil, nil, nil
  end
  local place = 0
  if cancel then
    cancels[#cancels + 1] = cancel
    place = #cancels
  end
  message = message and string.gsub(message, '[\r\n]', ' ') or '-'
  lines[i] = table.concat({code, cursor or '-', state or '-', place, message}, ' ')
end
for base, c in pairs(channels) do
  if not c.fresh then
    local fields = {'head', c.head, 'events', c.events, 'event_bytes', c.event_bytes}
    for _, name in ipairs({'started', 'bytes', 'kept'}) do
      if c[name] ~= c.stored[name] then
        fields[#fields + 1] = name
        fields[#fields + 1] = c[name]
      end
    end
    redis.call('HSET', base, unpack(fields))
    if c.born then redis.call('HSET', base, 'born', c.born) end
    if c.born then expire(base, keep_open) end
  end
end
return {table.concat(lines, '\n'), unpack(cancels)}
