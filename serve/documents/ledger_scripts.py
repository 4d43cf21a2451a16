"""The steps of `serve.documents.ledger`, each of which Redis takes whole (EVAL). Times are Redis's own, in milliseconds: replicas' clocks do not matter.

<prefix>:job:<id>   a hash: what it is, its progress, who translates it (`holder`, until `lease`, as its `epoch`-th)
<prefix>:jobs       the ids, by when they were made
<prefix>:open       those that have not ended, by when another replica may take them: at once, or when the lease is over
<prefix>:links      ids by the SHA-256 of the secrets that open them
<prefix>:gone       ids whose files are to be removed, by when
"""

from __future__ import annotations

_COMMON = """
local P = KEYS[1]
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function key(id) return P .. ':job:' .. id end
local function number(value) return tonumber(value or 0) or 0 end
local function forget(id)
  local link = call('HGET', key(id), 'link')
  if link then call('HDEL', P .. ':links', link) end
  call('DEL', key(id))
  call('ZREM', P .. ':jobs', id)
  call('ZREM', P .. ':open', id)
  -- Later than what still writes them can take.
  call('ZADD', P .. ':gone', now + 60000, id)
end
local function finish(id, state, failure)
  local of = call('HMGET', key(id), 'total', 'done')
  local owed = state == 'failed' and number(of[1]) - number(of[2]) or 0
  call('HSET', key(id), 'state', state, 'failure', failure, 'ended', now, 'owed', owed, 'holder', '', 'lease', 0)
  call('ZREM', P .. ':open', id)
end
"""

# Room for a file of `size` bytes: what was fetched goes first. {0}, or {1 or 2, when the first of the ended jobs ended}: too many of this owner, or of all.
_ROOM = """
local function room(id, owner, size, most, most_of_owner, most_bytes)
  while true do
    local all, own, bytes, first, first_own, old, old_own = 0, 0, 0, 0, 0, nil, nil
    for _, other in ipairs(call('ZRANGE', P .. ':jobs', 0, -1)) do
      local of = call('HMGET', key(other), 'owner', 'bytes', 'fetched', 'ended')
      if not of[1] then
        forget(other)
      elseif other ~= id then
        local ended = number(of[4])
        all, bytes = all + 1, bytes + number(of[2])
        if ended > 0 and (first == 0 or ended < first) then first = ended end
        if of[3] == '1' and not old then old = other end
        if of[1] == owner then
          own = own + 1
          if ended > 0 and (first_own == 0 or ended < first_own) then first_own = ended end
          if of[3] == '1' and not old_own then old_own = other end
        end
      end
    end
    local refused, victim = 0, nil
    if own >= most_of_owner then
      refused, victim, first = 1, old_own, first_own
    elseif all >= most or bytes + size > most_bytes then
      refused, victim = 2, old
    end
    if refused == 0 then return {0, 0, now} end
    if not victim then return {refused, first, now} end
    forget(victim)
  end
end
"""

RESERVE = (
    _COMMON
    + _ROOM
    + """
local id, owner, size = ARGV[1], ARGV[2], ARGV[3]
local answer = room(id, owner, number(size), number(ARGV[4]), number(ARGV[5]), number(ARGV[6]))
if answer[1] == 0 then
  call('HSET', key(id), 'owner', owner, 'bytes', size, 'state', 'reading', 'created', now)
  call('ZADD', P .. ':jobs', now, id)
end
return answer
"""
)

# {0, time}: the job is there; {3}: the room that was reserved is gone.
SUBMIT = (
    _COMMON
    + _ROOM
    + """
local id, owner, size = ARGV[1], ARGV[2], ARGV[3]
local of = call('HMGET', key(id), 'state', 'link')
-- The answer was lost, and the client of Redis says it again.
if of[2] == ARGV[12] then return {0, 0, now} end
if of[1] ~= 'reading' then return {3, 0, now} end
local answer = room(id, owner, number(size), number(ARGV[4]), number(ARGV[5]), number(ARGV[6]))
if answer[1] ~= 0 then return answer end
local holder, lease = ARGV[7], number(ARGV[8])
local held = holder ~= ''
call('HSET', key(id), 'bytes', size, 'created', now, 'opened', now, 'about', ARGV[9], 'progress', ARGV[10], 'total', ARGV[11], 'done', 0, 'link', ARGV[12],
  'state', held and 'translating' or 'queued', 'holder', holder, 'lease', held and now + lease or 0, 'epoch', held and 1 or 0, 'tries', held and 1 or 0,
  'began', held and now or 0)
call('ZADD', P .. ':jobs', now, id)
call('ZADD', P .. ':open', held and now + lease or now, id)
call('HSET', P .. ':links', ARGV[12], id)
return answer
"""
)

# What one replica tells and asks, about once a second: {time, ids that it lost, jobs that it may take, ids of jobs that owe their payer, counts of states}.
TICK = (
    _COMMON
    + """
local holder, lease, asked = ARGV[1], number(ARGV[2]), cjson.decode(ARGV[3])
local lost, taken, owing, states = {}, {}, {}, {}
for _, beat in ipairs(asked.held) do
  local of = call('HMGET', key(beat.id), 'epoch', 'state')
  if of[1] == tostring(beat.epoch) and of[2] == 'translating' then
    call('HSET', key(beat.id), 'holder', holder, 'lease', now + lease, 'done', beat.done, 'bytes', beat.bytes, 'progress', beat.progress)
    call('ZADD', P .. ':open', now + lease, beat.id)
  else
    table.insert(lost, beat.id)
  end
end
for _, id in ipairs(call('ZRANGE', P .. ':jobs', 0, -1)) do
  local of = call('HMGET', key(id), 'state', 'created', 'ended', 'owed')
  local state, created, ended = of[1], number(of[2]), number(of[3])
  if not state or (state == 'reading' and now - created > asked.reading) or (ended > 0 and now - ended > asked.kept) then
    forget(id)
  else
    if state ~= 'reading' and ended == 0 and now - created > asked.longest then
      finish(id, 'failed', asked.late)
      state = 'failed'
    end
    if number(call('HGET', key(id), 'owed')) > 0 then table.insert(owing, id) end
    states[state] = number(states[state]) + 1
  end
end
if asked.take then
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. ':open', '-inf', now, 'LIMIT', 0, 256)) do
    local of = call('HMGET', key(id), 'owner', 'holder', 'tries', 'created', 'opened', 'began', 'total', 'epoch')
    local owner, tries = of[1], number(of[3])
    if not owner then
      call('ZREM', P .. ':open', id)
    elseif of[2] ~= '' and tries >= asked.tries then
      finish(id, 'failed', asked.lost)
    elseif number(asked.busy[owner]) < asked.running then
      local opened = of[2] == '' and number(of[5]) or now
      local began = number(of[6]) > 0 and number(of[6]) or now
      asked.busy[owner] = number(asked.busy[owner]) + 1
      call('HSET', key(id), 'holder', holder, 'lease', now + lease, 'epoch', number(of[8]) + 1, 'tries', tries + 1, 'opened', opened, 'began', began,
        'state', 'translating')
      call('ZADD', P .. ':open', now + lease, id)
      table.insert(taken, id)
      if #taken >= 8 then break end
    end
  end
end
local counts = {}
for state, count in pairs(states) do
  table.insert(counts, state)
  table.insert(counts, count)
end
return {now, lost, taken, owing, counts}
"""
)

# 1 where the job was still this epoch's, also when this is said a second time.
FINISH = (
    _COMMON
    + """
local id = ARGV[1]
local of = call('HMGET', key(id), 'epoch', 'state')
if of[1] ~= ARGV[2] then return 0 end
if of[2] ~= 'translating' then return (of[2] == 'done' or of[2] == 'failed') and 1 or 0 end
call('HSET', key(id), 'bytes', ARGV[5], 'done', ARGV[6], 'progress', ARGV[7])
finish(id, ARGV[3], ARGV[4])
return 1
"""
)

# Back to the others: after some time, and as one that counts among its tries or does not.
RELEASE = (
    _COMMON
    + """
local id = ARGV[1]
local of = call('HMGET', key(id), 'epoch', 'state', 'tries')
if of[1] ~= ARGV[2] or of[2] ~= 'translating' then return 0 end
local counts = ARGV[4] == '1'
call('HSET', key(id), 'done', ARGV[5], 'bytes', ARGV[6], 'progress', ARGV[7])
if counts and number(of[3]) >= number(ARGV[8]) then
  finish(id, 'failed', ARGV[9])
  return 1
end
call('HSET', key(id), 'state', 'queued', 'holder', '', 'lease', 0, 'tries', number(of[3]) - (counts and 0 or 1))
if ARGV[10] == '1' then call('HSET', key(id), 'opened', now) end
call('ZADD', P .. ':open', now + number(ARGV[3]), id)
return 1
"""
)

LOOK = _COMMON + "return {now, call('HGETALL', key(ARGV[1]))}"
LINKED = _COMMON + "return call('HGET', P .. ':links', ARGV[1])"
FETCHED = _COMMON + "if call('EXISTS', key(ARGV[1])) == 1 then call('HSET', key(ARGV[1]), 'fetched', '1') end return 1"

# {whether it was there, the characters that it owes its payer}, to one caller alone.
REMOVE = (
    _COMMON
    + """
local of = call('HMGET', key(ARGV[1]), 'state', 'total', 'done', 'owed')
if not of[1] then return {0, 0} end
local owed = (of[1] == 'queued' or of[1] == 'translating') and number(of[2]) - number(of[3]) or number(of[4])
forget(ARGV[1])
return {1, owed}
"""
)

# The characters that it owes its payer, to one caller alone.
SETTLE = (
    _COMMON
    + """
local of = call('HMGET', key(ARGV[1]), 'owed', 'about')
if not of[2] then return {0, ''} end
call('HSET', key(ARGV[1]), 'owed', 0)
return {number(of[1]), of[2]}
"""
)

# Ids whose files are to be removed now; asked for again in a minute unless they are.
GONE = (
    _COMMON
    + """
local ids = call('ZRANGEBYSCORE', P .. ':gone', '-inf', now, 'LIMIT', 0, 64)
for _, id in ipairs(ids) do call('ZADD', P .. ':gone', now + 60000, id) end
return ids
"""
)
CLEARED = _COMMON + "return call('ZREM', P .. ':gone', unpack(ARGV))"
