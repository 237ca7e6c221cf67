-- Reads one channel, for a replay or for a page of history.
--
-- KEYS[1]: the channel. ARGV: mode, three numbers, the id of one response ('' for all),
-- '1' for granularity "token", the most bytes in one page of a replay (0: no limit), the log that the
-- numbers belong to ('' where that is not known), the age in milliseconds after which what has
-- ended is gone (0: never), for a channel without a retention of its own, and whether to look for
-- abandoned responses (1) or not (0).
-- Others may have written to the keys: what cannot be read is passed over.
-- Modes: "after" ms seq index; "since" ms; "count" n; "all"; "live"; "history" limit before bytes;
-- "page" ms seq index, which continues a "whole" that was too long.
-- Returns a kind and its values:
--   "none"                     there is no such channel
--   "reap" id...               end these abandoned responses first
--   "ahead"                    the cursor is ahead of the channel
--   "exact" born head log      the events after the cursor
--   "whole" born oldest head reset from responses singles log one_by_one next
--   "page" oldest next born responses
-- where what has ended before `oldest` is gone, a response is {id, HGETALL, text} and a log is a reply of XRANGE.

local base, mode = KEYS[1], ARGV[1]
local a, b, c = tonumber(ARGV[2] or 0), tonumber(ARGV[3] or 0), tonumber(ARGV[4] or 0)
local response_id, by_token, limit = ARGV[5], ARGV[6] == '1', tonumber(ARGV[7] or 0)
local function whole(number) return string.format('%.0f', number) end

local time = redis.call('TIME')
local now = whole(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local meta = redis.call('HMGET', base, 'head', 'born', 'retention', 'format')
local head, born = meta[1], meta[2] or '0-0'
if (tonumber(meta[4] or 1) or 1) > 1 then return redis.error_reply('NEWERFORMAT ' .. meta[4]) end
local fine, kept = pcall(cmsgpack.unpack, meta[3] or '')
local age = fine and type(kept) == 'table' and tonumber(kept[5]) or tonumber(ARGV[9] or 0)
local oldest = age > 0 and whole(now - age) or '0'
if not head or not string.match(head, '^%d+%-%d+%-%d+$') then return {'none'} end

-- Call a command; nil where the key is of another type.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return nil end
  return redis.call(...)
end
if ARGV[10] == '1' then
  local expired = redis.call('ZRANGEBYSCORE', base .. ':open', '-inf', '(' .. now, 'LIMIT', 0, 64)
  if #expired > 0 then return {'reap', unpack(expired)} end
end

local function response(id)
  local fields = try('HGETALL', base .. ':r:' .. id)
  if not fields or #fields == 0 then return nil end
  return {id, fields, try('GET', base .. ':t:' .. id) or ''}
end

if mode == 'history' then
  local page, size, next, last = {}, 0, '', nil
  local bound, more = b > 0 and '(' .. whole(b) or '+inf', true
  while more and next == '' do
    local batch = redis.call('ZREVRANGEBYSCORE', base .. ':starts', bound, '-inf',
      'WITHSCORES', 'LIMIT', 0, a + 1)
    more = #batch == 2 * (a + 1)
    for i = 1, #batch, 2 do
      local stored = response(batch[i])
      if stored then
        size = size + #stored[3]
        if #page >= a or (#page > 0 and size > c) then
          next = last
          break
        end
        page[#page + 1] = stored
        last = batch[i + 1]
      end
      bound = '(' .. batch[i + 1]
    end
  end
  return {'page', oldest, next, born, page}
end

local function position(cursor)
  local ms, seq, index = string.match(cursor or '', '^(%d+)%-(%d+)%-?(%d*)$')
  if not ms then return nil end
  return {tonumber(ms), tonumber(seq), tonumber(index ~= '' and index or 0)}
end
local function before(x, y)
  if x[1] ~= y[1] then return x[1] < y[1] end
  if x[2] ~= y[2] then return x[2] < y[2] end
  return x[3] < y[3]
end

-- The position of the last event of a response; nil where that cannot be read.
local function last_of(id)
  return position((try('HMGET', base .. ':r:' .. id, 'last') or {})[1])
end

local log = base .. ':log'
local at_head = position(head)
local newest = whole(at_head[1]) .. '-' .. whole(at_head[2]) -- what is after it is not ours
local function entries(key, from, ...) return try('XRANGE', key, from, newest, ...) or {} end
local first = entries(log, '-', 'COUNT', 1)
first = first[1] and first[1][1]

-- Whether everything after a position is still in the log.
local function retained(at)
  if not before(at, at_head) then return true end
  if not first then return false end
  local oldest = position(first)
  if at[1] == 0 then return first == born end
  return not before({at[1], at[2], 0}, oldest)
end

local function log_from(at)
  if not before(at, at_head) then return {} end
  return entries(log, whole(at[1]) .. '-' .. whole(at[2]))
end

local from, reset = at_head, 0
local elsewhere = ARGV[8] ~= '' and ARGV[8] ~= born
if elsewhere and (mode == 'after' or mode == 'page') then
  from, reset = {0, 0, 0}, 1
elseif mode == 'after' then
  from = {a, b, c}
  if before(at_head, from) then return {'ahead'} end
  if retained(from) then return {'exact', born, head, log_from(from)} end
  reset = 1
elseif mode == 'all' then
  from = {0, 0, 0}
elseif mode == 'page' then
  from = {a, b, c}
elseif mode == 'since' then
  from = {math.max(0, a - 1), 9007199254740991, 0}
elseif mode == 'count' and a > 0 and by_token then
  local back = try('XREVRANGE', log, newest, '-', 'COUNT', a + 1) or {}
  from = {0, 0, 0}
  if #back > a then from = position(back[a + 1][1]) end
elseif mode == 'count' and a > 0 then
  local positions = {}
  for _, id in ipairs(redis.call('ZREVRANGE', base .. ':ends', 0, a - 1)) do
    positions[#positions + 1] = last_of(id)
  end
  for _, id in ipairs(redis.call('ZRANGE', base .. ':open', 0, -1)) do
    positions[#positions + 1] = last_of(id)
  end
  for _, entry in ipairs(try('XREVRANGE', base .. ':singles', newest, '-', 'COUNT', a) or {}) do
    positions[#positions + 1] = position(entry[1])
  end
  table.sort(positions, before)
  from = {0, 0, 0}
  if a <= #positions then
    local at = positions[#positions - a + 1]
    from = at[3] > 0 and {at[1], at[2], at[3] - 1} or at[2] > 0 and {at[1], at[2] - 1, 1e6} or
      {at[1] - 1, 9007199254740991, 0}
  end
end

local function format_cursor(at) return whole(at[1]) .. '-' .. whole(at[2]) .. '-' .. whole(at[3]) end
-- A position after the largest sequence number is after the millisecond.
local function entry_id(at)
  return at[2] > 1e15 and whole(at[1] + 1) or whole(at[1]) .. '-' .. whole(at[2])
end
local function score(at) return whole(at[1] * 1000 + math.min(at[2], 999)) end

local one_by_one = by_token and retained(from)
local only_open = mode == 'live' or (mode == 'count' and a <= 0)

-- Everything at once: streaming responses, one response, or tokens, which the log's limits bound.
local function everything()
  local responses, singles, tail = {}, {}, {}
  local ids = {response_id}
  if response_id == '' then
    ids = redis.call('ZRANGE', base .. ':open', 0, -1)
    if not only_open then
      for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':ends', score(from), '+inf')) do
        ids[#ids + 1] = id
      end
    end
  end
  for _, id in ipairs(ids) do responses[#responses + 1] = response(id) end
  if before(from, at_head) then
    if one_by_one then
      tail = entries(log, entry_id(from))
    else
      singles = entries(base .. ':singles', entry_id(from))
    end
  end
  return responses, singles, tail, ''
end

-- One page, in the order of the log. A page has all or nothing of a log entry, so that the next
-- one begins after an entry.
local LAST, OVERHEAD = 999999, 1024 -- after every index in an entry; bytes of an item besides text

-- Add ended responses after `from` until they are more than a page. Returns where it stopped.
local function add_ended(items)
  local size, shown, offset, latest = 0, nil, 0, nil
  while true do
    local batch = redis.call('ZRANGEBYSCORE', base .. ':ends', score(from), '+inf', 'WITHSCORES',
      'LIMIT', offset, 128)
    for i = 1, #batch, 2 do
      if size > limit and batch[i + 1] ~= shown then return latest end
      local h = try('HMGET', base .. ':r:' .. batch[i], 'last', 'size') or {}
      local at = position(h[1])
      if at and before(from, at) then
        shown = batch[i + 1]
        if not latest or before(latest, at) then latest = at end
        items[#items + 1] = {at = at, size = (tonumber(h[2] or 0) or 0) + OVERHEAD, id = batch[i]}
        size = size + items[#items].size
      end
    end
    offset = offset + 128
    if #batch < 256 then return nil end
  end
end

local function add_singles(items)
  local size, start, latest = 0, entry_id(from), nil
  while true do
    local batch = entries(base .. ':singles', start, 'COUNT', 16)
    for _, entry in ipairs(batch) do
      if size > limit then return latest end
      local at = position(entry[1])
      if before(from, {at[1], at[2], LAST}) then
        latest = at
        items[#items + 1] = {at = at, size = #entry[2][2] + OVERHEAD, entry = entry}
        size = size + items[#items].size
      end
      start = whole(at[1]) .. '-' .. whole(at[2] + 1)
    end
    if #batch < 16 then return nil end
  end
end

local function add_open(items)
  for _, id in ipairs(redis.call('ZRANGE', base .. ':open', 0, -1)) do
    local h = try('HMGET', base .. ':r:' .. id, 'last', 'size') or {}
    local at = position(h[1])
    if at and (mode ~= 'page' or before(from, at)) then
      items[#items + 1] = {at = at, size = (tonumber(h[2] or 0) or 0) + OVERHEAD, id = id}
    end
  end
end

local function one_page()
  local items = {}
  local upto, stop = add_ended(items), add_singles(items)
  if stop and (not upto or before(stop, upto)) then upto = stop end
  add_open(items)
  table.sort(items, function(x, y) return before(x.at, y.at) end)
  local responses, singles, size, at, next = {}, {}, 0, nil, ''
  for _, item in ipairs(items) do
    local same = at and at[1] == item.at[1] and at[2] == item.at[2]
    if not same then
      if (upto and before(upto, item.at)) or (at and size + item.size > limit) then
        next = format_cursor({at[1], at[2], LAST})
        break
      end
    end
    at, size = item.at, size + item.size
    if item.entry then
      singles[#singles + 1] = item.entry
    else
      responses[#responses + 1] = response(item.id)
    end
  end
  if next == '' and upto then next = format_cursor({at[1], at[2], LAST}) end
  return responses, singles, {}, next
end

local paged = limit > 0 and response_id == '' and not only_open and not one_by_one
local responses, singles, tail, next = (paged and one_page or everything)()
return {'whole', born, oldest, head, reset, format_cursor(from), responses, singles, tail, one_by_one and 1 or 0, next}
