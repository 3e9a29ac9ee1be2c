-- Asks the verifier about a call. Made by `manor-mcp edge haproxy-forward`.
-- HAProxy has no directive for such a sub-request; its Lua has an HTTP client.

core.register_action("mcp_auth", {"http-req"}, function(txn, address)
    local given = txn.http:req_get_headers()["authorization"]
    local values = {}
    for i = 0, given and #given or -1 do
        values[i + 1] = given[i]
    end
    local asked, answer = pcall(function()
        return core.httpclient():get{
            url = "http://" .. address .. "/",
            headers = {
                ["host"] = {address},
                ["authorization"] = values,
                ["x-forwarded-for"] = {txn.f:src()},
            },
            timeout = 2000,
        }
    end)
    txn:set_var("txn.mcp_status", asked and answer and answer.status or 0)
    if not asked or not answer or not answer.headers then
        return
    end
    local names = {mcp_caller = "x-mcp-caller", mcp_scope = "x-mcp-scope", mcp_challenge = "www-authenticate"}
    for variable, name in pairs(names) do
        local found = answer.headers[name]
        if found and found[0] ~= "" then
            txn:set_var("txn." .. variable, found[0])
        end
    end
end, 1)
