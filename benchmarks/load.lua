-- What the clients of wrk ask for, and its figures as one line of JSON on standard error.
--
-- Arguments: a letter for each request, over and over (c: the constant view, u: a user who exists, p: the products,
-- o: an order by somebody new); a number that no other run has; how many users exist.

local threads = 0

function setup(thread)
   threads = threads + 1
   thread:set("number", threads)
end

local function get(path)
   return "GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\n\r\n"
end

local constant, products = get("/constant"), get("/api/products")

local function user()
   return get("/api/users/employee-" .. math.random(users))
end

local function order()
   local body = '{"order": {"items": ["product-1"], "user_id": "new-' .. run .. "-" .. number .. "-" .. sent .. '"}}'
   return "POST /api/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
      .. #body .. "\r\n\r\n" .. body
end

local asked = {
   c = function() return constant end,
   p = function() return products end,
   u = user,
   o = order,
}

function init(args)
   mixture, run, users, sent = args[1], args[2], tonumber(args[3]), 0
   math.randomseed(run * 100 + number)
end

function request()
   local place = sent % #mixture + 1
   sent = sent + 1
   return asked[mixture:sub(place, place)]()
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.stderr:write(string.format(
      '{"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "slowest": %.3f,'
         .. ' "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}\n',
      summary.requests, summary.duration / 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
      errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
