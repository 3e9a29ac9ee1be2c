-- Asks the verifier about a call. Made by `manor-mcp edge haproxy-forward`.
-- HAProxy has no directive for such a sub-request; its Lua has an HTTP client.

local ANSWERED = {
    ["x-mcp-caller"] = "txn.mcp_caller",
    ["x-mcp-scope"] = "txn.mcp_scope",
    ["www-authenticate"] = "txn.mcp_challenge",
}

core.register_action("mcp_auth", {"http-req"}, function(txn, address)
    local asked, answer = pcall(function()
        return core.httpclient():get{
            url = "http://" .. address .. "/",
            headers = {
                ["host"] = {address},
                ["authorization"] = txn.http:req_get_headers()["authorization"] or {},
                ["x-forwarded-for"] = {txn.f:src()},
            },
            timeout = 2000,
        }
    end)
    if not asked or not answer or not answer.headers then
        return
    end
    txn:set_var("txn.mcp_status", answer.status)
    for name, variable in pairs(ANSWERED) do
        local values = answer.headers[name]
        if values and values[0] ~= "" then
            txn:set_var(variable, values[0])
        end
    end
end, 1)
