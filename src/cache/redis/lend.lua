-- KEYS: the bucket, which holds when it is full again, in microseconds.
-- ARGV: tokens per minute, tokens at once, tokens wanted.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local step = 60000000 / ARGV[1]
local room = step * ARGV[2]
local full = tonumber(redis.call('GET', KEYS[1]) or '') or now
-- What nobody here wrote, and the debt of a higher rate, holds no longer than a burst.
full = math.max(now, math.min(full, now + room))
local granted = math.floor((now + room - full) / step + 0.000001)
granted = math.max(0, math.min(tonumber(ARGV[3]), granted))
full = full + granted * step
if granted > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
end
return {granted, math.ceil(math.max(0, full + step - now - room)), math.ceil(full - now)}
