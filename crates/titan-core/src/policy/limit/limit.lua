-- One request against every limit of a stage: all admit it, or nothing is taken. The clock is the server's, so that every Titan has the same.
--
-- KEYS: one a limit. ARGV: cost, then for each limit: 'b' (token bucket), microseconds a request, burst; or 'w' (sliding window),
-- microseconds of the window, requests.
-- Returns {0, limit, remaining, reset, retry} of the first limit that refuses, else {1, remaining, reset, …}; times in milliseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost = tonumber(ARGV[1])
local seen, out = {}, {1}

for i = 1, #KEYS do
  local kind, x, y = ARGV[3 * i - 1], tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  if kind == 'b' then
    local used = math.max(0, tonumber(redis.call('GET', KEYS[i]) or 0) - now)
    local after, capacity = used + cost * x, x * y
    if after > capacity + 0.5 then
      local remaining = math.floor((capacity - used + 0.5) / x)
      return {0, i, math.max(0, remaining), math.ceil(used / 1000), math.ceil((after - capacity) / 1000)}
    end
    seen[i] = {after}
    out[2 * i] = math.floor((capacity - after + 0.5) / x)
    out[2 * i + 1] = math.ceil(after / 1000)
  else
    local index = math.floor(now / x)
    local state = redis.call('HMGET', KEYS[i], 'i', 'b', 'c')
    local at, current, before = tonumber(state[1] or index), tonumber(state[2] or 0), tonumber(state[3] or 0)
    if index > at then
      before = index == at + 1 and current or 0
      current = 0
    end
    local left = x - now % x
    local used = before * left / x + current
    if used + cost > y + 0.000001 then
      local retry
      if current + cost <= y and before > 0 then
        retry = math.max(1, left - (y - cost - current) * x / before)
      else
        retry = left + math.max(0, x - (y - cost) * x / math.max(1, current))
      end
      local reset = current > 0 and left + x or left
      return {0, i, math.max(0, math.floor(y - used)), math.ceil(reset / 1000), math.ceil(retry / 1000)}
    end
    seen[i] = {index, current + cost, before}
    out[2 * i] = math.floor(y - used - cost + 0.000001)
    out[2 * i + 1] = math.ceil((left + x) / 1000)
  end
end

for i = 1, #KEYS do
  local x, new = tonumber(ARGV[3 * i]), seen[i]
  if ARGV[3 * i - 1] == 'b' then
    redis.call('SET', KEYS[i], string.format('%.2f', now + new[1]), 'PX', math.ceil(new[1] / 1000) + 1000)
  else
    redis.call('HSET', KEYS[i], 'i', new[1], 'b', new[2], 'c', new[3])
    redis.call('PEXPIRE', KEYS[i], math.ceil(2 * x / 1000) + 1000)
  end
end
return out
