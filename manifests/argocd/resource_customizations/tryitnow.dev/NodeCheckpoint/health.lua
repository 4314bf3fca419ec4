-- One revision on one node, as the resource tree shows it below its Checkpoint. Its generation also changes with
-- each new share of the pool, which the agent need not answer: observedGeneration tells nothing here.
local hs = { status = "Progressing", message = "waiting for the node's agent" }
local status = obj.status
if status == nil or status.conditions == nil then
  return hs
end

local ready
for _, condition in ipairs(status.conditions) do
  if condition.type == "Ready" then
    ready = condition
  end
end
if ready == nil then
  return hs
end
hs.message = ready.message

if ready.status == "True" and status.phase == "Ready" then
  hs.status = "Healthy"
elseif status.phase == "Quarantined" or status.phase == "Failed" then
  hs.status = "Degraded"
elseif ready.reason ~= status.phase then
  hs.status = "Degraded" -- it failed to arrive, and is tried again
end
return hs
