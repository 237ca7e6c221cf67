-- The write script, part three: the jobs.

local function add_result(key, call_id, event)
  local field = 'result:' .. call_id
  if redis.call('HEXISTS', key, field) == 1 then return false end
  local count = redis.pcall('HINCRBY', key, 'results', 1)
  if type(count) == 'table' then -- it is no number
    redis.call('HSET', key, 'results', 1)
    count = 1
  end
  redis.call('HSET', key, field, struct.pack('>I4', count) .. event)
  return true
end

-- Write the text. False where the text before it was evicted: the response is then removed.
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
  local keep = c.keep
  expire(keep, text, keep.keep)
  expire(keep, key, keep.keep)
  expire(keep, c.base .. ':ends', keep.keep_open)
  expire(keep, c.base .. ':sizes', keep.keep_open)
  trim_responses(c)
end

-- Write a folded entry: text, log, state and lease.
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
    expire(c.keep, c.base .. ':starts', c.keep.keep_open)
  end
  local keep = c.keep
  local renew_ttl = keep.keep > 0 and now - h.kept > keep.age / 16
  if w.state == 'streaming' then
    -- The lease is written only when it changes by more than a sixteenth.
    local lease = now + h.ttl
    if lease - h.lease > h.ttl / 16 then
      redis.call('ZADD', c.base .. ':open', lease, id)
      fields[#fields + 1] = 'lease'
      fields[#fields + 1] = lease
      fields[#fields + 1] = 'ttl'
      fields[#fields + 1] = h.ttl
    end
    if renew_ttl then
      fields[#fields + 1] = 'kept'
      fields[#fields + 1] = now
    end
  end
  redis.call('HSET', key, unpack(fields))
  if w.state ~= 'streaming' then
    ended(c, id, w, key, cursor)
  elseif renew_ttl then
    expire(keep, key, keep.keep_open)
    expire(keep, c.base .. ':t:' .. id, keep.keep_open)
    expire(keep, c.base .. ':open', keep.keep_open)
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
  -- After the batch there may be tool results of a snapshot in it.
  if #payload > job[9] then payload = string.sub(payload, 1, job[9]) end
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

-- The state of a response; nil where there is none, also where its key is of another type.
local function state_of(key)
  local state = redis.pcall('HGET', key, 'state')
  return type(state) == 'string' and state or nil
end

-- Bounded without a scan: of two hashes the older one is replaced when the newer one is full.
local function remember(keep, key, field, value)
  if redis.call('HLEN', key) >= max_pending then redis.call('RENAME', key, key .. ':old') end
  redis.call('HSET', key, field, value)
  expire(keep, key, keep.keep_open)
end

local function single(job)
  local base, payload, idem, ops = job[2], ARGV[job[3]], job[4], job[5]
  local c = channel_of(base)
  if idem ~= '' then
    for _, part in ipairs({':keys', ':keys:old'}) do
      local known = redis.call('HGET', base .. part, idem)
      if known then
        local cursor, state = string.match(known, '^(%S+) ?(%S*)$')
        return OK, cursor, state ~= '' and state or nil
      end
    end
  end
  local first, cursor = append(c, payload, ops, true, job[6])
  local state = nil
  for _, op in ipairs(ops) do
    local event = string.sub(payload, op[2], op[3])
    if op[1] == CANCEL then
      local key = base .. ':r:' .. op[4]
      state = state_of(key)
      if state == 'streaming' then
        redis.call('HSET', key, 'cancel', event)
      elseif not state then
        remember(c.keep, base .. ':cancels', op[4], event)
      end
    elseif op[1] == RESULT and op[5] ~= '' then
      local key = base .. ':r:' .. op[5]
      local before = state_of(key)
      if before and add_result(key, op[4], event) then
        redis.call('HSET', key, 'last', first)
        if before ~= 'streaming' then redis.call('ZADD', base .. ':ends', 'XX', score(first), op[5]) end
      end
    end
  end
  if idem ~= '' then
    remember(c.keep, base .. ':keys', idem, state and cursor .. ' ' .. state or cursor)
  end
  refresh(c)
  return OK, cursor, state or nil
end

-- Whether an error is one of Lua, since what is stored is not what we store, rather than of Redis.
local function is_damage(text)
  return string.find(text, 'attempt to ', 1, true) or string.find(text, 'bad argument', 1, true)
    or string.find(text, 'WRONGTYPE', 1, true)
end

local function message_of(err) return type(err) == 'table' and err.err or tostring(err) end

local function reap_one(base, id)
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

local function reap(job)
  local fine, code, cursor = pcall(reap_one, job[2], job[3])
  if fine then return code, cursor end
  if not is_damage(message_of(code)) then error(code, 0) end
  redis.call('ZREM', job[2] .. ':open', job[3]) -- it cannot be ended: do not try again
  return ENDED
end

local function renew(job)
  local base, id, fence, ttl = job[2], job[3], job[4], job[5]
  local key = base .. ':r:' .. id
  local h = redis.call('HMGET', key, 'fence', 'state', 'cancel')
  if not h[1] then return UNKNOWN end
  if h[1] ~= fence or h[2] ~= 'streaming' then return ENDED end
  local lease = now + ttl
  redis.call('HSET', key, 'lease', lease, 'ttl', ttl)
  redis.call('ZADD', base .. ':open', lease, id)
  local keep = limits_of(redis.call('HGET', base, 'retention'))
  expire(keep, key, keep.keep_open)
  expire(keep, base .. ':t:' .. id, keep.keep_open)
  expire_channel(keep, base)
  return OK, nil, nil, h[3] or nil
end

local handlers = {[ENTRY] = entry, [SINGLE] = single, [REAP] = reap, [RENEW] = renew}
local lines = {}
for i, job in ipairs(jobs) do
  local fine, code, cursor, state, cancel, message = pcall(handlers[job[1]], job)
  if not fine then
    message = message_of(code)
    code, cursor, state, cancel = is_damage(message) and DAMAGED or FAILED, nil, nil, nil
  end
  local index = 0
  if cancel then
    cancels[#cancels + 1] = cancel
    index = #cancels
  end
  message = message and string.gsub(message, '[\r\n]', ' ') or '-'
  local c = channels[job[2]]
  if cursor and c and c.born then cursor = cursor .. '-' .. c.born end
  lines[i] = table.concat({code, cursor or '-', state or '-', index, message}, ' ')
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
    if c.born ~= c.stored.born then
      redis.call('HSET', base, 'born', c.born)
      expire_base(c.keep, base)
    end
  end
end
return {table.concat(lines, '\n'), unpack(cancels)}
