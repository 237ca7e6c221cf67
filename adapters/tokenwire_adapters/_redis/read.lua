-- What a reader needs of one channel, at one moment.
--
-- KEYS[1]: the channel. ARGV: mode, three numbers, the response wanted ('' for all),
-- '1' for granularity "token".
-- Modes: "after" ms seq index; "since" ms; "count" n; "all"; "live"; "history" limit before bytes.
-- Returns a first word and what belongs to it:
--   "none"                     there is no such channel
--   "reap" id...               end these first, they are abandoned
--   "ahead"                    the cursor is ahead of the channel
--   "exact" now head log       continue one by one
--   "whole" now head reset from responses singles log one_by_one
--   "page" now next born responses
-- where a response is {id, HGETALL, text} and a log is what XRANGE gives.

local base, mode = KEYS[1], ARGV[1]
local a, b, c = tonumber(ARGV[2] or 0), tonumber(ARGV[3] or 0), tonumber(ARGV[4] or 0)
local wanted, by_token = ARGV[5], ARGV[6] == '1'
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

local ids = {}
if wanted ~= '' then
  ids = {wanted}
else
  ids = redis.call('ZRANGE', base .. ':open', 0, -1)
  local score = whole(from[1] * 1000 + math.min(from[2], 999))
  if mode ~= 'live' and not (mode == 'count' and a <= 0) then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. ':ends', score, '+inf')) do
      ids[#ids + 1] = id
    end
  end
end
local one_by_one = by_token and retained(from)
local responses = {}
for _, id in ipairs(ids) do
  local found = response(id)
  if found then responses[#responses + 1] = found end
end
local singles, tail = {}, {}
if before(from, at_head) then
  -- What is past the largest sequence number is past the millisecond.
  local start = from[2] > 1e15 and whole(from[1] + 1) or whole(from[1]) .. '-' .. whole(from[2])
  if one_by_one then
    tail = redis.call('XRANGE', log, start, '+')
  else
    singles = redis.call('XRANGE', base .. ':singles', start, '+')
  end
end
local shown = whole(from[1]) .. '-' .. whole(from[2]) .. '-' .. whole(from[3])
return {'whole', now, head, reset, shown, responses, singles, tail, one_by_one and 1 or 0}
