//! The built-in agent's messages to its client in one session: texts, tool calls and a permission
//! request.

use agent_client_protocol::{
    Client, Error as AcpError,
    v1::{
        ConnectionTo,
        schema::{
            ContentBlock, ContentChunk, PermissionOption, PermissionOptionKind, RequestPermissionOutcome,
            RequestPermissionRequest, SessionId, SessionNotification, SessionUpdate, TextContent, ToolCall,
            ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields,
        },
    },
};

/// The reply to one prompt.
pub(super) struct Reply {
    pub(super) cx: ConnectionTo<Client>,
    pub(super) session: SessionId,
}

impl Reply {
    /// Sends more of the answer.
    pub(super) fn send(&self, text: &str) -> Result<(), AcpError> {
        let content = ContentBlock::Text(TextContent::new(text));
        self.update(SessionUpdate::AgentMessageChunk(ContentChunk::new(content)))
    }

    /// Runs `work` as a tool call. The outer error is the connection's.
    pub(super) async fn tool_call<T, E>(
        &self,
        id: &'static str,
        title: String,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, AcpError> {
        self.update(SessionUpdate::ToolCall(ToolCall::new(id, title).status(ToolCallStatus::InProgress)))?;
        let done = work.await;
        let status = if done.is_ok() { ToolCallStatus::Completed } else { ToolCallStatus::Failed };
        let fields = ToolCallUpdateFields::new().status(status);
        self.update(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(id, fields)))?;
        Ok(done)
    }

    /// Asks the owner for permission to look up the account.
    pub(super) async fn ask_permission(&self) -> Result<bool, AcpError> {
        let call = ToolCallUpdate::new(
            "permission",
            ToolCallUpdateFields::new().title("Look up the account of this login".to_owned()),
        );
        let options = vec![
            PermissionOption::new("allow", "Allow", PermissionOptionKind::AllowOnce),
            PermissionOption::new("refuse", "Refuse", PermissionOptionKind::RejectOnce),
        ];
        let request = RequestPermissionRequest::new(self.session.clone(), call, options);
        let answer = self.cx.send_request(request).block_task().await?;
        Ok(
            matches!(answer.outcome, RequestPermissionOutcome::Selected(chosen) if chosen.option_id.to_string() == "allow"),
        )
    }

    fn update(&self, update: SessionUpdate) -> Result<(), AcpError> {
        self.cx.send_notification(SessionNotification::new(self.session.clone(), update))
    }
}
