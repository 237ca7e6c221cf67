-- The write script, part three: the state of a response.
--
-- Once it has ended, a response is a hash (`:r:ID`) and its text (`:t:ID`). While it is streaming,
-- what changes with every token is a field `open:ID` of the channel's hash, so that a token alone
-- takes one command to read and one to write: the changed fields of `:r:ID`, and the end of the
-- text. They are moved to `:r:ID` and `:t:ID` when that end has MAX_TAIL bytes, and by whatever is
-- more than deltas. Without the field, a hash that is marked (`hot`) is out of date.

local MAX_TAIL = 512 -- bytes; they are written again with every token
local MAX_LENGTHS = 8 -- lengths of parts in a hot state
local HOT = {'fence', 'seq', 'last', 'parts', 'records', 'size', 'run', 'run_at', 'lease', 'ttl', 'kept', 'first'}
local NUMBERS = {seq = true, parts = true, records = true, size = true, run = true, run_at = true,
                 lease = true, ttl = true, kept = true}

-- The hot state of a response: its fields, `lengths` of parts, `tail` (the end of the text) and
-- `cancelled`. Nil where there is none that can be read.
local function hot_of(c, id)
  if c.hot[id] == nil then c.hot[id] = redis.call('HGET', c.base, 'open:' .. id) end
  local fine, values = pcall(cmsgpack.unpack, c.hot[id] or '')
  if not fine or type(values) ~= 'table' or #values ~= #HOT + 3 then return nil end
  local hot = {}
  for i, name in ipairs(HOT) do
    if type(values[i]) ~= (NUMBERS[name] and 'number' or 'string') then return nil end
    hot[name] = values[i]
  end
  hot.lengths, hot.tail, hot.cancelled = {}, values[#HOT + 2], values[#HOT + 3]
  if type(values[#HOT + 1]) ~= 'table' or type(hot.tail) ~= 'string' then return nil end
  for i = 1, #values[#HOT + 1], 2 do hot.lengths[values[#HOT + 1][i]] = values[#HOT + 1][i + 1] end
  return hot
end

local function store_hot(c, id, hot)
  local values, lengths = {}, {}
  for i, name in ipairs(HOT) do values[i] = hot[name] end
  for part, length in pairs(hot.lengths) do
    lengths[#lengths + 1] = part
    lengths[#lengths + 1] = length
  end
  values[#HOT + 1], values[#HOT + 2], values[#HOT + 3] = lengths, hot.tail, hot.cancelled and true or false
  c.hot[id] = cmsgpack.pack(values)
  c.changed['open:' .. id] = c.hot[id]
end

local function remove_hot(c, id)
  if c.hot[id] then redis.call('HDEL', c.base, 'open:' .. id) end
  c.hot[id], c.changed['open:' .. id] = false, nil
end

-- Remove a streaming response of which something was evicted. Its producer publishes it again.
local function remove(c, id, key)
  remove_hot(c, id)
  redis.call('UNLINK', c.base .. ':t:' .. id, key)
  redis.call('ZREM', c.base .. ':open', id)
  redis.call('ZREM', c.base .. ':starts', id)
end

-- Whether the hash of a response is still there, which is not read with every token.
local function is_stored(key, fence) return redis.call('HGET', key, 'fence') == fence end

-- The state of a response; without `fence` where there is none.
local function head_of(c, id, key)
  local hot = hot_of(c, id)
  local h = {hot = hot, tail = '', lease = 0, kept = 0}
  if hot then
    for _, name in ipairs(HOT) do h[name] = hot[name] end
    for part, length in pairs(hot.lengths) do h['p' .. part] = length end
    h.state, h.tail, h.cancelled = 'streaming', hot.tail, hot.cancelled
    return h
  end
  local names = {'fence', 'seq', 'state', 'last', 'cancel', 'parts', 'records', 'size',
                 'run', 'run_at', 'lease', 'ttl', 'kept', 'first', 'p0', 'p1', 'p2', 'hot'}
  local values = redis.call('HMGET', key, unpack(names))
  for i, name in ipairs(names) do
    if values[i] then h[name] = NUMBERS[name] and tonumber(values[i]) or values[i] end
  end
  if h.hot and h.state == 'streaming' then
    remove(c, id, key)
    return {tail = '', lease = 0, kept = 0}
  end
  h.hot = nil
  return h
end

local function cancel_of(h, key)
  if h.cancel == nil and h.cancelled then h.cancel = redis.call('HGET', key, 'cancel') end
  return h.cancel or nil
end

-- Write the text. False where the text before it was evicted.
local function write_text(key, h, w)
  if w.reset then
    redis.call('SET', key, table.concat(w.pieces))
    return true
  end
  local text = h.tail .. table.concat(w.pieces)
  if text ~= '' and redis.call('APPEND', key, text) ~= w.size then return false end
  if w.patch then redis.call('SETRANGE', key, w.patch[1], w.patch[2]) end
  return true
end

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

local function ended(c, id, w, key, cursor)
  local keep, text = c.keep, c.base .. ':t:' .. id
  redis.call('ZREM', c.base .. ':open', id)
  redis.call('ZADD', c.base .. ':ends', score(cursor), id)
  redis.call('HSET', c.base .. ':sizes', id, w.size)
  redis.call('HDEL', key, 'cancel', 'hot')
  remove_hot(c, id)
  c.bytes = c.bytes + w.size
  c.ended = true
  redis.call('SET', text, redis.call('GET', text)) -- gives back what APPEND reserved
  expire(keep, text, keep.keep)
  expire(keep, key, keep.keep)
  expire(keep, c.base .. ':ends', keep.keep_open)
  expire(keep, c.base .. ':sizes', keep.keep_open)
  trim_responses(c)
end

-- Write the hash of a response, with lengths of parts.
local function write_hash(c, id, key, h, w, new)
  local fields = {'hot', 1, 'state', w.state}
  for _, name in ipairs(HOT) do
    fields[#fields + 1] = name
    fields[#fields + 1] = h[name]
  end
  if new then
    c.started = c.started + 1
    fields[#fields + 1] = 'number'
    fields[#fields + 1] = c.started
    redis.call('ZADD', c.base .. ':starts', c.started, id)
    expire(c.keep, c.base .. ':starts', c.keep.keep_open)
  end
  for part, length in pairs(h.lengths) do
    fields[#fields + 1] = 'p' .. part
    fields[#fields + 1] = length
    if #fields > 1000 then
      redis.call('HSET', key, unpack(fields))
      fields = {'state', w.state}
    end
  end
  redis.call('HSET', key, unpack(fields))
end

-- Renew the lease and the TTLs of a streaming response, each only when it changes by more than a
-- sixteenth.
local function keep_alive(c, id, key, h)
  local open, keep = c.base .. ':open', c.keep
  if c.ms + h.ttl - h.lease > h.ttl / 16 then
    local lease = clock() + h.ttl
    if lease - h.lease > h.ttl / 16 then
      h.lease = lease
      redis.call('ZADD', open, lease, id)
    end
  end
  if keep.keep > 0 and c.ms - h.kept > keep.age / 16 and clock() - h.kept > keep.age / 16 then
    h.kept = clock()
    expire(keep, key, keep.keep_open)
    expire(keep, c.base .. ':t:' .. id, keep.keep_open)
    expire_base(keep, c.base)
  end
end

-- Write a folded entry: text, log, state and lease. Nil where what was before it was evicted.
local function commit(c, id, key, h, w, payload, ops)
  local new, count = h.first == nil, 0
  local lengths = h.hot and h.hot.lengths or {}
  for part, length in pairs(w.lengths) do lengths[part] = length end
  for _ in pairs(lengths) do count = count + 1 end
  local tail = h.tail .. table.concat(w.pieces)
  local hot = h.hot and not w.reset and not w.patch and w.state == 'streaming' and #w.results == 0
    and #tail <= MAX_TAIL and count <= MAX_LENGTHS
  if not hot then
    if (h.hot and not is_stored(key, h.fence)) or not write_text(c.base .. ':t:' .. id, h, w) then
      remove(c, id, key)
      return nil
    end
    tail = ''
  end
  local first, cursor = append(c, payload, ops, false, false)
  h.last, h.first = cursor, h.first or first
  for _, name in ipairs({'parts', 'records', 'size', 'run', 'run_at'}) do h[name] = w[name] end
  h.lengths, h.tail = lengths, tail
  if not hot then
    for _, result in ipairs(w.results) do add_result(key, result[1], result[2]) end
    write_hash(c, id, key, h, w, new)
    for part in pairs(lengths) do
      if part < w.parts - 2 then lengths[part] = nil end
    end
  end
  if w.state == 'streaming' then
    keep_alive(c, id, key, h)
    store_hot(c, id, h)
  else
    ended(c, id, w, key, cursor)
  end
  return cursor
end

-- Write what has changed of a channel.
local function write_channel(c)
  if c.fresh then return end
  local fields = {}
  local function put(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  for name, value in pairs(c.changed) do put(name, value) end
  if c.head ~= c.stored.head then
    put('head', c.head)
    put('events', c.events)
    put('event_bytes', c.event_bytes)
    if c.stored.format < FORMAT then put('format', FORMAT) end
  end
  for _, name in ipairs({'started', 'bytes', 'kept', 'born'}) do
    if c[name] ~= c.stored[name] then put(name, c[name]) end
  end
  if #fields > 0 then redis.call('HSET', c.base, unpack(fields)) end
  -- A hash that once had a long field stays large, so it is written anew when nothing is streaming.
  local compact = c.ended and redis.call('ZCARD', c.base .. ':open') == 0
  if compact then
    local stored, kept = redis.call('HGETALL', c.base), {}
    for i = 1, #stored, 2 do
      if string.sub(stored[i], 1, 5) ~= 'open:' then
        kept[#kept + 1] = stored[i]
        kept[#kept + 1] = stored[i + 1]
      end
    end
    redis.call('DEL', c.base)
    redis.call('HSET', c.base, unpack(kept))
  end
  if compact or c.born ~= c.stored.born then expire_base(c.keep, c.base) end
end
