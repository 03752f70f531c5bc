-- Builds the world that scripts see out of Lua's libraries and the host's functions.
-- Called once with `host`, a table of Rust functions; returns the globals' real table, the table of all libraries, and the
-- functions through which the host enters.
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
  local counted = rawget(err, 'ignore_error_stats_update')
  return { err = rawget(err, 'err'), source = source, line = line, ignore_error_stats_update = counted }
end

-- FUNCTION LOAD: what the library in hand has registered so far; nil at any other time.
local registered

-- The two APIs differ in nothing but the name that their error texts give.
local function new_register_function(api)
  local own_name = api .. '.register_function'
  local function fail(text) raw_error({ err = 'ERR ' .. text }, 0) end
  local function named(arguments)
    local name, callback, description, flags
    for key, value in next, arguments do
      if key == 'function_name' then
        if type(value) ~= 'string' then fail('function_name argument given to ' .. own_name .. ' must be a string') end
        name = value
      elseif key == 'callback' then
        if type(value) ~= 'function' then fail('callback argument given to ' .. own_name .. ' must be a function') end
        callback = value
      elseif key == 'description' then
        if type(value) ~= 'string' then fail('description argument given to ' .. own_name .. ' must be a string') end
        description = value
      elseif key == 'flags' then
        if type(value) ~= 'table' then
          fail('flags argument to ' .. own_name .. ' must be a table representing function flags')
        end
        flags = value
      else
        fail('unknown argument given to ' .. own_name)
      end
    end
    if not name then fail(own_name .. ' must get a function name argument') end
    if not callback then fail(own_name .. ' must get a callback argument') end
    return name, callback, description, flags
  end
  return function(...)
    local count, name, callback = select('#', ...), ...
    local description, flags
    if not registered then fail(own_name .. ' can only be called on FUNCTION LOAD command') end
    if count < 1 or count > 2 then fail('wrong number of arguments to ' .. own_name) end
    if count == 1 then
      if type(name) ~= 'table' then
        fail('calling ' .. own_name .. ' with a single argument is only applicable to Lua table (representing named arguments).')
      end
      name, callback, description, flags = named(name)
    else
      if type(name) == 'number' then name = tostring(name) end
      if type(name) ~= 'string' then fail('first argument to ' .. own_name .. ' must be a string') end
      if type(callback) ~= 'function' then fail('second argument to ' .. own_name .. ' must be a function') end
    end
    if not name:find('^[%w_]+$') then
      fail('Function names can only contain letters, numbers, or underscores(_) and must be at least one character long')
    end
    for _, have in ipairs(registered) do
      if have.name:lower() == name:lower() then fail('Function already exists in the library') end
    end
    for _, flag in ipairs(flags or {}) do
      if type(flag) ~= 'string' or not host.function_flags[flag] then fail('unknown flag given') end
    end
    registered[#registered + 1] = { name = name, callback = callback, description = description, flags = flags or {} }
  end
end

-- All that a library sees of the world while it is loaded.
local function new_load_api(api)
  local table = { register_function = new_register_function(api) }
  for _, name in ipairs {
    'log', 'LOG_DEBUG', 'LOG_VERBOSE', 'LOG_NOTICE', 'LOG_WARNING', 'REDIS_VERSION', 'REDIS_VERSION_NUM',
  } do
    table[name] = redis[name]
  end
  return table
end

local entry = {
  on_error = on_error,
  load = function(library)
    registered = {}
    local ok, err = raw_xpcall(library, on_error)
    local result = registered
    registered = nil
    return ok, ok and result or err
  end,
  load_apis = { redis = new_load_api('redis'), server = new_load_api('server') },
}

return globals, libraries, entry
