-- The status follows kstatus: observedGeneration, Ready, and Stalled once only a change of the spec helps.
local hs = { status = "Progressing", message = "waiting for the controller to look at it" }
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return hs
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions.Ready, conditions.Stalled

if stalled ~= nil and stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = stalled.message
  return hs
end
if ready == nil then
  return hs
end
hs.message = ready.message

-- A node or its CRIU has to come (back): nothing of ours is at work.
local waits = { NoNode = true, NoBuilder = true, CRIUNotAvailable = true, NoNodeCanRestore = true }
if waits[ready.reason] then
  hs.status = "Suspended"
  if ready.status == "False" then
    hs.status = "Degraded" -- it served before
  end
  return hs
end

-- A quota or a policy refuses what the controller orders: somebody has to change it.
local refused = { CannotCreateCheckpointRevision = true, CannotCreateNodeCheckpoint = true }
if refused[ready.reason] then
  hs.status = "Degraded"
  return hs
end

-- Failures that may pass by themselves are tried for ever; all others are given up after three tries.
if (status.buildAttempts or 0) >= 3 then
  hs.status = "Degraded"
  if status.phase ~= "Pending" and status.lastFailure ~= nil then
    hs.message = status.lastFailure.message .. "\nTrying again " .. ready.message
  end
  return hs
end

-- While a new revision is built the old one serves on, and Ready is True: not yet what was asked for.
if ready.status == "True" and status.candidateRevision == nil then
  hs.status = "Healthy"
  if status.warmMessage ~= nil then
    hs.message = hs.message .. "; fewer warm sandboxes wait than are wanted: " .. status.warmMessage
  end
end
return hs
