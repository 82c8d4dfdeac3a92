//! An ACP agent as a shell script.

/// Returns an ACP agent as a shell script. It runs `on_prompt` at each prompt, which may use `say
/// TEXT`, `note UPDATE` and `reply RESULT`, and may redefine the function `on_cancel`. `$id` is the
/// request's id and `$line` is the line.
pub(crate) fn script(on_prompt: &str) -> String {
    let prelude = r#"
reply() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
note() { printf '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s","update":%s}}\n' "$1"; }
say() { note "{\"sessionUpdate\":\"agent_message_chunk\",\"content\":{\"type\":\"text\",\"text\":\"$1\"}}"; }
done_with() { reply "{\"stopReason\":\"$1\"}"; }
on_cancel() { id=$prompt; done_with cancelled; }
"#;
    let serve = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -E 's/.*"id":("[^"]*"|[0-9]+).*/\1/')
  case "$line" in
    *'"method":"initialize"'*) reply '{"protocolVersion":1,"agentCapabilities":{}}' ;;
    *'"method":"session/new"'*) reply '{"sessionId":"s"}' ;;
    *'"method":"session/cancel"'*) on_cancel ;;
    *'"method":"session/prompt"'*) prompt=$id; on_prompt ;;
  esac
done
"#;
    format!("{prelude}\non_prompt() {{\n{on_prompt}\n}}\n{serve}")
}
