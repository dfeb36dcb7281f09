-- Where the readers of a kept topic are who come, take what is new and go.
--
-- KEYS: the readers, a hash; to collect also the stream and the head of the topic (see
-- publish.lua) and the epoch. All share a slot.
-- ARGV: what to do; the reader; most readers that are remembered, ms for which the topic
-- keeps messages; then those of what is to be done.
--
-- The hash has under 'topic': "watermark epoch since uses". The watermark is the place
-- up to which some reader has come. Epoch is that of the last change, and since the time
-- in ms at which it was seen to differ from the one before, 0 if that was never seen: then
-- Redis may have lost messages, and readers with them. Uses counts.
-- Under 'r:' and its name it has of each reader: "cursor epoch early at used offer call".
-- Cursor is its place; epoch that under which it is whole: whatever was accepted in it
-- after the cursor can still be read or is seen to be missing; '0' when it has to be told
-- that something may be missing. Early is 1 when it was told while some node may still have
-- written to a former master, and 2 or 3 when it is being told, with the cursor as the place from
-- which it is to go on: a reader that comes with that place was told, and with 2, where that is
-- later than the one that it came with, one with a still later place too. At is a time in ms: what came
-- after its place, then or later, leaves a trace for one and a half times as long as messages
-- are kept. Used is the count of its last use. Offer is where an answer ends that is being written,
-- '-' when there is none, and call the call that has collected it.
local call = redis.call
local what, name, most, keep = ARGV[1], 'r:' .. ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local none = '0-0'

-- Numbers of 64 bits are too long for Lua's own. They have no leading zeros.
local function number(a, b)
	if #a ~= #b then
		return #a < #b and -1 or 1
	end
	return a < b and -1 or a == b and 0 or 1
end

local function compare(a, b)
	local millisA, seqA = string.match(a, '^(%d+)-(%d+)$')
	local millisB, seqB = string.match(b, '^(%d+)-(%d+)$')
	local c = number(millisA, millisB)
	return c ~= 0 and c or number(seqA, seqB)
end

-- What stands for a place, nil for anything else.
local function place(s)
	if s == '' then
		return none
	end
	return string.match(s or '', '^%d+%-%d+$')
end

-- The place before an entry's; nil when this version does not know what the entry is.
local function before(entry)
	return entry[2][1] == 'prev' and place(entry[2][2]) or nil
end

local function text(n)
	return string.format('%.0f', n)
end

-- Longer ones are no time.
local function millis(id)
	local digits = string.match(id, '^%d+')
	return #digits > 15 and 1e15 or tonumber(digits)
end

local function now()
	local time = call('TIME')
	return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- What is not as it should be counts as not there.
local stored = call('HMGET', KEYS[1], 'topic', name)
local topic, reader
do
	local watermark, epoch, since, uses = string.match(stored[1] or '', '^(%d+%-%d+) (%d+) (%d+) (%d+)$')
	if watermark then
		topic = {watermark = watermark, epoch = epoch, since = tonumber(since), uses = tonumber(uses)}
	end
	local cursor, told, early, at, used, offer, by = string.match(stored[2] or '',
		'^(%d+%-%d+) (%d+) ([0-3]) (%d+) (%d+) ([%d-]+) ([%w-]+)$')
	if cursor then
		reader = {cursor = cursor, epoch = told, early = early, at = tonumber(at), used = tonumber(used), offer = offer, call = by}
	end
end

-- Writes topic and reader. Of more readers than may be, the one that was used longest ago
-- is forgotten. A quarter more of life is for the calls that change nothing and do not
-- come here: each quarter one does.
local function save()
	topic.uses = topic.uses + 1
	reader.used = topic.uses
	local added = call('HSET', KEYS[1], name, string.format('%s %s %s %s %s %s %s', reader.cursor, reader.epoch, reader.early,
		text(reader.at), text(reader.used), reader.offer, reader.call))
	call('HSET', KEYS[1], 'topic', string.format('%s %s %s %s', topic.watermark, topic.epoch, text(topic.since), text(topic.uses)))
	if added == 1 and call('HLEN', KEYS[1]) > most + 1 then
		local all, oldest, least = call('HGETALL', KEYS[1]), nil, math.huge
		for i = 1, #all, 2 do
			if all[i] ~= 'topic' then
				local used = tonumber(string.match(all[i + 1], '^%S+ %S+ %S+ %S+ (%d+) ') or '0')
				if used < least then
					oldest, least = all[i], used
				end
			end
		end
		call('HDEL', KEYS[1], oldest)
	end
	call('PEXPIRE', KEYS[1], text(keep + math.floor(keep / 4)))
end

-- A reader that is not known is where some reader has come to.
local function introduce(epoch)
	topic = topic or {watermark = none, epoch = epoch, since = 0, uses = 0}
	reader = {cursor = topic.watermark, epoch = epoch, early = '0', at = 0, used = 0, offer = '-', call = '-'}
end

-- Offer. ARGV: the place, and its epoch.
if what == 'offer' then
	local place, epoch = ARGV[5], ARGV[6]
	if not reader or not topic then
		introduce(epoch)
	end
	if compare(reader.cursor, place) >= 0 then
		return 0
	end
	if reader.offer == '-' or compare(reader.offer, place) < 0 then
		reader.offer, reader.call = place, '-'
	end
	save()
	return 1
end

-- Settle. ARGV: the place, and its epoch; 1 if the answer was written; 1 if some node may
-- still write to a former master. The watermark stays: what was given may be asked for
-- by a reader that is not known until this one comes again.
if what == 'settle' then
	local place, epoch, written, early = ARGV[5], ARGV[6], ARGV[7] == '1', ARGV[8]
	if not written then
		if not reader or not topic or reader.offer ~= place then
			return 0
		end
		reader.offer, reader.call = '-', '-'
		save()
		return 1
	end
	if not reader or not topic then
		introduce(epoch)
	end
	if compare(place, reader.cursor) >= 0 then -- else it has come further since, and was told more
		reader.cursor, reader.epoch, reader.early = place, epoch, early
	end
	if reader.offer ~= '-' and compare(reader.offer, place) <= 0 then
		reader.offer, reader.call = '-', '-'
	end
	save()
	return 1
end

-- Collect. ARGV: the reader's place, '' if it leaves that to the inbox; how many messages
-- at most; 1 to insist; the call, by which a repetition of it is known; the epoch that the
-- node knows, '0' for none; 1 if that is not the first one since it started; 1 if another
-- server may be the master later; 1 if some node may still write to a former one.
-- Answers with 1 if an answer is being written, else 0; the epoch, where the messages start
-- and end, 1 if none is missing, and the entries.
local stream, head = KEYS[2], place(call('GET', KEYS[3]) or '') or none
local epoch = string.match(call('GET', KEYS[4]) or '', '^%d+') or '0'
local after, count, insist, id = ARGV[5], ARGV[6], ARGV[7] == '1', ARGV[8]
local nodes, renewed, moves, late = ARGV[9], ARGV[10] == '1', ARGV[11] == '1', ARGV[12] == '1'
local behind = nodes ~= '0' and nodes ~= epoch -- the node does not know yet what happened
late = late or (moves and behind)

if after == '' and topic and reader and reader.offer ~= '-' and not insist and reader.call ~= id then
	return {1}
end

local time, changed = now(), false
if not topic then
	topic, changed = {watermark = none, epoch = epoch, since = (renewed or behind) and time or 0, uses = 0}, true
	reader = nil
elseif topic.epoch ~= epoch then
	topic.epoch, topic.since, changed = epoch, time, true
end

local known = reader ~= nil
if not known then
	introduce(epoch)
	changed = true
end
if reader.offer ~= '-' then -- not taken; of no use to a reader with a place; or this very call's
	reader.offer, reader.call, changed = '-', '-', true
end
if after ~= '' and (((reader.early == '2' or reader.early == '3') and after == reader.cursor) or
	(reader.early == '2' and compare(after, reader.cursor) > 0)) then
	reader.early, changed = late and '1' or '0', true
end
if after ~= '' and after ~= reader.cursor then
	if compare(after, reader.cursor) < 0 then
		reader.at = 0
	end
	reader.cursor, changed = after, true
end

-- The last place is known from the stream, or else from the head, which outlives it.
local start, entries = reader.cursor, {}
local last = call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local kept = last ~= nil
last = kept and last[1] or head
if kept and compare(start, last) < 0 then
	entries = call('XRANGE', stream, '(' .. start, '+', 'COUNT', count)
end

-- Whether there may be no trace of anything before that moment, and nothing is missing all
-- the same. The head is known for twice as long as messages are kept; to count on one and a
-- half times allows for clocks. So the message at the reader's place has had its time; and
-- after it nothing has come, or nothing was promised to the reader.
local function traceless(moment)
	local recently = keep + math.floor(keep / 2)
	if start ~= none and moment - millis(start) < recently then
		return false
	end
	local promised = known or (after ~= '' and after ~= none)
	return not promised or time - reader.at < recently
end

-- Whether the stream, or the head, follows on the reader's place.
local function follows()
	if not kept then
		if head ~= none then
			return head == start -- another one: what came after the place has expired, or the place is of a lost history
		end
		return traceless(time)
	end
	if start == last then
		return true
	end
	local first = entries[1]
	if not first then
		return false -- the place comes after everything: it is of a history that was lost, or made up
	end
	local prev = before(first)
	if start ~= none and (prev == start or #call('XRANGE', stream, start, start) > 0) then
		return true -- in the stream, if perhaps what follows cannot be read
	end
	local oldest = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
	if oldest[1] == first[1] and prev == none then
		return traceless(millis(first[1]))
	end
	return false -- trimmed, or the place is of a lost history
end

local complete = follows() and epoch ~= '0'
if known then
	-- Under another epoch than that under which it was told, something may be lost. So it
	-- may be when it was told too early.
	complete = complete and reader.epoch == epoch and (reader.early == '0' or (reader.early == '1' and late))
else
	-- The reader may be one that Redis has lost, together with messages that are not to be
	-- seen missing; as long as these would not have expired.
	complete = complete and (topic.since == 0 or time - topic.since >= keep)
end
if complete and not known then
	reader.epoch = epoch
elseif not complete and reader.epoch ~= '0' then
	reader.epoch, changed = '0', true
end

-- A place of another history, after everything or between what follows on each other, would
-- never be followed: from now on the reader is at the one that is known before it.
local ends, whole = start, complete
if #entries > 0 then
	ends = entries[#entries][1]
	local prev = before(entries[1])
	if not complete and prev and compare(prev, start) < 0 and #call('XRANGE', stream, start, start) == 0 then
		reader.cursor, changed = prev, true
	end
	whole = complete or prev == reader.cursor
elseif not complete then
	ends = last
	if start ~= last then
		reader.cursor, changed = last, true
	end
end
-- Nothing comes after the place: what comes leaves a trace for twice the time. Or all that
-- does can still be read: it may be nearly too old, but its trace has half its time left.
local at = #entries == 0 and time or whole and time - math.floor(keep * 3 / 4) or 0
if at - reader.at > keep / 4 or (changed and at > reader.at) then
	reader.at, changed = at, true
end
-- Where the reader has come to; a place after everything takes nothing from others.
if (known or after ~= '') and compare(start, topic.watermark) > 0 and compare(start, last) <= 0 then
	topic.watermark, changed = start, true
end
if not complete and #entries == 0 and compare(topic.watermark, last) > 0 then
	topic.watermark, changed = last, true
end
if after == '' and #entries > 0 then
	reader.offer, reader.call, changed = ends, id, true
end
-- Where the reader goes on from is proof that it was told, if it is another place than the
-- one that it came with; else it takes a Settle.
local on = #entries > 0 and before(entries[1]) or last
if not complete and after ~= '' and on and on ~= start then
	reader.early = compare(on, start) > 0 and '2' or '3'
	reader.cursor, reader.epoch, changed = on, epoch, true
end
-- Who comes often is not the one that was used longest ago, though nothing changes.
if changed or topic.uses - reader.used > most / 2 then
	save()
end
return {0, epoch, start, ends, complete and 1 or 0, entries}
