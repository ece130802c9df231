
-- The engine. Wireshark's own dissector of OpenFlow 1.3 stops at the id of an experimenter; this one looks for that
-- id in what it has found, and goes on behind it.

local oko = Proto("oko", "Oko's extension of OpenFlow")
local HEADER = 8
local OXM_EXPERIMENTER = 0xffff

local NUMBERS = { ProtoField.uint8, ProtoField.uint16, nil, ProtoField.uint32, nil, nil, nil, ProtoField.uint64 }

-- A field is called oko. and its name, whatever structure it stands in: oko.program == 1 finds all that is about
-- program 1.
local fields = {
	command = ProtoField.uint32("oko.command", "Command", base.DEC, COMMANDS),
	request = ProtoField.uint32("oko.request", "Request", base.DEC, LIST_REQUESTS),
	reply = ProtoField.uint32("oko.reply", "Reply", base.DEC, LIST_REPLIES),
	error = ProtoField.uint16("oko.error", "Error", base.DEC, ERRORS),
	message = ProtoField.string("oko.error.text", "Text"),
	filter_prog = ProtoField.uint32("oko.filter_prog", "filter_prog"),
	oxm = ProtoField.bytes("oko.oxm", "Match field"),
}
local malformed = ProtoExpert.new("oko.malformed", "It is cut off", expert.group.MALFORMED, expert.severity.ERROR)

local function declare(name, kind, size)
	if STRUCTURES[kind] or fields[name] then
		return
	end
	local abbreviation = "oko." .. name
	if kind == "number" then
		fields[name] = NUMBERS[size](abbreviation, name)
	elseif kind == "text" then
		fields[name] = ProtoField.string(abbreviation, name)
	elseif kind ~= "oxms" then
		fields[name] = ProtoField.bytes(abbreviation, name)
	end
end

for _, structure in pairs(STRUCTURES) do
	for _, field in ipairs(structure) do
		declare(field[1], field[2], field[3])
	end
end
oko.fields = fields
oko.experts = { malformed }

-- Each reader takes the bytes from `offset` up to `stop` and returns the offset behind what it has read, or nil if
-- that is cut off.

local function read_oxms(buffer, offset, stop, tree)
	while offset < stop do
		if offset + 4 > stop then
			return nil
		end
		local class = buffer(offset, 2):uint()
		local number = bit.rshift(buffer(offset + 2, 1):uint(), 1)
		local length = buffer(offset + 3, 1):uint()
		if offset + 4 + length > stop then
			return nil
		end
		if class == OXM_EXPERIMENTER and length == 8 and number == FILTER_PROG
			and buffer(offset + 4, 4):uint() == EXPERIMENTER then
			tree:add(fields.filter_prog, buffer(offset + 8, 4))
		else
			tree:add(fields.oxm, buffer(offset, 4 + length))
		end
		offset = offset + 4 + length
	end
	return offset
end

local read_structure

local function read_field(field, buffer, offset, stop, tree)
	local name, kind, size = field[1], field[2], field[3]
	if STRUCTURES[kind] then
		while offset and offset < stop do
			local branch = tree:add(oko, buffer(offset, stop - offset), kind)
			local begin = offset
			offset = read_structure(kind, buffer, offset, stop, branch)
			if offset then
				branch:set_len(offset - begin)
			end
		end
		return offset
	end
	if offset + size > stop then
		return nil
	end
	if kind == "number" then
		tree:add(fields[name], buffer(offset, size))
		return offset + size
	end
	local begin, length = offset, size
	if kind == "bytes" then
		length = size == 0 and stop - offset or size
	else
		length = buffer(offset, size):uint()
		begin = offset + size
	end
	if begin + length > stop then
		return nil
	end
	if kind == "oxms" then
		return read_oxms(buffer, begin, begin + length, tree)
	end
	if length > 0 then
		tree:add(fields[name], buffer(begin, length))
	else
		tree:add(fields[name], buffer(begin, 0))
	end
	return begin + length
end

function read_structure(name, buffer, offset, stop, tree)
	for _, field in ipairs(STRUCTURES[name]) do
		offset = read_field(field, buffer, offset, stop, tree)
		if not offset then
			return nil
		end
		offset = offset + field[4]
	end
	if offset > stop then
		return nil
	end
	return offset
end

local function read_body(label, family, buffer, header, experimenter, tree, info)
	local stop = header + buffer(header + 2, 2):uint()
	local number = buffer(experimenter + 4, 4)
	local name = family[number:uint()]
	local branch = tree:add(oko, buffer(experimenter, stop - experimenter), "Oko: " .. (name or "unknown"))
	branch:add(fields[label], number)
	if not name then
		return
	end
	info[#info + 1] = name
	if not read_structure(name, buffer, experimenter + 8, stop, branch) then
		branch:add_proto_expert_info(malformed)
	end
end

local function read_error(buffer, header, experimenter, tree, info)
	local stop = header + buffer(header + 2, 2):uint()
	local number = buffer(experimenter - 2, 2)
	local branch = tree:add(oko, buffer(experimenter - 2, stop - experimenter + 2), "Oko: error")
	branch:add(fields.error, number)
	if stop > experimenter + 4 then
		branch:add(fields.message, buffer(experimenter + 4, stop - experimenter - 4))
	end
	info[#info + 1] = ERRORS[number:uint()] or "error"
end

-- Where Wireshark has an experimenter's id: how far behind the header of the message, and what goes on there.
local PLACES = {
	{ Field.new("openflow_v4.experimenter.experimenter"), HEADER, function(...)
		read_body("command", COMMANDS, ...)
	end },
	{ Field.new("openflow_v4.multipart_request.experimenter.experimenter"), HEADER + 8, function(...)
		read_body("request", LIST_REQUESTS, ...)
	end },
	{ Field.new("openflow_v4.multipart_reply.experimenter.experimenter"), HEADER + 8, function(...)
		read_body("reply", LIST_REPLIES, ...)
	end },
	{ Field.new("openflow_v4.error.experimenter"), HEADER + 4, read_error },
}
local MATCHED = Field.new("openflow_v4.oxm_experimenter.experimenter")

function oko.dissector(_, packet, tree)
	local info = {}
	for _, place in ipairs(PLACES) do
		for _, found in ipairs({ place[1]() }) do
			if found.value == EXPERIMENTER then
				place[3](found.source, found.offset - place[2], found.offset, tree, info)
			end
		end
	end
	for _, found in ipairs({ MATCHED() }) do
		if found.value == EXPERIMENTER then
			local begin = found.offset - 4
			local length = 4 + found.source(begin + 3, 1):uint()
			read_oxms(found.source, begin, begin + length, tree:add(oko, found.source(begin, length), "Oko: match field"))
		end
	end
	if #info > 0 then
		packet.cols.protocol:append("/Oko")
		packet.cols.info:append(" [" .. table.concat(info, ", ") .. "]")
	end
end

register_postdissector(oko, true)
