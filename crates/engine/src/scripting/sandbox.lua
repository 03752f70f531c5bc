-- Builds the world that scripts see out of Lua's libraries and the host's functions.
-- Called once with `host`, a table of Rust functions; returns the globals' real table, the table of all libraries, and `run`.
local host = ...
local raw_pcall, raw_xpcall, raw_error = pcall, xpcall, error
local type, rawget, tostring = type, rawget, tostring
local killed, where, kill_text = host.killed, host.where, host.kill_text

-- A kill must reach the top, whatever the script catches on the way.
local function rethrow_kill()
  if killed() then raw_error({ err = kill_text }, 0) end
end
local function settle(ok, err, ...)
  if ok then return ok, err, ... end
  rethrow_kill()
  if type(err) == 'table' then
    local text = err.err
    if type(text) == 'string' or type(text) == 'number' then return false, text end
  end
  return false, err
end
local function settle_raw(ok, ...)
  if not ok then rethrow_kill() end
  return ok, ...
end

local function new_cjson()
  local library = host.new_cjson()
  library.new = new_cjson
  return library
end

local function reply_table(field, prefix)
  return function(...)
    local text = ...
    if select('#', ...) ~= 1 or type(text) ~= 'string' then
      return { err = 'ERR wrong number or type of arguments' }
    end
    return { [field] = prefix and prefix(text) or text }
  end
end

-- A leading `-` goes, and a text of one word gets the code ERR.
local function with_code(text)
  text = text:gsub('^%-', '')
  if not text:find(' ', 1, true) then text = 'ERR ' .. text end
  return (text:gsub('[\r\n]+$', ''))
end

local redis = {
  call = host.call,
  pcall = host.pcall,
  acl_check_cmd = host.acl_check_cmd,
  error_reply = reply_table('err', with_code),
  status_reply = reply_table('ok'),
  replicate_commands = function() return true end,
  -- There is no script debugger: as in Redis outside of a debugging session.
  breakpoint = function() return false end,
  debug = function() end,
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  REPL_NONE = 0, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_ALL = 3,
  REDIS_VERSION = host.version, REDIS_VERSION_NUM = host.version_number,
}

for name, value in pairs(host.redis) do redis[name] = value end

local guard = host.guard
local globals = { _VERSION = _VERSION }
for _, name in ipairs {
  'assert', 'collectgarbage', 'error', 'gcinfo', 'ipairs', 'rawequal', 'select', 'tonumber', 'tostring', 'type', 'unpack',
} do
  globals[name] = _G[name]
end
globals.next = guard('read', next)
globals.rawget = guard('read', rawget)
globals.rawset = guard('write', rawset)
globals.setmetatable = guard('write', setmetatable)
globals.getmetatable = guard('metatable', getmetatable)
globals.pairs = guard('pairs', pairs, globals.next)
globals.loadstring = guard('text', loadstring)
globals.pcall = function(...) return settle(raw_pcall(...)) end
globals.xpcall = function(body, handler)
  return settle_raw(raw_xpcall(body, function(err)
    -- The hook does not fire while it raises: a handler must not run then.
    if killed() then return err end
    return handler(err)
  end))
end
-- The pieces are joined first: a reader that yields bytecode in pieces must not get past the check.
globals.load = function(reader, name)
  local pieces = {}
  while true do
    local piece = reader()
    if piece == nil or piece == '' then break end
    if type(piece) ~= 'string' then return nil, 'reader function must return a string' end
    pieces[#pieces + 1] = piece
  end
  return globals.loadstring(table.concat(pieces), name or '=(load)')
end

for _, name in ipairs { 'insert', 'remove', 'sort', 'setn' } do table[name] = guard('write', table[name]) end
for _, name in ipairs { 'concat', 'foreach', 'foreachi', 'getn', 'maxn' } do table[name] = guard('read', table[name]) end
local resume = coroutine.resume
coroutine.resume = function(...) return settle_raw(resume(...)) end
math.random, math.randomseed = host.random.random, host.random.randomseed

local libraries = {
  redis = redis,
  cjson = new_cjson(),
  cmsgpack = host.cmsgpack,
  struct = host.struct,
  bit = host.bit,
  string = string,
  table = table,
  math = math,
  coroutine = coroutine,
  os = { clock = os.clock },
}

-- What a script's error becomes on its way out: a table with the text and the line that raised it.
local function on_error(err)
  if type(err) ~= 'table' then
    err = { err = 'ERR ' .. tostring(err) }
  elseif type(rawget(err, 'err')) ~= 'string' then
    err = { err = 'ERR unknown error' }
  end
  local source, line = where()
  return { err = rawget(err, 'err'), source = source, line = line }
end

return globals, libraries, function(script) return raw_xpcall(script, on_error) end
