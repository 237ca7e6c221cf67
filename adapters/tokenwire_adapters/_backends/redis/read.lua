-- What a reader needs of one channel, at one moment.
--
-- KEYS[1]: the channel. ARGV: mode, three numbers, the response wanted ('' for all),
-- '1' for granularity "token", the bytes that fit one page of a replay (0: no limit).
-- Modes: "after" ms seq index; "since" ms; "count" n; "all"; "live"; "history" limit before bytes;
-- "page" ms seq index, which goes on with what "whole" left over.
-- Returns a first word and what belongs to it:
--   "none"                     there is no such channel
--   "reap" id...               end these first, they are abandoned
--   "ahead"                    the cursor is ahead of the channel
--   "exact" now head log       continue one by one
--   "whole" now head reset from responses singles log one_by_one next
--   "page" now next born responses
-- where a response is {id, HGETALL, text} and a log is what XRANGE gives.

local base, mode = KEYS[1], ARGV[1]
local a, b, c = tonumber(ARGV[2] or 0), tonumber(ARGV[3] or 0), tonumber(ARGV[4] or 0)
local wanted, by_token, limit = ARGV[5], ARGV[6] == '1', tonumber(ARGV[7] or 0)
local function whole(number) return string.format('%.0f', number) end

local time = redis.call('TIME')
local now = whole(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local meta = redis.call('HMGET', base, 'head', 'born', 'started')
local head = meta[1]
if not head then return {'none'} end
local dead = redis.call('ZRANGEBYSCORE', base .. ':open', '-inf', '(' .. now, 'LIMIT', 0, 64)
if #dead > 0 then return {'reap', unpack(dead)} end

local function response(id)
  local fields = redis.call('HGETALL', base .. ':r:' .. id)
  if #fields == 0 then return nil end
  return {id, fields, redis.call('GET', base .. ':t:' .. id) or ''}
end

if mode == 'history' then
  local page, size, next, last = {}, 0, '', nil
  local bound, more = b > 0 and '(' .. whole(b) or '+inf', true
  while more and next == '' do
    local some = redis.call('ZREVRANGEBYSCORE', base .. ':starts', bound, '-inf',
      'WITHSCORES', 'LIMIT', 0, a + 1)
    more = #some == 2 * (a + 1)
    for i = 1, #some, 2 do
      local found = response(some[i])
      if found then
        size = size + #found[3]
        if #page >= a or (#page > 0 and size > c) then
          next = last
          break
        end
        page[#page + 1] = found
        last = some[i + 1]
      end
      bound = '(' .. some[i + 1]
    end
  end
  return {'page', now, next, meta[2], page}
end

local function place(cursor)
  local ms, seq, index = string.match(cursor, '^(%d+)-(%d+)-?(%d*)$')
  return {tonumber(ms), tonumber(seq), tonumber(index ~= '' and index or 0)}
end
local function before(x, y)
  if x[1] ~= y[1] then return x[1] < y[1] end
  if x[2] ~= y[2] then return x[2] < y[2] end
  return x[3] < y[3]
end

local log = base .. ':log'
local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)
first = first[1] and first[1][1]
local at_head = place(head)

-- Whether everything after a place is still in the log.
local function retained(at)
  if not before(at, at_head) then return true end
  if not first then return false end
  local oldest = place(first)
  if at[1] == 0 then return first == meta[2] end
  return not before({at[1], at[2], 0}, oldest)
end

local function log_from(at)
  if not before(at, at_head) then return {} end
  return redis.call('XRANGE', log, whole(at[1]) .. '-' .. whole(at[2]), '+')
end

local from, reset = at_head, 0
if mode == 'after' then
  from = {a, b, c}
  if before(at_head, from) then return {'ahead'} end
  if retained(from) then return {'exact', now, head, log_from(from)} end
  reset = 1
elseif mode == 'all' then
  from = {0, 0, 0}
elseif mode == 'page' then
  from = {a, b, c}
elseif mode == 'since' then
  from = {math.max(0, a - 1), 9007199254740991, 0}
elseif mode == 'count' and a > 0 and by_token then
  local back = redis.call('XREVRANGE', log, '+', '-', 'COUNT', a + 1)
  from = {0, 0, 0}
  if #back > a then from = place(back[a + 1][1]) end
elseif mode == 'count' and a > 0 then
  local places = {}
  for _, id in ipairs(redis.call('ZREVRANGE', base .. ':ends', 0, a - 1)) do
    local last = redis.call('HGET', base .. ':r:' .. id, 'last')
    if last then places[#places + 1] = place(last) end
  end
  for _, id in ipairs(redis.call('ZRANGE', base .. ':open', 0, -1)) do
    local last = redis.call('HGET', base .. ':r:' .. id, 'last')
    if last then places[#places + 1] = place(last) end
  end
  for _, entry in ipairs(redis.call('XREVRANGE', base .. ':singles', '+', '-', 'COUNT', a)) do
    places[#places + 1] = place(entry[1])
  end
  table.sort(places, before)
  from = {0, 0, 0}
  if a <= #places then
    local at = places[#places - a + 1]
    from = at[3] > 0 and {at[1], at[2], at[3] - 1} or at[2] > 0 and {at[1], at[2] - 1, 1e6} or
      {at[1] - 1, 9007199254740991, 0}
  end
end

local function show(at) return whole(at[1]) .. '-' .. whole(at[2]) .. '-' .. whole(at[3]) end
-- What is past the largest sequence number is past the millisecond.
local function entry_id(at)
  return at[2] > 1e15 and whole(at[1] + 1) or whole(at[1]) .. '-' .. whole(at[2])
end
local function score(at) return whole(at[1] * 1000 + math.min(at[2], 999)) end

local one_by_one = by_token and retained(from)
local only_open = mode == 'live' or (mode == 'count' and a <= 0)

-- Everything at once: what streams, one response, or tokens one by one, which the log bounds.
local function everything()
  local responses, singles, tail = {}, {}, {}
  local ids = {wanted}
  if wanted == '' then
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
      tail = redis.call('XRANGE', log, entry_id(from), '+')
    else
      singles = redis.call('XRANGE', base .. ':singles', entry_id(from), '+')
    end
  end
  return responses, singles, tail, ''
end

-- One page, in the order of the log. A page holds all or nothing of a log entry, so that the next
-- one begins behind an entry.
local LAST, HEAVY = 999999, 1024 -- past every index in an entry; what anything weighs beside text

-- Add what `ends` has after `from` until it is more than a page. Returns where it stopped short.
local function add_ended(things)
  local size, shown, offset, latest = 0, nil, 0, nil
  while true do
    local some = redis.call('ZRANGEBYSCORE', base .. ':ends', score(from), '+inf', 'WITHSCORES',
      'LIMIT', offset, 128)
    for i = 1, #some, 2 do
      if size > limit and some[i + 1] ~= shown then return latest end
      local h = redis.call('HMGET', base .. ':r:' .. some[i], 'last', 'size')
      local at = h[1] and place(h[1])
      if at and before(from, at) then
        shown = some[i + 1]
        if not latest or before(latest, at) then latest = at end
        things[#things + 1] = {at = at, size = tonumber(h[2] or 0) + HEAVY, id = some[i]}
        size = size + things[#things].size
      end
    end
    offset = offset + 128
    if #some < 256 then return nil end
  end
end

local function add_singles(things)
  local size, start, latest = 0, entry_id(from), nil
  while true do
    local some = redis.call('XRANGE', base .. ':singles', start, '+', 'COUNT', 16)
    for _, entry in ipairs(some) do
      if size > limit then return latest end
      local at = place(entry[1])
      if before(from, {at[1], at[2], LAST}) then
        latest = at
        things[#things + 1] = {at = at, size = #entry[2][2] + HEAVY, entry = entry}
        size = size + things[#things].size
      end
      start = whole(at[1]) .. '-' .. whole(at[2] + 1)
    end
    if #some < 16 then return nil end
  end
end

local function add_open(things)
  for _, id in ipairs(redis.call('ZRANGE', base .. ':open', 0, -1)) do
    local h = redis.call('HMGET', base .. ':r:' .. id, 'last', 'size')
    local at = h[1] and place(h[1])
    if at and (mode ~= 'page' or before(from, at)) then
      things[#things + 1] = {at = at, size = tonumber(h[2] or 0) + HEAVY, id = id}
    end
  end
end

local function one_page()
  local things = {}
  local upto, stop = add_ended(things), add_singles(things)
  if stop and (not upto or before(stop, upto)) then upto = stop end
  add_open(things)
  table.sort(things, function(x, y) return before(x.at, y.at) end)
  local responses, singles, size, at, next = {}, {}, 0, nil, ''
  for _, thing in ipairs(things) do
    local same = at and at[1] == thing.at[1] and at[2] == thing.at[2]
    if not same then
      if (upto and before(upto, thing.at)) or (at and size + thing.size > limit) then
        next = show({at[1], at[2], LAST})
        break
      end
    end
    at, size = thing.at, size + thing.size
    if thing.entry then
      singles[#singles + 1] = thing.entry
    else
      responses[#responses + 1] = response(thing.id)
    end
  end
  if next == '' and upto then next = show({at[1], at[2], LAST}) end
  return responses, singles, {}, next
end

local paged = limit > 0 and wanted == '' and not only_open and not one_by_one
local responses, singles, tail, next = (paged and one_page or everything)()
return {'whole', now, head, reset, show(from), responses, singles, tail, one_by_one and 1 or 0, next}
