-- sysbench: one statement an event, over a connection that is kept or made for each.

sysbench.cmdline.options = {
  statement = {"What each event runs", "SELECT 1"},
  kept = {"Keep the connection (on), or connect for each event (off)", true},
}

function thread_init()
  driver = sysbench.sql.driver()
  if sysbench.opt.kept then
    connection = driver:connect()
  end
end

function event()
  local own = connection or driver:connect()
  own:query(sysbench.opt.statement)
  if not connection then
    own:disconnect()
  end
end

function thread_done()
  if connection then
    connection:disconnect()
  end
end
