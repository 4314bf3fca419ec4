-- The status follows kstatus: observedGeneration, Ready, and Stalled once it was given up.
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

if status.phase == "Terminating" then
  return hs
end
if ready.status == "True" then
  hs.status = "Healthy"
  return hs
end

-- It waits for room, a node or a NodeCheckpoint: the operator itself is not at work.
local waits = { NoRoom = true, NoNode = true, NoNodeCheckpoint = true }
if ready.status == "Unknown" and waits[ready.reason] then
  hs.status = "Suspended"
  return hs
end

-- Tried again for ever, or until somebody acts. All other failures end in Stalled after three tries.
local lasts = {
  CannotWriteStatus = true,
  CheckpointNotFound = true,
  CrashLoop = true,
  ImagePullFailed = true,
  NodeLost = true,
  NoPort = true,
  PodmanUnreachable = true,
  RegistryNotAllowed = true,
  RestartFailed = true,
  RevisionChanged = true,
  RevisionUnconfirmed = true,
  RevisionGone = true,
  SourceMissing = true,
  StorageChanged = true,
}
if lasts[ready.reason] or status.phase == "NotAnswering" then
  hs.status = "Degraded"
end
return hs
