//! The limits of agents. The bot notes the missing ones at its start, because `doctor` runs in another
//! cgroup.

use super::{Finding, Verdict};
use crate::agent::{AgentSettings, missing_limits};

/// Reports the limits of agents, as the bot found them at its last start.
pub(super) fn check(agent: &AgentSettings) -> Finding {
    const NAME: &str = "agent limits";
    match missing_limits(&agent.root).as_deref() {
        None => Finding::new(NAME, Verdict::Ok, "not known before the first start of the bot"),
        Some("") => Finding::new(
            NAME,
            Verdict::Ok,
            "memory, processes, file sizes and descriptors, as of the bot's last start",
        ),
        Some(missing) => Finding::new(
            NAME,
            Verdict::Warn,
            format!(
                "{missing}, as of the bot's last start. deploy/threadkey.service shows how systemd delegates a cgroup"
            ),
        ),
    }
}
