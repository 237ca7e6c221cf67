-- The write script, part two: the text of a response.
--
-- The text is a msgpack batch of events without its header, in which consecutive deltas are
-- joined. The length of the last delta is written when another event follows it (readers
-- calculate it).
local function writer_of(h)
  return {parts = tonumber(h.parts or 0), lengths = {},
          records = tonumber(h.records or 0), size = tonumber(h.size or 0),
          run = tonumber(h.run or -1), run_at = tonumber(h.run_at or 0),
          pieces = {}, state = h.state or 'streaming', results = {}}
end

-- The lengths of the first parts were read with the other fields; those of others are read here.
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
  for _, result in ipairs(op[6]) do
    w.results[#w.results + 1] = {result[1], string.sub(payload, result[2], result[3])}
  end
  local ahead = #op[5] > w.parts or (#op[5] == w.parts and sum > have)
  if op[4] == 'streaming' and not ahead then return end
  w.reset, w.patch, w.run, w.run_piece = true, nil, -1, nil
  w.pieces, w.size, w.records = {}, 0, 0
  record(w, string.sub(payload, op[2], op[3]))
  w.parts, w.lengths = #op[5], {}
  for i, length in ipairs(op[5]) do w.lengths[i - 1] = length end
  w.state = op[4]
end

-- Fold the events of an entry into `w`. Returns a message when text is missing before them.
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
