-- The load of `http-bench wrk`: the requests that go together (`wrk .. -- DEPTH`), and what came of them.
init = function(arguments)
  local depth = tonumber(arguments[1])
  local requests = {}
  for i = 1, depth do
    requests[i] = wrk.format()
  end
  batch = table.concat(requests)
  if depth > 1 then
    request = function()
      return batch
    end
  end
end

done = function(summary)
  local errors = summary.errors
  io.write(string.format(
    "\nresult %d %d %d %d %d %d\n",
    summary.requests, errors.connect, errors.read, errors.write, errors.status, errors.timeout
  ))
end
