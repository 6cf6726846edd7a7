-- Wireshark and tshark: takes apart traces of ring3 (ring3 trace convert FILE -w out.pcapng). The record: docs/trace-format.md.
--   tshark -X lua_script:docs/ring3.lua -r out.pcapng
--   tshark -X lua_script:docs/ring3.lua -r out.pcapng -Y 'ring3.register == "CSTS"' -T fields -e ring3.value
-- or copy this file into the personal Lua plugin folder (Help, About, Folders).

local ring3 = Proto("ring3", "ring3 PCI trace")

local types = { [0] = "open", "config", "bar", "rom", "interrupts", "interrupt", "map", "unmap", "memory", "reset", "power",
  "event", "fault", "close" }
local kinds = { [0] = "intx", "msi", "msix" }
local accesses = { [0] = "read", "write" }

local f = ring3.fields
f.version = ProtoField.uint8("ring3.version", "Version")
f.type = ProtoField.uint8("ring3.type", "Event", base.DEC, types)
f.op = ProtoField.uint8("ring3.op", "Access", base.DEC, accesses)
f.bar = ProtoField.uint8("ring3.bar", "BAR")
f.kind = ProtoField.uint8("ring3.kind", "Interrupt", base.DEC, kinds)
f.fn = ProtoField.uint32("ring3.fn", "Function")
f.offset = ProtoField.uint64("ring3.offset", "Offset", base.HEX)
f.vector = ProtoField.uint64("ring3.vector", "Vector")
f.iova = ProtoField.uint64("ring3.iova", "IOVA", base.HEX)
f.width = ProtoField.uint32("ring3.width", "Bytes")
f.count = ProtoField.uint32("ring3.count", "Count")
f.map = ProtoField.uint32("ring3.map", "Mapping")
f.value = ProtoField.uint64("ring3.value", "Value", base.HEX)
f.size = ProtoField.uint64("ring3.size", "Size")
f.took = ProtoField.uint64("ring3.took", "Took (ns)")
f.user = ProtoField.string("ring3.user", "User")
f.register = ProtoField.string("ring3.register", "Register")
f.field = ProtoField.string("ring3.field", "Field")
f.data = ProtoField.bytes("ring3.data", "Data")
f.error = ProtoField.string("ring3.error", "Error")
f.text = ProtoField.string("ring3.text", "Text")

local FIXED = 40
local tags = { [1] = f.user, [2] = f.register, [3] = f.field, [4] = f.data, [5] = f.error, [6] = f.text }

function ring3.dissector(buffer, pinfo, tree)
  if buffer:len() < FIXED then return 0 end
  if buffer(0, 1):uint() ~= 1 then return 0 end
  local kind = types[buffer(1, 1):uint()] or "unknown"
  local item = tree:add(ring3, buffer())
  pinfo.cols.protocol = "ring3"
  item:add(f.version, buffer(0, 1))
  item:add(f.type, buffer(1, 1))
  item:add_le(f.fn, buffer(4, 4))
  if kind == "config" or kind == "bar" or kind == "rom" then
    item:add(f.op, buffer(2, 1))
    if kind == "bar" then item:add(f.bar, buffer(3, 1)) end
    item:add_le(f.offset, buffer(8, 8))
    item:add_le(f.width, buffer(16, 4))
    item:add_le(f.value, buffer(24, 8))
    item:add_le(f.took, buffer(32, 8))
  elseif kind == "interrupt" or kind == "interrupts" then
    item:add(f.kind, buffer(3, 1))
    item:add_le(f.vector, buffer(8, 8))
    item:add_le(f.count, buffer(16, 4))
  elseif kind == "map" or kind == "unmap" then
    item:add_le(f.map, buffer(20, 4))
    item:add_le(f.iova, buffer(8, 8))
    item:add_le(f.size, buffer(24, 8))
  elseif kind == "memory" then
    item:add(f.op, buffer(2, 1)):set_text("By: " .. (buffer(2, 1):uint() == 1 and "driver" or "device"))
    item:add_le(f.map, buffer(20, 4))
    item:add_le(f.offset, buffer(8, 8))
    item:add_le(f.count, buffer(16, 4))
  elseif kind == "reset" or kind == "power" then
    item:add_le(f.took, buffer(32, 8))
  end
  local at = FIXED
  while at + 8 <= buffer:len() do
    local tag = buffer(at, 2):le_uint()
    local length = buffer(at + 4, 4):le_uint()
    at = at + 8
    if length > buffer:len() - at then break end
    if tags[tag] ~= nil and length > 0 then
      item:add(tags[tag], buffer(at, length))
      if tag == 6 then pinfo.cols.info = buffer(at, length):string() end
    end
    at = at + length
  end
  return buffer:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, ring3)
