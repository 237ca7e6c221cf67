-- The write script, part four: the jobs.

local function pending_cancel(c, id)
  for _, part in ipairs({':cancels', ':cancels:old'}) do
    local cancel = redis.call('HGET', c.base .. part, id)
    if cancel then return cancel end
  end
end

local function entry(job)
  local base, payload, id, fence, seq, ttl, ops = job[2], ARGV[job[3]], job[4], job[5], job[6], job[7], job[8]
  local c = channel_of(base, id)
  local key = base .. ':r:' .. id
  local h = head_of(c, id, key)
  local new = h.fence == nil
  if new then
    if ops[1][1] ~= START then return UNKNOWN end
    h.cancel = pending_cancel(c, id)
  elseif h.fence ~= fence then
    return FENCED
  elseif seq <= h.seq then
    return OK, h.last, nil, cancel_of(h, key)
  elseif h.state ~= 'streaming' then
    return ENDED
  end
  local w = writer_of(h)
  local missing = fold(w, h, key, new, ops, payload)
  if missing then return GAP, nil, nil, nil, missing end
  h.fence, h.seq, h.ttl = fence, seq, h.ttl or ttl
  -- After the batch there may be tool results of a snapshot in it.
  if #payload > job[9] then payload = string.sub(payload, 1, job[9]) end
  h.cancelled = h.cancelled or (new and h.cancel) and true
  local cancel = cancel_of(h, key)
  local cursor = commit(c, id, key, h, w, payload, ops)
  if not cursor then return UNKNOWN end
  if new and cancel then
    if w.state == 'streaming' then redis.call('HSET', key, 'cancel', cancel) end
    redis.call('HDEL', base .. ':cancels', id)
    redis.call('HDEL', base .. ':cancels:old', id)
  end
  refresh(c)
  return OK, cursor, nil, cancel
end

-- The state of a response; nil where there is none, also where its key is of another type.
local function state_of(key)
  local state = redis.pcall('HGET', key, 'state')
  return type(state) == 'string' and state or nil
end

-- Change the hot state of a streaming response, where it has one.
local function change_hot(c, id, name, value)
  local hot = hot_of(c, id)
  if not hot then return end
  hot[name] = value
  store_hot(c, id, hot)
end

-- Bounded without a scan: of two hashes the older one is replaced when the newer one is full.
local function remember(keep, key, field, value)
  if redis.call('HLEN', key) >= max_pending then redis.call('RENAME', key, key .. ':old') end
  redis.call('HSET', key, field, value)
  expire(keep, key, keep.keep_open)
end

local function single(job)
  local base, payload, idem, ops = job[2], ARGV[job[3]], job[4], job[5]
  local c = channel_of(base, '')
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
        change_hot(c, op[4], 'cancelled', true)
      elseif not state then
        remember(c.keep, base .. ':cancels', op[4], event)
      end
    elseif op[1] == RESULT and op[5] ~= '' then
      local key = base .. ':r:' .. op[5]
      local before = state_of(key)
      if before and add_result(key, op[4], event) then
        redis.call('HSET', key, 'last', first)
        change_hot(c, op[5], 'last', first)
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
  if not lease or tonumber(lease) >= clock() then return ENDED end
  local c = channel_of(base, id)
  local h = head_of(c, id, key)
  if not h.fence or h.state ~= 'streaming' then
    redis.call('ZREM', open, id)
    return ENDED
  end
  local event = cmsgpack.pack({
    type = 'end', response_id = id, state = 'abandoned', ts = clock(),
    error = string.format('its producer gave no sign of life for %g s', h.ttl / 1000),
  })
  local payload = '\145' .. event
  local ops = {{END, 2, #payload, 'abandoned'}}
  local w = writer_of(h)
  fold(w, h, key, false, ops, payload)
  local cursor = commit(c, id, key, h, w, payload, ops)
  if not cursor then return UNKNOWN end
  return OK, cursor
end

local function reap(job)
  local fine, code, cursor = pcall(reap_one, job[2], job[3])
  if fine then return code, cursor end
  if not is_damage(message_of(code)) then error(code, 0) end
  redis.call('ZREM', job[2] .. ':open', job[3]) -- it cannot be ended: do not try again
  redis.call('HDEL', job[2], 'open:' .. job[3])
  return ENDED
end

local function renew(job)
  local base, id, fence, ttl = job[2], job[3], job[4], job[5]
  local c, key = channel_of(base, id), base .. ':r:' .. id
  local h = head_of(c, id, key)
  if not h.fence then return UNKNOWN end
  if h.fence ~= fence or h.state ~= 'streaming' then return ENDED end
  local lease, keep = clock() + ttl, c.keep
  if h.hot then
    if not is_stored(key, fence) then
      remove(c, id, key)
      return UNKNOWN
    end
    h.hot.lease, h.hot.ttl = lease, ttl
    store_hot(c, id, h.hot)
  else
    redis.call('HSET', key, 'lease', lease, 'ttl', ttl)
  end
  redis.call('ZADD', base .. ':open', lease, id)
  expire(keep, key, keep.keep_open)
  expire(keep, base .. ':t:' .. id, keep.keep_open)
  expire_channel(keep, base)
  return OK, nil, nil, cancel_of(h, key)
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
for _, c in pairs(channels) do write_channel(c) end
return {table.concat(lines, '\n'), unpack(cancels)}
